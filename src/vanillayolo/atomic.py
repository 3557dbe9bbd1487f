"""The one writer of whole files: a name stands for the content before or the content after, never for half of one.

What is written goes into a temporary sibling, is flushed to the disk, and takes its name by a rename. The temporaries
of a process that was killed are removed by the next one that writes in the same folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

from .errors import WriteError
from .places import NEXT, PHRASES

#: What to do about it, in the message of :class:`WriteError`.
HINT = "make room there, or choose another folder"

#: ``.NAME.vanillayolo-MACHINE-PROCESS-RANDOM.part`` is being written, ``.ready`` is whole and being put in place.
_MARK = re.compile(r"\..*\.vanillayolo-(?P<machine>\w+)-(?P<process>\d+)-\w+\.(?P<state>part|ready)")
_MACHINE = re.sub(r"\W", "_", platform.node())[:40] or "machine"
#: Age, in seconds, from which a temporary of another machine counts as abandoned.
_ABANDONED = 24 * 3600
_swept: set[tuple[int, str]] = set()


@contextlib.contextmanager
def refused(path: Path, hint: str = HINT) -> Iterator[None]:
    """Turn what a full or read-only place answers into a WriteError that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno not in {*NEXT, errno.EEXIST}:
            raise
        raise WriteError(f"cannot write {path} ({error.strerror}); {hint}.") from error
    except RuntimeError as error:
        if not any(phrase in str(error) for phrase in PHRASES):  # torch.save's only word for a full disk
            raise
        raise WriteError(f"cannot write {path} (torch could not write all of it); {hint}.") from error


@contextlib.contextmanager
def whole_file(path: str | Path, hint: str = HINT) -> Iterator[Path]:
    """Give a temporary file beside ``path`` that takes its name when the block succeeds, and is removed otherwise.

    Args:
        path: the file; where it is a link, the file that it leads to. Missing folders are made.
        hint: what to do where it cannot be written.

    Raises:
        WriteError: when the place is full or cannot be written. What stood there still does.
    """
    path = Path(os.path.realpath(path))
    temporary = _temporary(path)
    with refused(path, hint):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        try:
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_whole(path: str | Path, content: str | bytes, hint: str = HINT) -> Path:
    """Write bytes, or text as UTF-8, and return the path.

    Raises:
        WriteError: when the place is full or cannot be written. What stood there still does.
    """
    with whole_file(path, hint) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return Path(path)


@contextlib.contextmanager
def whole_set(target: str | Path, together: bool = True, durable: bool = True, hint: str = HINT) -> Iterator[Path]:
    """Give an empty folder beside ``target``; its entries take their names beside ``target`` when the block succeeds.

    They replace those of the same names, files and folders alike. After a kill the names stand for entries of one make:
    the old ones, the new ones, or some of either; in the last case the next writer in the folder places the rest.

    Args:
        target: the entry that matters most: where it is a file, it is there at every moment.
        together: False for files that need not be of one make: each is there at every moment, ``target`` comes last.
        durable: flush every file to the disk; False for many files that can be made again.
        hint: what to do where it cannot be written.

    Raises:
        WriteError: when the place is full or cannot be written. What stood there still does.
    """
    target = Path(os.path.abspath(target))
    stage = _temporary(target)
    with refused(target, hint):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent)
        stage.mkdir()
        try:
            yield stage
            for path in stage.rglob("*") if durable else ():
                _flush(path)
            if together:
                _place(stage.rename(stage.with_suffix(".ready")), target.name)
            else:
                for path in sorted(stage.iterdir(), key=lambda path: path.name == target.name):
                    path.replace(target.parent / path.name)
            _flush(target.parent)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove, once a process, what killed processes left in a folder; sets that were whole are placed."""
    if (os.getpid(), str(folder)) in _swept:
        return
    _swept.add((os.getpid(), str(folder)))
    with os.scandir(folder) as entries:
        left = [Path(entry.path) for entry in entries if entry.name.startswith(".")]
    for path in left:
        found = _MARK.fullmatch(path.name)
        if not found or not _is_abandoned(path, found["machine"], int(found["process"])):
            continue
        with contextlib.suppress(OSError):  # another process may sweep at the same time
            if found["state"] == "ready":
                _place(path)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _temporary(path: Path) -> Path:
    tag = f"vanillayolo-{_MACHINE}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return path.with_name(f".{path.name[:60]}.{tag}.part")


def _is_abandoned(path: Path, machine: str, process: int) -> bool:
    """Return whether nobody writes a temporary any more. Processes of other machines are known by age alone."""
    if machine == _MACHINE and not psutil.pid_exists(process):
        return True
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > _ABANDONED
    return False


def _place(ready: Path, first: str = "") -> None:
    """Move the entries of a folder beside it and remove it; old ones step aside before the first new one comes."""
    folder, aside = ready.parent, ready / ".old"
    new = sorted((path for path in ready.iterdir() if path != aside), key=lambda path: path.name != first)
    aside.mkdir(exist_ok=True)
    placed = 0
    try:
        for path in new:
            target = folder / path.name
            at_once = path == new[0] and path.is_file() and not target.is_dir()  # os.replace needs no room made for it
            with contextlib.suppress(FileNotFoundError):
                if not at_once:
                    target.rename(aside / path.name)
        for path in new:
            try:
                path.replace(folder / path.name)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise  # else another process placed the same folder at the same moment, whole
            placed += 1
    except OSError:
        for path in aside.iterdir() if not placed else ():
            path.rename(folder / path.name)
        raise
    shutil.rmtree(ready)  # not after an interruption: the next writer places the rest


def _flush(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk, where the system has that."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some file systems have none for folders
            raise
    finally:
        os.close(descriptor)
