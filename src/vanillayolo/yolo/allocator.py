"""Keep freed memory within the process while training on a CPU: the next step takes the same maps again.

glibc asks the system for every block above 32 MB (``mmap``) and gives it back when it is freed. Every step of a
training then touches each page of its large maps for the first time again, and the system hands out a page at a time,
cleared: measured on the published model, 4 of 8.5 minutes of CPU time. So for the time of a training on a CPU, large
blocks come from the heap too (``M_MMAP_MAX`` 0) and the heap is not trimmed (``M_TRIM_THRESHOLD`` -1), as
``mallopt(3)`` describes. The process then holds its largest step's memory between steps too; afterwards all of it
goes back.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4

#: While training. -1: the heap is never trimmed.
TRAINING = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1}
#: Afterwards: glibc's own number of mappings, and its thresholds where its rule, which follows the largest block ever
#: freed and is off from the first mallopt on, has them after any block of 32 MB.
USUAL = {M_MMAP_MAX: 65536, M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 64 << 20}

#: A user who sets one of these has chosen.
OWN_CHOICE = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "LD_PRELOAD")


def glibc() -> Any:
    """Return the C library where it is glibc, which alone has these settings; else None."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None
    return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None


def is_chosen() -> bool:
    """Return whether the user's environment says already how memory is allocated."""
    return any(name in os.environ for name in OWN_CHOICE) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")


@contextmanager
def freed_memory_kept(wanted: bool = True) -> Iterator[bool]:
    """Keep freed memory for the time of the ``with``, which is told whether it does.

    Not where the C library is another one than glibc, nor where the environment has settings of its own
    (:data:`OWN_CHOICE`, ``GLIBC_TUNABLES``). The setting is the whole process's; nested uses are one.

    Args:
        wanted: False does nothing: on GPUs, whose memory torch keeps itself.
    """
    global _users
    library = glibc() if wanted and not is_chosen() else None
    if library is None:
        yield False
        return
    _users += 1
    try:
        if _users == 1:
            _apply(library, TRAINING)
        yield True
    finally:
        _users -= 1
        if _users == 0:
            _apply(library, USUAL)
            library.malloc_trim(0)


_users = 0


def _apply(library: Any, settings: dict[int, int]) -> None:
    for name, value in settings.items():
        library.mallopt(name, value)
