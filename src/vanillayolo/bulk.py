"""Prediction in very many pictures: engines that write whole shards, so that a restart goes on.

The pictures are listed once, into ``pictures.jsonl``. A shard is written by a rename and holds one row a picture, so
that each picture is there once, whatever is killed: a shard that is there is never made again.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

from . import locks
from .atomic import whole_file, write_whole
from .cluster import check_ray
from .errors import UsageError
from .launched import Together
from .machines import on_ray
from .places import check_folder
from .pool import on_pool
from .shards import Row, Shard, open_network
from .values import KINDS, NONE, check_value, one_of, shown

#: Pictures of a shard.
SHARD = 64
SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
#: Columns of a Parquet source: the picture's path, or its name beside its bytes.
PATHS, BYTES = "path", "bytes"
#: What makes the shards, by name: from what is to make, the model, its settings and the number of workers.
ENGINES: dict[str, Callable[[Iterator[Shard], str, dict[str, Any], int | None], Iterator[Path]]] = {
    "pool": on_pool,
    "ray": on_ray,
}


def predict_all(
    model: str, source: Any, output: str, workers: int | None, settings: dict[str, Any], engine: str = "pool"
) -> dict[str, int]:
    """Detect in every picture of a folder or a Parquet file; return how many pictures and unreadable ones there are.

    Of several processes of a launcher each makes a part of the shards; the first one lists, joins and returns numbers.

    Args:
        model: a checkpoint or an exported file of a detector.
        source: a folder, searched whole, or a Parquet file with a column ``path`` or ``bytes``.
        output: the folder to write; that of the same prediction, interrupted, is gone on with.
        workers: processes; by default one for each core.
        settings: further keys of ``predict``.
        engine: a key of :data:`ENGINES`.

    Raises:
        UsageError: for a source that is neither, or an output of another prediction.
        DataError: when processes end again and again.
    """
    together = Together()
    check_value("workers", workers, KINDS["workers"] | NONE)
    check_value("engine", engine, one_of(*ENGINES))
    check_folder("output", output)
    _check_pyarrow()
    if engine == "ray":
        check_ray()
        if together.store:
            raise UsageError("engine=ray: starts its processes itself; leave out the launcher, or engine=ray.")
    root = Path(output).absolute()
    model = str(Path(model).absolute()) if Path(model).exists() else model
    place, names = _checked_source(source), open_network(model, settings)
    parquet = place.is_file()
    job = {"model": _fact(model), "source": _fact(place) if parquet else str(place.absolute()), "settings": settings}

    def make(numbers: Iterator[int]) -> None:
        rows = _parquet_rows(place) if parquet else _listed(root / "pictures.jsonl")
        for file in ENGINES[engine](_missing(root, rows, numbers), model, settings, workers):
            print(f"\r{file.name}", end="", file=sys.stderr, flush=True)

    if together.rank:
        make(together.numbers())
        together.end(root)
        return {}
    _claim(root, job)
    locks.take(root)
    try:
        if not parquet:
            _list_folder(place, root / "pictures.jsonl")
        make(together.numbers())
        if not together.end(root / "shards"):
            make(count())
        return _gather(root, names)
    finally:
        locks.give(root)


def _checked_source(source: Any) -> Path:
    """Return the folder or Parquet file to read; raise UsageError for what is neither, or has no picture."""
    place = Path(source or "")
    if source is not None and place.suffix == ".parquet" and place.is_file():
        _check_columns(place)
    elif source is None or not place.is_dir():
        raise UsageError(f"source={shown(source)}: with output=, give a folder of pictures or a .parquet file.")
    elif next(_walk(place), None) is None:
        raise UsageError(f"source={shown(str(place))}: no picture in it ({', '.join(sorted(SUFFIXES))}).")
    return place


def _check_pyarrow() -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError("output= needs pyarrow; run: pip install 'vanillayolo[scale]'")


def _fact(file: str | Path) -> list[Any]:
    """Return what changes when a file does."""
    path = Path(file).absolute()
    return [str(path), *((path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else ())]


def _claim(root: Path, job: dict[str, Any]) -> None:
    """Note what the folder is for; refuse one that is for something else."""
    file, text = root / "job.json", json.dumps(job, indent=2, default=str) + "\n"
    if file.is_file() and file.read_text(encoding="utf-8") != text:
        raise UsageError(f"output={root}: holds a prediction with another model, source or keys; give another folder.")
    if not file.is_file():
        if root.is_dir() and any(root.iterdir()):
            raise UsageError(f"output={root}: holds other files; give a new folder.")
        write_whole(file, text)


def _list_folder(folder: Path, file: Path) -> None:
    """Write the paths of all pictures below a folder, one a line, unless an earlier run has."""
    if file.is_file():
        return
    with whole_file(file) as temporary, temporary.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(path) + "\n" for path in _walk(folder))


def _walk(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                yield os.path.abspath(entry.path)


def _listed(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line), None


def _check_columns(file: Path) -> None:
    """Raise UsageError for a Parquet file that cannot be read, or has neither column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(file).names
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"source={shown(str(file))}: is no Parquet file that can be read; write it again.") from error
    if not {PATHS, BYTES} & set(names):
        raise UsageError(f"source={shown(str(file))}: has columns {', '.join(names)}; name one {PATHS} or {BYTES}.")


