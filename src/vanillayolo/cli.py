"""The command line ``vanillayolo MODE key=value ...``, in the grammar of the ``yolo`` command: a table of functions."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

from vanillayolo import commands
from vanillayolo.errors import UsageError, VanillaYOLOError, VerificationError, closest

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": commands.demo,
    "train": commands.train,
    "val": commands.val,
    "predict": commands.predict,
    "track": commands.track,
    "export": commands.export,
    "verify": commands.verify,
    "collapse": commands.collapse,
    "compare": commands.compare,
    "ablate": commands.ablate,
    "benchmark": commands.benchmark,
    "cost": commands.cost,
    "features": commands.features,
    "convert": commands.convert,
    "info": commands.info,
    "yaml": commands.yaml,
    "version": commands.version,
}
#: Keys whose values are text, however they look.
TEXTS = {"model", "models", "reference", "path", "folder", "data", "name", "project", "weights"}
WORDS = {"true": True, "false": False, "none": None, "null": None}


def usage() -> str:
    """Return the help text, made from the table."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {(function.__doc__ or '').splitlines()[0]}" for name, function in COMMANDS.items()]
    return "\n".join(["usage: vanillayolo MODE key=value ...", "", *rows])


def parse_value(text: str) -> Any:
    """Return a value as Python reads it: number, list, true/false/none in any case; anything else is text."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def parse(arguments: Sequence[str]) -> tuple[Callable[..., None], dict[str, Any]]:
    """Return the command's function and its settings.

    Raises:
        UsageError: for an unknown command or key, or an argument that is not key=value.
    """
    mode, *rest = arguments
    if mode not in COMMANDS:
        raise UsageError(f"no command {mode!r}: {closest(mode, COMMANDS)}")
    function = COMMANDS[mode]
    parameters = inspect.signature(function).parameters
    settings: dict[str, Any] = {}
    for argument in rest:
        key, sign, value = argument.partition("=")
        if key == "resume" and not sign:
            value = "true"  # Ultralytics' users write a bare 'resume'
        elif not sign or not key:
            raise UsageError(f"{mode}: {argument!r} is not key=value (write e.g. model=yolo11n-vanillanet).")
        if key in settings:
            raise UsageError(f"{mode}: {key} is given twice.")
        settings[key] = value if key in TEXTS else parse_value(value)
    named = [n for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD]
    open_ended = len(named) < len(parameters)
    for key in settings:
        if key not in named and not open_ended:
            raise UsageError(f"{mode} has no key {key!r}: {closest(key, named)}")
    for name in named:
        if parameters[name].default is inspect.Parameter.empty and name not in settings:
            raise UsageError(f"{mode}: {name}= is missing. {(function.__doc__ or '').splitlines()[0]}")
    return function, settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0 on success, 2 on a user's mistake, 1 for a file that fails its proof, told in one line.

    Args:
        argv: the words after the program's name; the process's own by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"help", "-h", "--help"} or any(a in {"-h", "--help"} for a in arguments):
        print(usage())
        return 0
    try:
        function, settings = parse(["version" if arguments[0] == "--version" else arguments[0], *arguments[1:]])
        function(**settings)
    except VanillaYOLOError as error:
        print(f"vanillayolo: {' '.join(str(error).split())}", file=sys.stderr)
        return 1 if isinstance(error, VerificationError) else 2
    except KeyboardInterrupt:
        print(
            "vanillayolo: stopped; an interrupted training goes on with 'train model=.../last.pt resume'",
            file=sys.stderr,
        )
        return 130
    return 0
