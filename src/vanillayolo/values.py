"""Which values a key takes: a table of kinds, read before anything is made or opened for writing.

A kind is a test and the words that say what passes it. Keys that a function names are checked by :func:`checked`,
which reads the function's signature: a key of the table has its kind, any other that of its annotation.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import re
import reprlib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .errors import UsageError, closest

F = TypeVar("F", bound=Callable[..., Any])

#: Bytes that file systems allow for a name, and for a path.
LONGEST_NAME, LONGEST_PATH = 255, 4000
#: More of anything that is counted (epochs, images, boxes) is a slip of the keyboard.
MANY = 1_000_000


@dataclass(frozen=True)
class Kind:
    """A kind of value.

    Attributes:
        says: what passes, in words that follow "give".
        fits: whether a value passes.
        words: words among what passes, for hints at a misspelt one.
    """

    says: str
    fits: Callable[[Any], bool]
    words: tuple[str, ...] = ()

    def __or__(self, other: Kind) -> Kind:
        """Return the kind of what either takes."""
        says = self.says if self.says.endswith(other.says) else f"{self.says}, or {other.says}"
        return Kind(says, lambda value: self.fits(value) or other.fits(value), self.words + other.words)

    def hint(self, given: object) -> str:
        """Return what to give instead of a value: the nearest word where it is misspelt."""
        words = self.words if isinstance(given, str) else ()
        return closest(str(given)[:80], words, otherwise=f"give {self.says}.")


def is_number(value: object) -> bool:
    """Return whether a value is a finite number; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)


def whole(low: int, high: int = MANY, of: str = "", exact: bool = False) -> Kind:
    """Return the kind of whole numbers in a range; a float without a fraction (1e2) is one too, unless ``exact``."""
    says = f"a whole number{f' of {of}' if of else ''} from {low} to {high}"
    return Kind(says, lambda v: (type(v) is int if exact else is_number(v) and v == int(v)) and low <= v <= high)


def number(low: float, high: float, above: bool = False) -> Kind:
    """Return the kind of finite numbers in a range; ``above`` leaves its lower end out."""
    says = f"a number {'above' if above else 'from'} {low:g} {'up ' if above else ''}to {high:g}"
    return Kind(says, lambda v: is_number(v) and (low < v if above else low <= v) and v <= high)


def one_of(*words: str) -> Kind:
    """Return the kind of these words."""
    return Kind(f"one of {', '.join(words)}", lambda v: isinstance(v, str) and v in words, words)


def several(kind: Kind, least: int = 1, most: int = MANY) -> Kind:
    """Return the kind of lists of a kind."""
    return Kind(
        f"a list of them ({least} to {most})" if least > 1 else "a list of them",
        lambda v: isinstance(v, (list, tuple)) and least <= len(v) <= most and all(map(kind.fits, v)),
    )


