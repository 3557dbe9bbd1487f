"""The published protocol on COCO128: train and validate on the same 128 images. That is memorisation, and said so.

    python benchmarks/coco128.py --data coco128.yaml --published coco128_published_results.csv --folder runs/coco128
    python benchmarks/readme_table.py

Trains a network (yolo11n-vanillanet_yolo11-head.yaml) from random weights in stages, a small image size first and
then the one that is validated, collapses it and validates the collapsed file. A stage that was interrupted goes on
where it was, a finished one is not done again. Writes benchmarks/accuracy/coco128.json: settings, seconds, figures of a
class beside those published for the YOLO11-VanillaNet (`--published`, a CSV of class, images, instances, precision,
recall, map50, map50_95).
"""

from __future__ import annotations

import argparse
import csv
from datetime import date
from pathlib import Path
from typing import Any

from vanillayolo import VanillaYOLO
from vanillayolo.deploy import collapse
from vanillayolo.study.cost import both_forms
from vanillayolo.study.latency import machine
from vanillayolo.study.protocol import elapsed, learning_curve
from vanillayolo.study.records import write_record
from vanillayolo.tables import markdown
from vanillayolo.yolo.detectors import network, open_detector, train_detector

OUT = Path(__file__).parent / "accuracy" / "coco128.json"
MODEL = str(Path(__file__).with_name("yolo11n-vanillanet_yolo11-head.yaml"))
#: What both stages share: every step updates (nbs), and nothing is augmented, because the same images are validated.
SHARED: dict[str, Any] = {
    **{"batch": 8, "nbs": 8, "optimizer": "AdamW", "weight_decay": 0.0, "cos_lr": True, "seed": 0},
    **{"mosaic": 0.0, "fliplr": 0.0, "scale": 0.0, "translate": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0},
    **{"val": False, "plots": False, "verbose": False, "workers": 0, "cache": True},
}
STAGES: dict[str, dict[str, Any]] = {
    "small": {"epochs": 120, "imgsz": 320, "lr0": 2e-3, "lrf": 0.1, "decay": 0.25, "join": True},
    "full": {"epochs": 30, "imgsz": 640, "lr0": 1e-3, "lrf": 0.01, "warmup_epochs": 1.0},
    "full, on": {"epochs": 45, "imgsz": 640, "lr0": 2e-3, "lrf": 0.01, "warmup_epochs": 1.0},
}


def published(path: Path | None) -> dict[str, dict[str, float]]:
    """Return the published figures by class, ``all`` among them."""
    if path is None:
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row.pop("class"): {key: float(value) for key, value in row.items()} for row in rows}


def train(model: str, data: str, folder: Path) -> dict[str, Path]:
    """Train stage after stage, each from the one before, and return their folders."""
    runs = {}
    for name, settings in STAGES.items():
        run = runs[name] = folder / name
        if not (run / "finished").exists():
            train_detector(model, data, run, {**SHARED, **settings})
            (run / "finished").touch()
        model = str(run / "weights" / "best.pt")
    return runs


def figures(file: Path, data: str, imgsz: int) -> dict[str, dict[str, float]]:
    """Return what validation finds, by class, ``all`` first."""
    metrics = VanillaYOLO(file).val(data=data, split="val", imgsz=imgsz, plots=False, verbose=False, workers=0)
    keys = ("precision", "recall", "map50", "map50_95")
    found = {"all": dict(zip(keys, map(float, metrics.box.mean_results()), strict=True))}
    for i, c in enumerate(metrics.box.ap_class_index):
        found[metrics.names[int(c)]] = dict(zip(keys, map(float, metrics.box.class_result(i)), strict=True))
    return found


def coco128_table(record: dict[str, Any]) -> str:
    """Return every class of COCO128 beside the published figures: both memorise the images they are validated on."""
    stages, theirs, machine = record["stages"], record["published"], record["machine"]
    last = {stage["imgsz"]: stage["figures"] for stage in stages.values()}  # of the stages of a size
    rows = []
    for name in {**theirs, **next(iter(last.values()))}:
        counts = [f"{theirs[name][key]:.0f}" if name in theirs else "" for key in ("images", "instances")]
        sides = [theirs, *last.values()]
        cells = [f"{side[name][m]:.3f}" if name in side else "" for m in ("map50", "map50_95") for side in sides]
        rows.append((name, *counts, *cells))
    sizes = [f"{size} px" for size in last]
    header = ["class", "images", "boxes"]
    header += [f"{metric} {side}" for metric in ("mAP50", "mAP50-95") for side in ("published, 640 px", *sizes)]
    trained = ", then ".join(
        f"{record['settings']['stages'][name]['epochs']} epochs at {stage['imgsz']} px "
        f"({stage['cost']['merged']['gflops']:.2f} merged GFLOPs, {stage['training_seconds'] / 60:.0f} minutes)"
        for name, stage in stages.items()
    )
    about = (
        f"`{record['model']}`, {trained}; {machine['cores']} core(s) of {machine['processor']}, "
        f"torch {machine['versions']['torch']}, {record['date']}. `{record['command']}`"
    )
    return f"{markdown(header, rows)}\n\n{about}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--published", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("runs/coco128"))
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    folder = given.folder.resolve()
    stages = {}
    for name, run in train(given.model, given.data, folder).items():
        imgsz = STAGES[name]["imgsz"]
        best = run / "weights" / "best.pt"
        collapsed = collapse(best, data=given.data, imgsz=imgsz)
        stages[name] = {
            "imgsz": imgsz,
            "training_seconds": elapsed(learning_curve(run / "results.csv")["seconds"]),
            "cost": {form: vars(cost) for form, cost in both_forms(network(open_detector(best)), imgsz).items()},
            "equality": collapsed.equality and collapsed.equality.to_dict(),
            "figures": figures(collapsed.checkpoint, given.data, imgsz),
        }
    record = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/coco128.py --data {Path(given.data).name}"
        + (f" --published {given.published.name}" if given.published else ""),
        "model": Path(given.model).name,
        "machine": machine(),
        "settings": {"shared": SHARED, "stages": STAGES},
        "stages": stages,
        "published": published(given.published),
    }
    write_record(given.out, record)
    for name, stage in stages.items():
        found = stage["figures"]["all"]
        print(f"{name}, {stage['imgsz']} px: mAP50 {found['map50']:.3f}, mAP50-95 {found['map50_95']:.3f}")


if __name__ == "__main__":
    main()
