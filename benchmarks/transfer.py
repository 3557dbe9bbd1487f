"""What pretraining the backbone is worth: a classifier on small pictures, then its weights in a detector.

    python benchmarks/transfer.py --pictures path/to/cifar10_small --data bccd.yaml [--seeds 0 1 2] [--from crops]

The classifier is the detector's backbone (VanillaNet-10 at 1/8 of its width); ``--from crops``
trains it on the boxes of the detection data's own training images instead. The detector is trained three ways under
one budget: ``scratch`` (deep training), ``pretrained`` (slope fixed at 1) and ``decayed`` (the same, with the
authors' layer-wise learning rates, 0.6 a stage). A run that is there is not trained again, an interrupted one is
resumed. All runs are in benchmarks/accuracy/transfer.json.
"""

from __future__ import annotations

import argparse
import csv
import sys
from datetime import date
from pathlib import Path
from typing import Any

import torch
from runs import about_runs, add_run, grouped, has_run

from vanillayolo import VanillaYOLO
from vanillayolo.data import make_crops
from vanillayolo.study.latency import machine
from vanillayolo.study.records import spread, with_spread
from vanillayolo.tables import markdown
from vanillayolo.words import parse_value
from vanillayolo.yolo.families import INITS, starts

DETECTOR, CLASSIFIER = "yolo11n-vanillanet-10", "vanillanet-10-w0.125-cls"
PRETRAINING: dict[str, Any] = {
    "epochs": 40,
    "imgsz": 64,
    "batch": 64,
    "optimizer": "AdamW",
    "lr0": 0.002,
    "plots": False,
}
PROTOCOL: dict[str, Any] = {"epochs": 40, "imgsz": 320, "batch": 8, "plots": False}
WAYS: dict[str, dict[str, Any]] = {
    "scratch": {},
    "pretrained": {"weights": True},
    "decayed": {"weights": True, "layer_decay": 0.6},
}
RESULTS = Path(__file__).parent / "accuracy" / "transfer.json"


def train(model: str, run: Path, settings: dict[str, Any]) -> Path:
    """Train, or finish what an earlier call began, and return best.pt."""
    last, results = run / "weights" / "last.pt", run / "results.csv"
    done = sum(1 for _ in results.open()) - 1 if results.exists() else 0
    if done < settings["epochs"]:
        if last.exists():
            VanillaYOLO(last).train(resume=True)
        else:
            VanillaYOLO(model).train(project=str(run.parent), name=run.name, exist_ok=True, **settings)
    return run / "weights" / "best.pt"


def backbone_file(checkpoint: Path) -> Path:
    """Write a trained classifier's tensors under the names that ``weights=`` takes and return the file."""
    target = checkpoint.with_name("backbone.pth")
    model: Any = VanillaYOLO(checkpoint).model
    state = {k.removeprefix("model.0."): v for k, v in model.state_dict().items() if k.startswith("model.0.")}
    torch.save({"model": state}, target)
    return target


def transfer_table(record: dict[str, Any]) -> str:
    """Return mAP of each way to begin, over seeds."""
    rows = []
    keys = ("data", "way", *INITS, "classifier")
    for (data, way, series, pairs, classifier), runs in grouped(record["runs"], *keys).items():
        metrics = (with_spread(spread([r[m] for r in runs]), 1, 100) for m in ("map50", "map"))
        begun = f"series {series}, pairs {pairs}" + (f"; classifier: {classifier}" if classifier else "")
        rows.append((f"{data}: {way}, begun at {begun}", *metrics, len(runs)))
    header = ("data: way", "val mAP50", "val mAP50-95", "seeds")
    return f"{markdown(header, rows)}\n\n{about_runs(record['runs'])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="classification folder of the pretraining")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--detector", default=DETECTOR)
    parser.add_argument("--classifier", default=CLASSIFIER, help="the detector's backbone as a classifier")
    parser.add_argument("--from", dest="source", choices=("pictures", "crops"), default="pictures")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--runs", type=Path, default=Path("runs") / "transfer")
    parser.add_argument("--pretraining", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    runs, folder = given.runs.resolve(), given.pictures
    if given.source == "crops":
        folder = runs / f"{given.data.stem}_crops"
        if not folder.exists():
            make_crops(given.data, folder, most=2000)
    if folder is None:
        parser.error("give --pictures FOLDER or --from crops")
    name = f"{given.data.stem}_from_{folder.name}"
    begun = starts(VanillaYOLO(given.detector).model.yaml)
    pretraining_begun = "series {series_init}, pairs {pair_init}".format(
        **starts(VanillaYOLO(given.classifier).model.yaml)
    )
    before = {**PRETRAINING, **{k: parse_value(v) for k, v in (p.split("=", 1) for p in given.pretraining)}}
    settings = {**PROTOCOL, **{k: parse_value(v) for k, v in (p.split("=", 1) for p in given.set)}}
    for seed in given.seeds:
        for way in given.ways:
            extra, top1 = dict(WAYS[way]), None
            classifier = pretraining_begun if "weights" in extra else None
            if has_run(RESULTS, data=name, way=way, **begun, classifier=classifier, seed=seed):
                continue
            if extra.pop("weights", False):
                run = runs / f"{folder.name}_seed{seed}"
                best = train(given.classifier, run, {**before, "data": str(folder), "seed": seed})
                extra["weights"] = str(backbone_file(best))
                top1 = VanillaYOLO(best).val(data=str(folder), imgsz=before["imgsz"], plots=False, verbose=False).top1
            run = runs / f"{name}_{way}_seed{seed}"
            best = train(given.detector, run, {**settings, **extra, "data": str(given.data), "seed": seed})
            box = (
                VanillaYOLO(best)
                .val(data=str(given.data), imgsz=settings["imgsz"], plots=False, verbose=False, batch=16)
                .box
            )
            with (run / "results.csv").open() as file:
                rows = list(csv.DictReader(file))
            record = {
                "date": date.today().isoformat(),
                "command": " ".join(["python benchmarks/transfer.py", *sys.argv[1:]]),
                "data": name,
                "way": way,
                **begun,
                "classifier": classifier,
                "seed": seed,
                "pretraining": {**before, "data": folder.name, "top1": top1} if top1 is not None else None,
                "settings": {**settings, **{k: v for k, v in extra.items() if k != "weights"}},
                "machine": machine(),
                "map50": float(box.map50),
                "map": float(box.map),
                "map_per_epoch": [float(row["metrics/mAP50-95(B)"]) for row in rows],
                "training_seconds": float(rows[-1]["time"]),
            }
            add_run(RESULTS, record)
            print(name, way, seed, record["map50"], record["map"])


if __name__ == "__main__":
    main()
