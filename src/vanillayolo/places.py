"""Places to write to: asked before any work, so that no training ends in a folder that nothing can be written to."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path

from .errors import UsageError
from .values import PATH, check_value, shown

#: What an error of the file system that the user can mend asks for. Any other OSError is a defect of ours.
NEXT = {
    errno.ENOSPC: "free some space, or give another place",
    errno.EDQUOT: "free some of your quota, or give another place",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or give another place",
    errno.EROFS: "give a place that can be written",
    errno.EACCES: "give a place that you may read and write",
    errno.EPERM: "give a place that you may read and write",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOTDIR: "give a folder",
    errno.EISDIR: "give a file",
    errno.ELOOP: "give a path without a circle of links",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
#: How libraries say the same where they raise no OSError.
PHRASES = {
    **dict.fromkeys(("No space left on device", "failed writing file", "File too large"), errno.ENOSPC),
    "Read-only file system": errno.EROFS,
    "Symlink loop": errno.ELOOP,  # Path.resolve, until Python 3.13
}


def advice(error: BaseException) -> str | None:
    """Return one line for an error of the file system that the user can mend; None for any other error."""
    if isinstance(error, OSError) and error.errno in NEXT:
        where = error.filename2 or error.filename
        return f"{f'{where}: ' if where else ''}{error.strerror or 'cannot be written'}; {NEXT[error.errno]}."
    text = " ".join(str(error).split())
    number = next((number for phrase, number in PHRASES.items() if phrase in text), None)
    return None if number is None else f"{text[:160]}; {NEXT[number]}."


def missing_folders(folder: Path) -> list[Path]:
    """Return the folders that have to be made for ``folder`` to be there, innermost first."""
    found = []
    for path in (folder, *folder.parents):
        try:
            os.lstat(path)
            break
        except FileNotFoundError:
            found.append(path)
    return found


def check_folder(key: str, folder: str | Path, file: str | Path | None = None) -> Path:
    """Return a folder's real path where files can be written in it, once it is made; nothing is left behind.

    Args:
        key: what to call it: the key that named it.
        folder: the folder.
        file: what shall stand there, named instead of it.

    Raises:
        UsageError: where none can.
    """
    check_value(key, folder, PATH)
    try:
        path = Path(os.path.abspath(folder))
        there = [path, *path.parents][len(missing_folders(path))]
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b" ")
            probe.flush()
        return Path(folder).resolve()
    except (OSError, ValueError) as error:
        number, reason = getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)
        todo = NEXT.get(number or 0, "give a place that can be written")
        raise UsageError(
            f"{key}={shown(str(file or folder))}: nothing can be written there ({reason}); {todo}."
        ) from error


def check_file(key: str, file: str | Path, make: bool = True) -> None:
    """Raise UsageError unless a file can be written; one that is there may be replaced.

    Args:
        key: what to call it: the key that named it.
        file: the file.
        make: whether its folder is made; else it has to be there.
    """
    check_value(key, file, PATH)
    path = Path(file)
    if above := next(filter(os.path.isfile, path.parents), None):
        raise UsageError(f"{key}={shown(str(file))}: {shown(str(above))} is a file; give a path in a folder.")
    if not make and not path.parent.is_dir():
        raise UsageError(f"{key}={shown(str(file))}: the folder {shown(str(path.parent))} does not exist; make it.")
    if path.is_dir():
        raise UsageError(f"{key}={shown(str(file))}: is a folder; give the name of a file.")
    if path.exists() and not path.is_file():  # a device, a pipe: replacing it would take it from everybody
        raise UsageError(f"{key}={shown(str(file))}: is no file that could be replaced; give the name of a file.")
    check_folder(key, path.parent, file)


def remove_empty(folder: Path, made: list[Path]) -> None:
    """Remove a run's folder that holds nothing of value, and the empty folders that were made for it.

    Args:
        folder: the run's; what it may hold without being of value is its settings and empty folders.
        made: folders that were not there before, innermost first.
    """
    if folder not in made or any(p.is_file() and p.name != "args.yaml" for p in folder.rglob("*")):
        return
    shutil.rmtree(folder, ignore_errors=True)
    for path in made:
        with contextlib.suppress(OSError):  # not there, or not empty: somebody else's work
            path.rmdir()
