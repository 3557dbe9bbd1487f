"""Train a model on BCCD, collapse it, validate both files, keep the figures.

    python benchmarks/bccd.py --data path/to/bccd/bccd.yaml [--model yolo11n-vanillanet] [--seed 0] [--set decay=0.5]

A finished run is not trained again, an interrupted one is resumed. Writes benchmarks/bccd_MODEL_seedS_DATE.json.
"""

from __future__ import annotations

import argparse
import csv
import json
from datetime import date
from pathlib import Path
from typing import Any

from vanillayolo import VanillaYOLO
from vanillayolo.cli import parse_value
from vanillayolo.deploy import collapse
from vanillayolo.study.latency import machine

PROTOCOL: dict[str, Any] = {"epochs": 40, "imgsz": 320, "batch": 8}


def train(model: str, data: str, run: Path, settings: dict[str, Any]) -> Path:
    """Train, or finish what an earlier call began, and return best.pt."""
    last, results = run / "weights" / "last.pt", run / "results.csv"
    done = sum(1 for _ in results.open()) - 1 if results.exists() else 0
    if done < settings["epochs"]:
        where = {"project": str(run.parent), "name": run.name, "exist_ok": True}
        if last.exists():
            VanillaYOLO(last).train(resume=True)
        else:
            VanillaYOLO(model).train(data=data, **settings, **where)
    return run / "weights" / "best.pt"


def scores(file: Path, data: str, split: str, imgsz: int) -> dict[str, Any]:
    """Validate a file and return its figures, per class too."""
    box = VanillaYOLO(file).val(data=data, split=split, imgsz=imgsz, plots=False, verbose=False, batch=16).box
    return {"map50": float(box.map50), "map": float(box.map), "map_per_class": [float(v) for v in box.maps]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="yolo11n-vanillanet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs") / "bccd")
    parser.add_argument("--split", nargs="+", default=["val"])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    extra = {k: parse_value(v) for k, v in (pair.split("=", 1) for pair in given.set)}
    settings = {**PROTOCOL, "seed": given.seed, **extra}
    name = "_".join([given.model, f"seed{given.seed}", *(f"{k}{v}" for k, v in extra.items())])
    run = given.runs.resolve() / name
    best = train(given.model, given.data, run, settings)
    result = collapse(best)
    with (run / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    record = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/bccd.py --data bccd.yaml --model {given.model} --seed {given.seed}"
        + (f" --set {' '.join(given.set)}" if given.set else ""),
        "model": given.model,
        "settings": settings,
        "machine": machine(),
        "training_seconds": float(rows[-1]["time"]),
        "slopes": [float(row["metrics/negative_slope"]) for row in rows],
        "checkpoint": {s: scores(best, given.data, s, settings["imgsz"]) for s in given.split},
        "collapsed": {s: scores(result.checkpoint, given.data, s, settings["imgsz"]) for s in given.split},
        "equality": result.equality.to_dict() if result.equality else None,
        "parameters": result.parameters,
    }
    out = Path(__file__).parent / f"bccd_{name}_{date.today().isoformat()}.json"
    out.write_text(json.dumps(record, indent=1) + "\n")
    print(out, record["checkpoint"], record["collapsed"])


if __name__ == "__main__":
    main()
