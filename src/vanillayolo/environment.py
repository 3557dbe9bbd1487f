"""The package's version, and what the user has said about threads, read before Ultralytics is imported.

Ultralytics sets ``OMP_NUM_THREADS=1`` where the user has said nothing; afterwards the two cannot be told apart.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

#: Of this package.
__version__ = "0.2.0"
#: Whether this process is the command ``vanillayolo``, which imports no more than the command it is given needs.
AS_COMMAND = Path(sys.argv[0]).stem == "vanillayolo" or (
    sys.orig_argv[1:3] in (["-m", "vanillayolo"], ["-m", "vanillayolo.prove"])
)
LINUX = hasattr(os, "sched_getaffinity")


def first_environment() -> dict[str, str]:
    """Return the environment that this process was started with; empty where the system does not tell."""
    try:
        pairs = Path("/proc/self/environ").read_text(encoding="utf-8", errors="replace").split("\0")
    except OSError:
        return {}
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def chosen_threads() -> int | None:
    """Return the user's number: OMP_NUM_THREADS (the first of a list), or what torch was given; None without one."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    if text == "1" and "ultralytics" in sys.modules and first_environment().get("OMP_NUM_THREADS") != "1":
        return None  # Ultralytics' own
    first = text.split(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        return int(first)
    torch: Any = None if "ultralytics" in sys.modules else sys.modules.get("torch")
    if torch is None:
        return None
    import psutil  # the command prove has numpy alone

    usual = (psutil.cpu_count(), psutil.cpu_count(logical=False), len(os.sched_getaffinity(0)) if LINUX else None)
    return torch.get_num_threads() if torch.get_num_threads() not in usual else None


#: The user's own number of threads; it holds for the whole process.
USER_THREADS = chosen_threads()
