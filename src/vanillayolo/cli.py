"""The command line ``vanillayolo COMMAND key=value ...``, in the grammar of ``yolo``: a table of functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from safetensors import SafetensorError

from vanillayolo import commands, words
from vanillayolo.errors import VanillaYOLOError
from vanillayolo.places import advice
from vanillayolo.words import named
from vanillayolo.yolo.keys import VERBS, explained

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": commands.demo,
    "scenes": commands.scenes,
    "pretrain": commands.pretrain,
    "train": commands.train,
    "val": commands.val,
    "predict": commands.predict,
    "track": commands.track,
    "export": commands.export,
    "verify": commands.verify,
    "collapse": commands.collapse,
    "compare": commands.compare,
    "learning-curve": commands.learning_curve,
    "tune": commands.tune,
    "ablate": commands.ablate,
    "benchmark": commands.benchmark,
    "cost": commands.cost,
    "features": commands.features,
    "convert": commands.convert,
    "info": commands.info,
    "yaml": commands.yaml,
    "checks": commands.checks,
    "settings": commands.settings,
    "cfg": commands.cfg,
    "version": commands.version,
}
HELP = {"-h", "-help", "--help"}


def usage() -> str:
    """Return the help text, made from the table."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {(function.__doc__ or '').splitlines()[0]}" for name, function in COMMANDS.items()]
    ends = ["", "vanillayolo COMMAND --help shows a command's keys; docs: README.md and docs/."]
    return "\n".join(["usage: vanillayolo COMMAND key=value ...", "", *rows, *ends])


def usage_of(name: str) -> str:
    """Return the help text of one command: its keys with their defaults."""
    function = COMMANDS[name]
    lines = [f"usage: vanillayolo {name} key=value ...", "", *(function.__doc__ or "").splitlines(), ""]
    parameters = {**named(function), **named(commands.behind(name))}
    for key, parameter in parameters.items():
        lines.append(f"  {key}" + ("=..., needed" if parameter.default is parameter.empty else f"={parameter.default}"))
    if name in VERBS:
        lines += [f"  {line}" for line in explained(name) if line.partition("=")[0] not in parameters]
    return "\n".join(lines)


def parse(arguments: Sequence[str]) -> tuple[Callable[..., None], dict[str, Any]]:
    """Return the command's function and its settings; see :func:`vanillayolo.words.parse`."""
    return words.parse(arguments, COMMANDS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0 on success, 2 on a user's mistake, 1 for a failed proof or a full disk, in one line.

    Args:
        argv: the words after the program's name; the process's own by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] == "help" or HELP & set(arguments):
        about = [word for word in arguments if word in COMMANDS]
        print(usage_of(about[0]) if about else usage())
        return 0
    try:
        function, settings = parse(arguments)
        function(**settings)
        sys.stdout.flush()
    except VanillaYOLOError as error:
        print(f"vanillayolo: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except (OSError, RuntimeError, SafetensorError) as error:
        if (line := advice(error)) is None:
            raise
        print(f"vanillayolo: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print("vanillayolo: stopped" + (f". {stop}" if str(stop) else ""), file=sys.stderr)
        return 130
    return 0
