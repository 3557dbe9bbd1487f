"""How long the weights that a training starts from may be: the same function, learnt on faster or more slowly.

    python benchmarks/plasticity.py chess.yaml --longest inf 0.012 [--epochs 40] [--imgsz 160] [--folder FOLDER]

trains `yolo11n-vanillanet` from the package's weights once for each limit (`vanillayolo.nn.plasticity.LONGEST`; `inf`
leaves them as they are, `noise` trains without them) and adds the curves on val to
benchmarks/accuracy/plasticity.json. A run that has ended in the folder is not trained again.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from vanillayolo import VanillaYOLO
from vanillayolo.nn.deep_training import deep_pairs
from vanillayolo.nn.plasticity import shorten
from vanillayolo.study.latency import machine
from vanillayolo.study.protocol import learning_curve
from vanillayolo.valid_json import json_text
from vanillayolo.yolo import own_weights

RECORD = Path(__file__).parent / "accuracy" / "plasticity.json"
MODEL = "yolo11n-vanillanet"


def shortened(model: nn.Module, longest: float) -> None:
    """Shorten the 1x1 convolutions of joined pairs beyond a root mean square."""
    for _, pair in deep_pairs(model):
        if pair.conv1.kernel_size == (1, 1):
            shorten(pair.conv1, pair.norm2, longest)


def rank(weight: torch.Tensor) -> float:
    """Return how many directions a weight ``[rows, columns, 1, 1]`` uses: the exponential of its spectrum's entropy."""
    values = torch.linalg.svdvals(weight.flatten(1))
    shares = values / values.sum()
    return float(torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum()))


def described(checkpoint: Path) -> dict[str, list[float]]:
    """Return root mean square and rank of every 1x1 convolution of a trained network, by name."""
    found = {}
    for name, pair in deep_pairs(VanillaYOLO(checkpoint).model):
        weight = pair.conv1.weight.detach().float()
        if pair.is_joined and pair.conv1.kernel_size == (1, 1):
            found[name] = [round(float(weight.square().mean().sqrt()), 4), round(rank(weight), 1)]
    return found


def run(data: str, longest: str, epochs: int, imgsz: int, folder: Path) -> dict[str, Any]:
    """Train, unless it is done, and return the curve."""
    words = {"epochs": epochs, "imgsz": imgsz, "batch": 8, "seed": 0, "workers": 0, "bfloat16": False, "plots": False}
    name = f"{Path(data).stem}-{imgsz}-{longest}"
    results = folder / name / "results.csv"
    if not results.exists() or len(results.read_text().splitlines()) <= epochs:
        limit = float("inf") if longest == "noise" else float(longest)
        with patch.object(own_weights, "shorten_joined", lambda model: shortened(model, limit)):
            where = {"project": str(folder), "name": name, "exist_ok": True}
            VanillaYOLO(MODEL).train(data=data, pretrained=longest != "noise", **where, **words)
    curve = learning_curve(results)["map50_95"]
    return {
        **{"data": Path(data).stem, "longest": longest, **words, "map50_95": curve, "date": date.today().isoformat()},
        **{"layers": described(folder / name / "weights" / "last.pt"), "machine": machine()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--longest", nargs="+", default=["inf", "0.012"])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--folder", type=Path, default=Path("runs/plasticity"))
    given = parser.parse_args()
    runs = json.loads(RECORD.read_text())["runs"] if RECORD.exists() else []
    for longest in given.longest:
        new = run(given.data, longest, given.epochs, given.imgsz, given.folder.resolve())
        key = ("data", "longest", "epochs", "imgsz")
        runs = [*(old for old in runs if any(old[k] != new[k] for k in key)), new]
        RECORD.write_text(json_text({"model": MODEL, "runs": runs}))
        print(f"{longest}: mAP50-95 on val {new['map50_95'][-1]:.3f} after {given.epochs} epochs")


if __name__ == "__main__":
    main()
