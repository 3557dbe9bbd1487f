"""What a process does that predicts in very many pictures: it opens the network once and writes whole shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .atomic import whole_file
from .errors import UsageError

#: A picture: its path, or a name beside its bytes.
Row = tuple[str, bytes | None]
#: A file to write, and the pictures of its rows.
Shard = tuple[Path, list[Row]]
#: Shards in work for each process: one that it makes and one that waits.
WAITING = 2
#: How often a shard is begun, or a pool that makes no shard.
PATIENCE = 3
#: What to do when the processes end again and again.
ADVICE = "give fewer workers, or look at these pictures; the same command goes on."

QUIET = {"save": False, "verbose": False, "stream": True}

#: What an object of a task has besides its box: the column, and its numbers in a result, object by object.
EXTRAS: dict[str, tuple[str, Callable[[Any], Iterable[Any]]]] = {
    "segment": ("polygon", lambda result: [x.ravel() for x in result.masks.xy] if result.masks else []),
    "obb": ("polygon", lambda result: result.obb.xyxyxyxy.flatten(1)),
    "pose": ("keypoints", lambda result: _triples(result.keypoints.data).flatten(1)),
}

_network: Any = None
_opened: tuple[str, dict[str, Any]] | None = None


def open_network(model: str, settings: dict[str, Any]) -> dict[int, str]:
    """Open the network in this process, unless it is open; return its classes.

    Raises:
        UsageError: for a model that is no detector, or a setting that does not fit.
    """
    global _network, _opened
    from .interface import VanillaYOLO
    from .yolo.checks import check_predict
    from .yolo.tasks import FINDING

    if _opened != (model, settings):
        _network = VanillaYOLO(model)
        if _network.task not in FINDING:
            raise UsageError(f"predict model={model}: output= is for detectors; leave it out for task={_network.task}.")
        check_predict(_network, None, {**settings, **QUIET})
        _opened = model, settings
    return {int(number): str(name) for number, name in _network.names.items()}


def make_shard(file: Path, rows: list[Row]) -> None:
    """Write the shard of these pictures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [("class", pa.int32()), ("score", pa.float32()), *((k, pa.float32()) for k in ("x", "y", "w", "h"))]
    fields += [(EXTRAS[_network.task][0], pa.list_(pa.float32()))] if _network.task in EXTRAS else []
    box = pa.struct(fields)
    kinds = {"picture": pa.string(), "width": pa.int32(), "height": pa.int32(), "readable": pa.bool_()}
    table = pa.Table.from_pylist(_detect(rows), pa.schema({**kinds, "boxes": pa.list_(box)}))
    with whole_file(file) as temporary:
        pq.write_table(table, temporary)


def _detect(rows: list[Row]) -> list[dict[str, Any]]:
    """Return the table's rows, by one call: each costs as much as a small network. Pictures are read one by one."""
    from .yolo.sources import Pictures

    table: list[dict[str, Any]] = [
        {"picture": name, "width": 0, "height": 0, "readable": False, "boxes": []} for name, _ in rows
    ]
    images = ((str(number), image) for number, row in enumerate(rows) if (image := _read(*row)) is not None)
    _, settings = _opened or ("", {})
    for result in _network.predict(Pictures(images), **{**settings, **QUIET}):
        high, wide = result.orig_shape
        table[int(result.path)] |= {"width": wide, "height": high, "readable": True, "boxes": _objects(result)}
    return table


def _objects(result: Any) -> list[dict[str, Any]]:
    """Return the objects of a picture: class, score, upright box and what its task has besides."""
    found = result.boxes if result.obb is None else result.obb
    rows = zip(found.cls.tolist(), found.conf.tolist(), found.xyxy.tolist(), strict=True)
    objects: list[dict[str, Any]] = [
        {"class": int(cls), "score": conf, "x": x1, "y": y1, "w": x2 - x1, "h": y2 - y1}
        for cls, conf, (x1, y1, x2, y2) in rows
    ]
    if _network.task in EXTRAS:
        name, numbers = EXTRAS[_network.task]
        for row, values in zip(objects, numbers(result), strict=True):
            row[name] = values.tolist()
    return objects


def _triples(points: Any) -> Any:
    """Return key points ``[n, points, 2 or 3]`` as x, y and how visible they are: 1 where the network does not say."""
    from torch.nn import functional

    return functional.pad(points, (0, 3 - points.shape[2]), value=1.0)


def _read(name: str, content: bytes | None) -> Any:
    """Return a picture, BGR; None for one that cannot be read."""
    import cv2
    import numpy as np

    from .yolo.datasets import read_image

    if content is None:
        return read_image(name)
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
