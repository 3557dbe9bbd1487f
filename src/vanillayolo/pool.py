"""Shards on this machine: a pool of processes, started anew when one of them is killed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from pathlib import Path
from threading import Thread
from typing import Any

from .errors import DataError
from .launched import number_of
from .shards import ADVICE, PATIENCE, WAITING, Shard, make_shard, open_network


def on_pool(shards: Iterator[Shard], model: str, settings: dict[str, Any], workers: int | None) -> Iterator[Path]:
    """Make shards, and yield the file of each; a pool that lost a process is started anew with what it had in work.

    Args:
        shards: what to make; never more of it is taken than the pool has in work.
        model: a checkpoint or an exported file of a detector.
        settings: keys of ``predict``.
        workers: processes; one for each core where not given.

    Raises:
        DataError: when the pool ends again and again.
    """
    from .yolo.threads import available_cores

    workers = workers or max(1, available_cores() // number_of("LOCAL_WORLD_SIZE", 1))
    again: dict[Path, Shard] = {}
    broken = 0
    while True:
        work: dict[Future[None], Path] = {}
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, _begin, (model, settings)) as pool:
            try:
                todo = iter([*again.values()])
                while True:
                    for shard in islice(chain(todo, shards), WAITING * workers - len(work)):
                        again[shard[0]] = shard
                        work[pool.submit(make_shard, *shard)] = shard[0]
                    if not work:
                        return
                    for future in wait(work, return_when=FIRST_COMPLETED).done:
                        future.result()
                        file = work.pop(future)
                        del again[file]
                        broken = 0
                        yield file
            except BrokenProcessPool:
                again = {file: shard for file, shard in again.items() if not file.is_file()}
                broken += 1
                if broken == PATIENCE:
                    names = ", ".join(file.name for file in again) or "their start"
                    raise DataError(f"the processes ended {PATIENCE} times in {names}; {ADVICE}") from None


def _begin(model: str, settings: dict[str, Any]) -> None:
    """Open the network in a process of the pool, which ends with its parent: a killed parent does not end it."""

    def follow() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()
    open_network(model, settings)
