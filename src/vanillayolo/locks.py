"""One process at a time in a folder: a lock that ends with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import os
import platform
from datetime import datetime
from pathlib import Path
from typing import IO

import psutil

from .atomic import refused
from .errors import UsageError

try:
    import fcntl
except ImportError:  # Windows: by the process's number in the file alone
    fcntl = None  # type: ignore[assignment]

NAME = ".vanillayolo.lock"
_held: dict[Path, IO[str]] = {}


def take(folder: Path) -> None:
    """Make this process the one that writes in a folder. That it is already, or one that started it is, is well.

    Raises:
        UsageError: when another process is, naming it.
        WriteError: when the folder cannot be written.
    """
    folder = folder.resolve()
    if folder in _held:
        return
    while True:
        with refused(folder):
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / NAME).open("a+", encoding="utf-8")
        file.seek(0)
        number, _, rest = (holder := file.read()).partition(" ")
        if not _lock(file, number):
            file.close()
            if rest.startswith(f"on {platform.node()} ") and int(number) in _family():
                return
            raise UsageError(
                f"{folder}: another training writes there (process {holder or 'unknown'}); "
                "wait for it or stop it, or give another name=."
            )
        if os.fstat(file.fileno()).st_nlink:
            break
        file.close()  # its holder removed it between our opening and locking it
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()} on {platform.node()} since {datetime.now():%Y-%m-%d %H:%M:%S}")
    file.flush()
    _held[folder] = file


def give(folder: Path) -> None:
    """Let others write in a folder, where this process was the one that did."""
    file = _held.pop(folder.resolve(), None)
    if file is not None:
        with contextlib.suppress(OSError):
            os.unlink(file.name)
        file.close()


def _lock(file: IO[str], holder: str) -> bool:
    if fcntl is None:
        return not (holder.isdigit() and psutil.pid_exists(int(holder)))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: as if there were no other
        return True
    return True


def _family() -> set[int]:
    """Return this process and those that started it: a training of several processes has one folder."""
    process = psutil.Process()
    return {process.pid, *(parent.pid for parent in process.parents())}


def _forget() -> None:
    """Close, in a forked child, what it has inherited: a loader's worker would hold the lock beyond its parent."""
    for file in _held.values():
        file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