def _parquet_rows(file: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    opened, number = pq.ParquetFile(file), 0
    columns = [name for name in (PATHS, BYTES) if name in opened.schema_arrow.names]
    for batch in opened.iter_batches(SHARD, columns=columns):
        for row in batch.to_pylist():
            yield row.get(PATHS) or f"row {number}", row.get(BYTES)
            number += 1


def _missing(root: Path, rows: Iterator[Row], numbers: Iterator[int]) -> Iterator[Shard]:
    """Yield the shards of these numbers, which rise, that are not there."""
    wanted = next(numbers)
    for number in count():
        if not (chunk := list(islice(rows, SHARD))):
            return
        if number == wanted:
            file = root / "shards" / f"part-{number:07d}.parquet"
            if not file.is_file():
                yield file, chunk
            wanted = next(numbers)


def _gather(root: Path, names: dict[int, str]) -> dict[str, int]:
    """Write ``coco.json`` and ``unreadable.txt`` from the shards, one shard in memory at a time."""
    counted = {"pictures": 0, "unreadable": 0, "boxes": 0}
    with (
        whole_file(root / "coco.json") as made,
        whole_file(root / "unreadable.txt") as listed,
        made.open("w", encoding="utf-8") as coco,
        listed.open("w", encoding="utf-8") as lines,
    ):
        coco.write('{"categories": ' + json.dumps([{"id": k, "name": v} for k, v in names.items()]))
        coco.write(',\n"images": [')
        for row in _made(root):
            if not row["readable"]:
                lines.write(row["picture"] + "\n")
                counted["unreadable"] += 1
            image = {"id": counted["pictures"], "file_name": row["picture"]}
            image |= {"width": row["width"], "height": row["height"]}
            coco.write((",\n" if counted["pictures"] else "\n") + json.dumps(image))
            counted["pictures"] += 1
        coco.write('],\n"annotations": [')
        for number, row in enumerate(_made(root)):
            for box in row["boxes"]:
                note = {"id": counted["boxes"], "image_id": number, "category_id": box["class"]}
                note |= {"bbox": [box[k] for k in "xywh"], "area": box["w"] * box["h"], "iscrowd": 0}
                note["score"] = box["score"]
                note |= {"segmentation": [box["polygon"]] if box["polygon"] else []} if "polygon" in box else {}
                note |= {"keypoints": box["keypoints"]} if "keypoints" in box else {}
                coco.write((",\n" if counted["boxes"] else "\n") + json.dumps(note))
                counted["boxes"] += 1
        coco.write("]}\n")
    return counted


def _made(root: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for file in sorted((root / "shards").glob("part-*.parquet")):
        yield from pq.read_table(file).to_pylist()
