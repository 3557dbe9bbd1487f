"""How many threads torch computes with: the user's own number, else every core that nobody else keeps busy.

Every parallel loop ends when its last thread does. A thread without a core of its own keeps all others waiting, and
spinning on the cores that it needs: beside busy processes a training step takes many times as long
(``benchmarks/time/busy_machine.json``). As many threads as there are free cores do best, on an idle machine too;
threads that sleep while they wait (``OMP_WAIT_POLICY=passive``, ``GOMP_SPINCOUNT``) take half as long again there.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from ultralytics.utils import torch_utils

from vanillayolo.environment import USER_THREADS

#: Seconds between two looks at the machine.
INTERVAL = 2.0


@dataclass
class State:
    """What is known of threads and of the machine.

    Attributes:
        limit: the user's own number, if any.
        left: the number that torch had when we last looked; another one that is found is the user's.
        free: the number of cores that nobody else keeps busy.
        seen: time, the machine's and this process' own seconds of computing, at the last look.
    """

    limit: int | None
    left: int
    free: int
    seen: tuple[float, float, float]


def cgroup_cores(root: Path = Path("/")) -> float:
    """Return the cores that the container's share of the CPU allows, by cgroup version 2 or 1; infinite without one."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    share = math.inf
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers
        inside = top / path.lstrip("/")
        for folder in (inside, *inside.parents):
            if folder.is_relative_to(top):
                share = min(share, _folder_cores(folder))
    return share


def _folder_cores(folder: Path) -> float:
    """Return the cores that one cgroup allows."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = ((folder / f"cpu.cfs_{k}_us").read_text(encoding="utf-8") for k in ("quota", "period"))
        return math.inf if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def own_cores() -> list[int]:
    """Return the numbers of the cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def available_cores() -> int:
    """Return the number of cores that this process may use: by its affinity, and by its container's share."""
    return max(1, math.floor(min(len(own_cores()), cgroup_cores())))


def look() -> tuple[float, float, float]:
    """Return the time, and the seconds of computing of all our cores and of this process, each since some beginning."""
    cores = psutil.cpu_times(percpu=True)
    kinds = ("user", "nice", "system", "irq", "softirq", "steal")
    busy = sum(getattr(cores[i], kind, 0.0) for i in own_cores() if i < len(cores) for kind in kinds)
    return time.perf_counter(), busy, time.process_time()


def wanted(threads: int, others: float, cores: int) -> int:
    """Return how many threads to use from now on.

    Half a core lost takes a thread away; three quarters of a core free bring it back, so that the number rests.

    Args:
        threads: how many there are.
        others: cores that other processes keep busy.
        cores: cores of this process.
    """
    free = cores - others
    fewer, more = math.floor(free + 0.5), math.floor(free + 0.25)
    return max(1, min(cores, fewer if fewer < threads else max(threads, more)))


STATE = State(USER_THREADS, torch.get_num_threads(), available_cores(), look())
if USER_THREADS is None:
    os.environ.pop("OMP_NUM_THREADS", None)  # Ultralytics' own, which our child processes would take for the user's


def notice_choice() -> None:
    """Take over a number that the user has given to torch since we last set one."""
    found = torch.get_num_threads()
    if found != STATE.left:
        STATE.limit = STATE.left = found


def use_free_cores(engine: Any = None) -> None:
    """Let torch use the user's number of threads, else every core that is free; a callback of starts and batches.

    The machine is looked at every :data:`INTERVAL` seconds at most.

    Args:
        engine: whose device counts; CPU where there is none.
    """
    device = getattr(engine, "device", None)
    if device is not None and torch.device(device).type != "cpu":
        return
    if STATE.limit is None and time.perf_counter() - STATE.seen[0] >= INTERVAL:
        before, STATE.seen = STATE.seen, look()
        seconds, busy, own = (now - then for now, then in zip(STATE.seen, before, strict=True))
        STATE.free = wanted(STATE.free, max(0.0, (busy - own) / seconds), available_cores())
    number = STATE.limit or STATE.free
    if torch.get_num_threads() != number:
        torch.set_num_threads(number)
    STATE.left = torch_utils.NUM_THREADS = number  # Ultralytics sets the latter whenever it chooses a device