def is_text(value: object) -> bool:
    """Return whether a value is text, not empty, that can stand in a path."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return False
    return value.encode(errors="ignore").decode() == value  # OpenCV ends the process at bytes that are not UTF-8


def is_path(value: object) -> bool:
    """Return whether a value is a path, in UTF-8, of a length that file systems allow."""
    name = str(value) if isinstance(value, (str, Path)) else ""
    if not is_text(name):
        return False
    return all(len(part.encode()) <= LONGEST_NAME for part in Path(name).parts) and len(name.encode()) <= LONGEST_PATH


FLAG = Kind("true or false", lambda v: isinstance(v, bool))
NONE = Kind("none", lambda v: v is None)
TEXT = Kind("text that is not empty", is_text)
PATH = Kind(f"a path (in UTF-8, not empty, no name in it longer than {LONGEST_NAME} bytes)", is_path)
#: A model, a picture, a teacher may be an object in Python; text that names none is refused where it is opened.
THING = Kind(PATH.says, lambda v: is_path(v) or not isinstance(v, (str, int, float, list, tuple, dict, type(None))))
SIDE = whole(32, 16384, of="pixels")  # 32: the coarsest map has that stride
SIZE = SIDE | Kind("[height, width]", several(SIDE, 1, 2).fits)
SEED = whole(0, 2**32 - 3)  # numpy's limit; Ultralytics adds to it
_WHOLE = whole(0, 2**32 - 3, exact=True)
SHARE = number(0, 1)
MILLISECONDS = Kind(
    "milliseconds above 0, like 12ms",
    lambda v: not isinstance(v, bool) and 0 < float(re.sub(r" ?ms$", "", str(v), flags=re.I)) < MANY,
)
COUNT = whole(1, exact=True)
NAMES = Kind(
    "one name or several, separated by commas",
    lambda v: is_path(v) or (isinstance(v, (list, tuple)) and bool(v) and all(map(is_path, v))),
)
SEEDS = Kind(
    f"whole numbers from 0 to {2**32 - 3}, separated by commas",
    lambda v: _WHOLE.fits(v) or (isinstance(v, (list, tuple, range)) and bool(v) and all(map(_WHOLE.fits, v))),
)

#: Processes or threads, at most: 1,000 threads on two cores are a machine that does not answer.
_BUSY = max(64, 4 * (os.cpu_count() or 1))
#: By key, whatever the command.
KINDS: dict[str, Kind] = {
    "model": THING,
    "reference": THING,
    "checkpoint": THING,
    "models": NAMES,
    "data": PATH,
    "source": PATH,
    "path": PATH,
    "folder": PATH,
    "split": one_of("train", "val", "test"),
    "imgsz": SIZE,
    "epochs": whole(1),
    "batch": whole(1, 65536),
    "rounds": whole(1, 100_000),
    "threads": whole(0, _BUSY, of="threads"),
    "images": whole(1, 100_000),
    "most": whole(1, 100_000),
    "seeds": SEEDS,
    "conf": SHARE,
    "iou": SHARE,
    "sizes": Kind("whole numbers from 1 up, separated by commas", lambda v: COUNT.fits(v) or several(COUNT).fits(v)),
    "workers": whole(1, _BUSY, of="processes", exact=True),
    "backends": NAMES | NONE,
    "configs": NAMES,
    "width": number(0, 1, above=True),
    "lr": number(0, 10, above=True),
    "weight_decay": number(0, 10),
    "decay": SHARE,
    "wanted": Kind("the name or number of a class", lambda v: is_text(v) or whole(0).fits(v)),
}
#: By command (the function's name) where a key means something else.
OWN: dict[str, dict[str, Kind]] = {
    **{
        name: {"imgsz": SIDE}
        for name in ("collapse", "info", "compare", "learning_curve", "pretrain", "benchmark", "cost")
    },
    "features": {"imgsz": SIDE, "model": NAMES},
    "tune": {
        "imgsz": SIDE,
        "seed": SEED,
        "trials": whole(1, 100_000, exact=True),
        "space": PATH | NONE,
        "latency": MILLISECONDS | NONE,
        "backend": one_of("onnx", "openvino"),
        "engine": one_of("local", "ray"),
    },
}
#: By annotation, for keys that no table has.
ANNOTATED: dict[Any, Kind] = {bool: FLAG, int: whole(0), float: number(-MANY, MANY), str: TEXT, Path: PATH}


def shown(value: object, most: int = 80) -> str:
    """Return a value as a message shows it: in one line, short however long or nested it is."""
    brief = reprlib.Repr()
    brief.maxlevel, brief.maxstring, brief.maxother = 2, most, most
    text = brief.repr(str(value) if isinstance(value, Path) else value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def check_value(key: str, value: object, kind: Kind) -> None:
    """Raise UsageError, saying what is allowed, for a value that is not of its kind."""
    try:
        fits = kind.fits(value)
    except (OverflowError, ValueError, TypeError):  # a number too large for a float, text that no path can hold
        fits = False
    if not fits:
        raise UsageError(f"{key}={shown(value)}: {kind.hint(value)}")


def check_values(settings: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """Raise UsageError for the first setting that is not of the kind its key has; keys without a kind pass."""
    for key, value in settings.items():
        if key in kinds:
            check_value(key, value, kinds[key])


def kind_of(annotation: Any) -> Kind | None:
    """Return the kind of an annotation; None for one that takes anything."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    for member in typing.get_args(annotation) if union else (annotation,):
        if member in ANNOTATED:
            return ANNOTATED[member]
    return None


def checked(function: F) -> F:
    """Let a function refuse, before it begins, arguments that are not of the kind their key has.

    Raises:
        UsageError: for the first of them. A parameter's own default always passes, and so does None where the
            annotation has it.
    """
    signature = inspect.signature(function)

    @functools.cache
    def kinds() -> dict[str, Kind]:
        hints = typing.get_type_hints(function)
        own = {**KINDS, **OWN.get(function.__name__, {})}
        found = {}
        for name, parameter in signature.parameters.items():
            kind = own.get(name) or kind_of(hints.get(name))
            if kind is not None and parameter.kind is not parameter.VAR_KEYWORD:
                found[name] = kind | NONE if type(None) in typing.get_args(hints.get(name)) else kind
        return found

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind_partial(*args, **kwargs).arguments
        for name, kind in kinds().items():
            if name in given and given[name] is not signature.parameters[name].default:
                check_value(name, given[name], kind)
        return function(*args, **kwargs)

    return typing.cast("F", call)


def meanings(described: object) -> dict[str, str]:
    """Return what a function's docstring says of its arguments, or a class's of its attributes, by name."""
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", inspect.getdoc(described) or "", re.M)
    return {name: re.sub(r"; see :.*|`|\.$", "", " ".join(text.split())) for name, text in found}
