"""The named errors of the package: each is a user's mistake, and its message is one line.

A message says what was given, what is allowed and what to do next. The command line prints it and ends with the
error's exit code; anything else that is raised is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VanillaYOLOError(ValueError):
    """Base of all errors that a user can mend.

    Attributes:
        exit_code: of the command line: 2 for what was asked, 1 for what work came to.
    """

    exit_code = 2


class UsageError(VanillaYOLOError):
    """A command, key or value that does not exist or does not fit."""


class ModelNameError(VanillaYOLOError):
    """A model name or model YAML that describes no network."""


class DataError(VanillaYOLOError):
    """A dataset that is missing, malformed or labelled out of range."""


class CheckpointError(VanillaYOLOError):
    """A weights file that is missing, damaged or of another network."""


class MergeError(VanillaYOLOError):
    """A merge that would change the function of the network."""


class VerificationError(VanillaYOLOError):
    """A file that does not compute what its checkpoint computes."""

    exit_code = 1


class WriteError(VanillaYOLOError):
    """A place that is full or cannot be written; what stood there still does."""

    exit_code = 1


class LostProcessError(VanillaYOLOError):
    """A training of several processes, one of which is gone."""

    exit_code = 1


#: How many names a message lists.
LISTED = 40


def one_line(error: BaseException, most: int = 160) -> str:
    """Return what another library's error says, in one line of so many characters; its class where it says nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def closest(given: object, allowed: Iterable[str], most: int = 3, otherwise: str | None = None) -> str:
    """Return ``did you mean a, b?`` for the nearest of ``allowed``; ``otherwise``, or a list of them, if none is near.

    Args:
        given: what was given.
        allowed: the names that there are.
        most: how many names are near, at most.
        otherwise: the hint where none is.
    """
    names = list(allowed)
    near = difflib.get_close_matches(str(given), names, n=most, cutoff=0.6)
    if near:
        return f"did you mean {', '.join(near)}?"
    if otherwise is not None:
        return otherwise
    if not names:
        return "it takes none"
    more = f", ... ({len(names)} in all)" if len(names) > LISTED else ""
    return f"allowed: {', '.join(names[:LISTED])}{more}"
