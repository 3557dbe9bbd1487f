"""How long the weights that a training starts from may be: the same function, learnt on faster or more slowly.

    python benchmarks/plasticity.py chess.yaml --longest noise inf 0.012 [--model yolo11n-vanillanet] [--weights FILE]
        [--name NAME] [--epochs 40] [--imgsz 160] [--folder FOLDER]

trains a network from weights once for each limit (`vanillayolo.nn.plasticity.LONGEST`; `inf` leaves them as they are,
`noise` trains without them) and adds the curves on val to benchmarks/accuracy/plasticity.json. Weights are the
package's, a file of `vanillayolo pretrain`, or a checkpoint of a stock network, of which every convolution but the
depthwise ones is shortened. `--name` is theirs in the record. A run that has ended in the folder is not trained again.
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

from vanillayolo.nn.deep_training import deep_pairs
from vanillayolo.nn.plasticity import shorten
from vanillayolo.study.latency import machine
from vanillayolo.study.protocol import learning_curve
from vanillayolo.valid_json import json_text
from vanillayolo.yolo import own_weights
from vanillayolo.yolo.detectors import network, open_detector, train_detector

RECORD = Path(__file__).parent / "accuracy" / "plasticity.json"


def normalised(model: nn.Module) -> list[tuple[str, nn.Conv2d, nn.BatchNorm2d]]:
    """Return the convolutions that a normalisation follows: of ours the 1x1 ones of joined pairs, of stock all."""
    found = [(name, pair.conv1, pair.norm2) for name, pair in deep_pairs(model) if pair.is_joined]
    found += [(name, m.conv, m.bn) for name, m in model.named_modules() if hasattr(m, "conv") and hasattr(m, "bn")]
    ours = bool(deep_pairs(model))
    return [(n, c, b) for n, c, b in found if c.groups == 1 and (c.kernel_size == (1, 1) or not ours)]


def shortened(model: nn.Module, longest: float) -> None:
    """Shorten the convolutions that a normalisation follows beyond a root mean square."""
    for _, convolution, norm in normalised(model):
        shorten(convolution, norm, longest)


def rank(weight: torch.Tensor) -> float:
    """Return how many directions a weight ``[rows, columns, 1, 1]`` uses: the exponential of its spectrum's entropy."""
    values = torch.linalg.svdvals(weight.flatten(1))
    shares = values / values.sum()
    return float(torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum()))


def described(checkpoint: Path) -> dict[str, list[float]]:
    """Return root mean square and rank of the convolutions of a trained network that were shortened, by name."""
    found = {}
    for name, convolution, _ in normalised(network(open_detector(checkpoint))):
        weight = convolution.weight.detach().float()
        found[name] = [round(float(weight.square().mean().sqrt()), 4), round(rank(weight), 1)]
    return found


def start_of(weights: Path, limit: float, folder: Path) -> str:
    """Return a checkpoint of a stock network with its weights shortened."""
    kept = torch.load(weights, map_location="cpu", weights_only=False)  # one of our own making
    for key in ("model", "ema"):
        if kept.get(key) is not None:
            kept[key] = kept[key].float()
            shortened(kept[key], limit)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(kept, folder / weights.name)
    return str(folder / weights.name)


def run(given: argparse.Namespace, longest: str) -> dict[str, Any]:
    """Train, unless it is done, and return the curve."""
    words = {"epochs": given.epochs, "imgsz": given.imgsz, "batch": 8, "seed": 0, "workers": 0}
    words |= {"bfloat16": False, "plots": False}
    data, model, weights = Path(given.data).stem, given.model, given.weights
    about = {"data": data, "model": model, "start": "noise" if longest == "noise" else given.name, "longest": longest}
    folder = given.folder.resolve() / "-".join(map(str, about.values()))
    results = folder / "results.csv"
    if not results.exists() or len(results.read_text().splitlines()) <= given.epochs:
        limit, start = float("inf") if longest == "noise" else float(longest), str(weights or True)
        settings = {**words, "pretrained": longest != "noise" and (start if weights else True)}
        if longest != "noise" and start.endswith(".pt"):
            model = start_of(weights, limit, folder / "start")
            del settings["pretrained"]
        with patch.object(own_weights, "shorten_joined", lambda network: shortened(network, limit)):
            train_detector(model, given.data, folder, settings)
    curve = learning_curve(results)["map50_95"]
    last = described(folder / "weights" / "last.pt")
    return {**about, **words, "map50_95": curve, "date": date.today().isoformat(), "layers": last, "machine": machine()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--longest", nargs="+", default=["inf", "0.012"])
    parser.add_argument("--model", default="yolo11n-vanillanet")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--name", default="package")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--folder", type=Path, default=Path("runs/plasticity"))
    given = parser.parse_args()
    for longest in given.longest:
        new = run(given, longest)
        runs = json.loads(RECORD.read_text())["runs"] if RECORD.exists() else []
        key = ("data", "model", "start", "longest", "epochs", "imgsz")
        runs = [*(old for old in runs if any(old[k] != new[k] for k in key)), new]
        RECORD.write_text(json_text({"runs": runs}))
        print(f"{new['model']}, {longest}: mAP50-95 on val {new['map50_95'][-1]:.3f} after {given.epochs} epochs")


if __name__ == "__main__":
    main()
