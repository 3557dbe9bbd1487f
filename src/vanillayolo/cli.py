"""The command line ``vanillayolo COMMAND key=value ...``, in the grammar of ``yolo``: a table of functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from safetensors import SafetensorError

from vanillayolo import commands, study_commands, words
from vanillayolo.completion import completion_script
from vanillayolo.errors import UsageError, VanillaYOLOError
from vanillayolo.launched import check_alone
from vanillayolo.places import advice
from vanillayolo.values import meanings
from vanillayolo.words import is_open_ended, named


def completion(bash: bool = False, zsh: bool = False) -> None:
    """Print a script that completes commands and keys: completion bash, completion zsh."""
    chosen = [shell for shell, wanted in (("bash", bash), ("zsh", zsh)) if wanted]
    if len(chosen) != 1:
        raise UsageError("completion: give one shell, bash or zsh.")
    keys = {name: [line.partition("=")[0] for line in keys_of(name) if line] for name in COMMANDS}
    print(completion_script(chosen[0], keys), end="")


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": study_commands.demo,
    "scenes": study_commands.scenes,
    "pretrain": study_commands.pretrain,
    "train": commands.train,
    "val": commands.val,
    "predict": commands.predict,
    "track": commands.track,
    "export": commands.export,
    "verify": commands.verify,
    "prove": commands.prove,
    "collapse": commands.collapse,
    "compare": study_commands.compare,
    "learning-curve": study_commands.learning_curve,
    "tune": study_commands.tune,
    "ablate": study_commands.ablate,
    "benchmark": study_commands.benchmark,
    "cost": study_commands.cost,
    "features": study_commands.features,
    "convert": commands.convert,
    "info": commands.info,
    "yaml": commands.yaml,
    "checks": commands.checks,
    "settings": commands.settings,
    "cfg": commands.cfg,
    "version": commands.version,
    "completion": completion,
}
#: What keys mean that commands name themselves.
MEANINGS = {
    "model": "a name, a model YAML, a checkpoint or an exported file",
    "models": "several of them, with commas between",
    "task": "detect, classify, segment, pose or obb; the model's own where not given",
    "weights": "official ImageNet weights for a new network: a file or a name",
    "source": "images, a folder, a video or a camera",
    "reference": "the checkpoint that a file was exported from",
    "data": "a data YAML, or a folder of classes",
    "path": "the file to write",
    "output": "a folder for the rows of very many pictures (Parquet, COCO), on a pool of processes",
    "engine": "what runs them: pool, of processes, or ray, on a cluster",
    "folder": "the folder to write to",
    "imgsz": "side of the pictures, pixels",
    "split": "train, val or test",
    "images": "how many pictures are compared",
    "rounds": "how often each network is timed",
    "threads": "how many threads compute; one a core where not given",
    "backends": "what runs the networks, with commas between",
    "layers": "compare every layer too",
    "format": "yolo or coco",
    "workers": "processes that write; all cores where not given",
    "agnostic_nms": "suppress across classes",
    "conf": "lowest score of a detection",
    "iou": "overlap from which suppression takes the lower box away",
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
    return "\n".join(lines + [f"  {line}" for line in keys_of(name)])


def keys_of(name: str) -> list[str]:
    """Return ``key=default  meaning`` of every key of a command."""
    function, behind = COMMANDS[name], commands.behind(name)
    parameters, says = {**named(function), **named(behind)}, {**MEANINGS, **meanings(behind)}
    lines = []
    for key, parameter in parameters.items():
        default = "..., needed" if parameter.default is parameter.empty else parameter.default
        lines.append(f"{key}={default}  {says.get(key, '')}".rstrip())
    if not is_open_ended(function) or name in (*commands.BEHIND, "settings"):
        return lines
    from vanillayolo.yolo.keys import explained

    return lines + [line for line in explained(name) if line.partition("=")[0] not in parameters]


def parse(arguments: Sequence[str]) -> tuple[Callable[..., None], dict[str, Any]]:
    """Return the command's function and its settings; see :func:`vanillayolo.words.parse`."""
    if arguments[:1] == ["prove"]:  # where torch and Ultralytics, whose grammar the others have, may not be installed
        from vanillayolo.prove import file_of

        return commands.prove, {"model": file_of(arguments[1:])}
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
        check_alone(next(name for name, known in COMMANDS.items() if known is function), settings)
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
