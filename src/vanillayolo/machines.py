"""Shards on several machines: each a call on a cluster of Ray's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .cluster import check_seen, on_cluster
from .errors import DataError
from .shards import ADVICE, PATIENCE, WAITING, Row, Shard, make_shard, open_network


def on_ray(shards: Iterator[Shard], model: str, settings: dict[str, Any], workers: int | None) -> Iterator[Path]:
    """Make shards, and yield the file of each.

    Args:
        shards: what to make; never more of it is taken than the cluster has in work.
        model: a checkpoint or an exported file of a detector.
        settings: keys of ``predict``.
        workers: calls at a time; one for each core of the cluster where not given.

    Raises:
        UsageError: where no cluster answers, or a machine of it does not see the folders.
        DataError: when a shard's worker ends again and again.
    """
    work = ((file, (file, rows, model, settings, os.getcwd())) for file, rows in shards)
    for file, _, lost in on_cluster(make_on_machine, work, PATIENCE, workers, WAITING):
        if lost:
            raise DataError(f"{file.name}: {lost}; {ADVICE}")
        yield file


def make_on_machine(file: Path, rows: list[Row], model: str, settings: dict[str, Any], here: str) -> None:
    """Write the shard of these pictures, in a worker's process, which keeps its network for the next one.

    Args:
        file: what to write.
        rows: the pictures.
        model: a checkpoint or an exported file of a detector.
        settings: keys of ``predict``.
        here: the folder that relative paths are below.

    Raises:
        UsageError: where this machine does not see the output, or the folder of no picture.
    """
    folders = {os.path.join(here, os.path.dirname(name)) for name, content in rows if content is None}
    check_seen(file.parents[1] / "job.json", *([] if any(map(os.path.isdir, folders)) else folders))
    open_network(model, settings)
    make_shard(file, rows)
