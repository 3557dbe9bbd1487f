"""What Ultralytics reads off the process that it runs in, and would take for its own: the program's name, the ranks."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from ultralytics.engine import model as engine
from ultralytics.utils import LOCAL_RANK, RANK, WORLD_SIZE

from vanillayolo.errors import UsageError

_words = engine.ARGV
_lock = threading.Lock()
_inside = 0


@contextmanager
def called_from_python() -> Iterator[None]:
    """Hide the program's name from Ultralytics' prediction meanwhile.

    In a program whose name ends in "yolo", with "predict" or "track" among its words, it believes to be its own
    command: it then returns nothing and saves pictures that nobody asked for. Several threads may be inside at once.
    """
    global _inside
    with _lock:
        _inside += 1
        engine.ARGV = [""]
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                engine.ARGV = _words


def check_ranks(mode: str, device: Any = None) -> None:
    """Raise UsageError where the environment says that this is one of several processes, and it cannot be.

    Ultralytics believes RANK and WORLD_SIZE. Left over from a launcher, they end training and validation in a
    traceback, or in no results.

    Args:
        mode: ``train``, or what else each process would do on its own.
        device: Ultralytics' setting; several GPUs are what its own processes are for.
    """
    if RANK == LOCAL_RANK == -1:
        return
    devices = device if isinstance(device, (list, tuple)) else str(device or "").split(",")
    met = torch.distributed.is_available() and torch.distributed.is_initialized()
    reachable = met or len(devices) > 1 or {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    if mode == "train" and reachable and LOCAL_RANK >= 0 <= RANK < WORLD_SIZE:
        return
    if mode == "val" and met:
        return
    raise UsageError(
        f"{mode}: the environment has WORLD_SIZE={WORLD_SIZE} RANK={RANK} LOCAL_RANK={LOCAL_RANK}, as for one of "
        f"several processes; unset them (env -u WORLD_SIZE vanillayolo {mode} ...), or train: with torchrun, or with "
        "device=0,1,..., a GPU for each process."
    )
