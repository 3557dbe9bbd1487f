"""What ``predict output=`` costs beside a plain loop, and its driver for 1,000 to 100,000 pictures.

    python benchmarks/scale.py --model best.onnx [--imgsz 64 --turns 16 --sizes 1000 10000 100000]

Writes benchmarks/time/scale.json. In one process folders of 64 pictures go in turns through ``predict(folder)``,
streamed, and through what a worker does with them. Then the driver lists folders and joins shards that are all there:
what it does besides waiting, in rising numbers, so that the peak of memory tells which one needed more. Figures are
seconds of computing, which other work on the machine changes least. The pictures are generated, of 64 to 160 pixels;
many names lead to one file, and many shards are one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import cv2

from vanillayolo import VanillaYOLO
from vanillayolo.atomic import write_whole
from vanillayolo.bulk import SHARD, _gather, _list_folder, _listed, _missing
from vanillayolo.data.scenes.settings import SceneSettings
from vanillayolo.data.scenes.writing import write_scenes
from vanillayolo.shards import QUIET, make_shard, open_network
from vanillayolo.study.latency import load_average, machine
from vanillayolo.valid_json import json_text

OUT = Path(__file__).parent / "time" / "scale.json"
SIDES = (64, 96, 128, 160)


def draw(root: Path) -> list[Path]:
    """Write ``SHARD`` pictures."""
    (root / "scenes").mkdir()
    for number, file in enumerate(write_scenes(root / "drawn", SceneSettings(SHARD, max(SIDES))).parent.rglob("*.jpg")):
        side = SIDES[number % len(SIDES)]
        cv2.imwrite(str(root / "scenes" / f"{number}.jpg"), cv2.resize(cv2.imread(str(file)), (side, side)))
    return sorted((root / "scenes").iterdir())


def link(files: list[Path], folder: Path, count: int) -> Path:
    """Make a folder of folders of ``SHARD`` names of these files."""
    for number in range(count):
        place = folder / f"{number // SHARD:06}"
        place.mkdir(parents=True, exist_ok=True)
        os.link(files[number % len(files)], place / f"{number}.jpg")
    return folder


def in_turns(model: str, folder: Path, imgsz: int, made: Path) -> dict[str, Any]:
    """Return the milliseconds of computing of a picture, in the loop and in the worker, and the share that is added."""
    open_network(model, {"imgsz": imgsz})
    network = VanillaYOLO(model)

    def loop(place: Path) -> None:
        for result in network.predict(place, imgsz=imgsz, **QUIET):
            result.boxes.data.tolist()

    def worker(place: Path) -> None:
        make_shard(made / f"{place.name}.parquet", [(str(file), None) for file in sorted(place.iterdir())])

    calls: dict[str, Callable[[Path], None]] = {"loop": loop, "worker": worker}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    places = sorted(folder.iterdir())
    for call in calls.values():
        call(places[0])
    for turn, place in enumerate(places):
        for name in sorted(calls, reverse=bool(turn % 2)):
            begin = time.process_time()
            calls[name](place)
            taken[name].append((time.process_time() - begin) * 1e3 / SHARD)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    ratios = [worker / loop for loop, worker in zip(taken["loop"], taken["worker"], strict=True)]
    return {"milliseconds": medians, "overhead": statistics.median(ratios) - 1, "turns": len(places)}


def drive(folder: Path, shard: Path, count: int, root: Path) -> dict[str, float]:
    """Return the microseconds of a picture that the driver computes, and the peak of its memory so far."""
    (root / "shards").mkdir(parents=True)
    for number in range(-(-count // SHARD)):
        os.link(shard, root / "shards" / f"part-{number:07d}.parquet")
    begin = time.process_time()
    _list_folder(folder, root / "pictures.jsonl")
    assert not list(_missing(root, _listed(root / "pictures.jsonl"), itertools.count()))
    _gather(root, {0: "thing"})
    taken = time.process_time() - begin
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {"microseconds": taken * 1e6 / count, "peak_mb": peak / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a checkpoint or an exported file of a detector; a tiny one")
    parser.add_argument("--imgsz", type=int, default=64)
    parser.add_argument("--turns", type=int, default=16, help="folders that both go through")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10000, 100000])
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    command = f"python benchmarks/scale.py --model {Path(given.model).name} --imgsz {given.imgsz} --turns {given.turns}"
    record: dict[str, Any] = {"date": str(date.today()), "command": command, "machine": machine()}
    record |= {"load": load_average(), "driver": {}}
    with tempfile.TemporaryDirectory(prefix="scale-") as temporary:
        root = Path(temporary)
        files = draw(root)
        record |= in_turns(given.model, link(files, root / "turns", given.turns * SHARD), given.imgsz, root / "made")
        print(json.dumps({key: record[key] for key in ("milliseconds", "overhead")}), flush=True)
        shard = next((root / "made").iterdir())
        for count in sorted(given.sizes):
            folder = link(files, root / f"pictures-{count}", count)
            record["driver"][str(count)] = drive(folder, shard, count, root / f"out-{count}")
            print(count, json.dumps(record["driver"][str(count)]), flush=True)
            write_whole(given.out, json_text(record))


if __name__ == "__main__":
    main()
