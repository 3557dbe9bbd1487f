"""Top-1 of small classifiers under one budget: VanillaNet-6 at a share of its width against timm's networks.

    python benchmarks/classification.py --data path/to/cifar10_small [--name cifar10_small] [--crops bccd.yaml]
        [--models vanillanet-6-w0.125-cls resnet18 fasternet_t0] [--seeds 0 1 2] [--set epochs=20]

Every network is trained by the same trainer, data, augmentation, optimizer and number of epochs (timm's are put into
the trainer's model as they are; they have no pairs, so nothing is trained deep). A run that is there is not
trained again; an interrupted one is resumed where the network is ours, else begun anew. All runs are in
benchmarks/accuracy/classification.json.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from datetime import date
from pathlib import Path
from typing import Any

import timm
import torch
from runs import about_runs, add_run, grouped, has_run
from torch import nn
from ultralytics.models.yolo.classify import ClassificationTrainer, ClassificationValidator
from ultralytics.nn.tasks import ClassificationModel

from vanillayolo import VanillaYOLO
from vanillayolo.data import check_folders, make_crops
from vanillayolo.study.cost import cost
from vanillayolo.study.latency import machine
from vanillayolo.study.records import spread, with_spread
from vanillayolo.tables import markdown
from vanillayolo.words import parse_value
from vanillayolo.yolo.architecture import is_model_name
from vanillayolo.yolo.families import INITS, starts

PROTOCOL: dict[str, Any] = {
    "epochs": 30,
    "imgsz": 64,
    "batch": 64,
    "optimizer": "AdamW",
    "lr0": 0.002,
    "weight_decay": 0.02,
    "cos_lr": True,
    "warmup_epochs": 2.0,
    "auto_augment": None,
    "plots": False,
}
MODELS = ("vanillanet-6-w0.125-cls", "resnet18", "fasternet_t0")
RESULTS = Path(__file__).parent / "accuracy" / "classification.json"


class TimmHead(nn.Module):
    """A timm network that answers as Ultralytics' classification models do."""

    def __init__(self, name: str, classes: int) -> None:
        super().__init__()
        self.network = timm.create_model(name, num_classes=classes)

    def forward(self, x: torch.Tensor) -> Any:
        logits = self.network(x)
        return logits if self.training else (logits.softmax(1), logits)


class TimmModel(ClassificationModel):
    """A timm network under Ultralytics' trainer: its one row."""

    def __init__(self, name: str, classes: int) -> None:
        cfg = {"nc": classes, "backbone": [[-1, 1, "nn.Identity", []]], "head": []}
        super().__init__(cfg, nc=classes, verbose=False)
        head: Any = TimmHead(name, classes)
        head.f, head.i, head.type, head.np = -1, 0, name, sum(p.numel() for p in head.parameters())
        self.model = nn.Sequential(head)


class TimmTrainer(ClassificationTrainer):
    """Ultralytics' own trainer with a timm network in it; the best average is validated as it stands."""

    timm_name = ""

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> TimmModel:
        return TimmModel(self.timm_name, self.data["nc"])

    def setup_model(self) -> None:
        if not isinstance(self.model, nn.Module):
            self.model = self.get_model()

    def get_validator(self) -> ClassificationValidator:
        return super().get_validator()

    def final_eval(self) -> None:
        """The last epoch's figures are those of the average; nothing is opened from a file."""


def train_ours(model: str, run: Path, settings: dict[str, Any]) -> tuple[dict[str, Any], nn.Module]:
    """Train, or go on with, one of our classifiers; return its figures and the merged network."""
    last, best = run / "weights" / "last.pt", run / "weights" / "best.pt"
    rows = read_rows(run)
    if len(rows) < settings["epochs"]:
        where = {"project": str(run.parent), "name": run.name, "exist_ok": True}
        if last.exists() and rows:
            VanillaYOLO(last).train(resume=True)
        else:
            VanillaYOLO(model).train(**settings, **where)
    trained = VanillaYOLO(best)
    metrics = trained.val(data=settings["data"], imgsz=settings["imgsz"], plots=False, verbose=False)
    merged = trained.model.float().eval()
    parameters = sum(p.numel() for p in merged.parameters())
    return {"top1_best_merged": metrics.top1, "parameters_training": parameters}, merged.fuse(verbose=False)


def train_timm(model: str, run: Path, settings: dict[str, Any]) -> tuple[dict[str, Any], nn.Module]:
    """Train a timm network in the same trainer from its beginning; return its figures and the network."""
    TimmTrainer.timm_name = model
    where = {"project": str(run.parent), "name": run.name, "exist_ok": True, "model": "yolo11n-cls.yaml"}
    trainer = TimmTrainer(overrides={**settings, **where, "task": "classify"})
    trainer.train()
    network = trainer.ema.ema.model.float().eval()
    return {"parameters_training": sum(p.numel() for p in network.parameters())}, network


def read_rows(run: Path) -> list[dict[str, str]]:
    """Return the rows of a run's results.csv."""
    path = run / "results.csv"
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def classification_table(record: dict[str, Any]) -> str:
    """Return top-1 of the last epoch over seeds, beside size and training time."""
    rows = []
    by_data = sorted(record["runs"], key=lambda run: str(run["data"]))
    for (data, model, series, pairs), runs in grouped(by_data, "data", "model", *INITS).items():
        top1 = with_spread(spread([r["top1_last_epoch"] for r in runs]), 1, 100)
        seconds = f"{statistics.median(r['training_seconds'] for r in runs):.0f}"
        begun = [start for start in (series, pairs) if start not in (None, "noise")]
        name = f"{data}: `{model}`" + (f", begun at {' and '.join(begun)}" if begun else "")
        cost = (f"{runs[0]['parameters'] / 1e6:.2f}", f"{runs[0]['gflops'] * 1e3:.1f}")
        rows.append((name, top1, len(runs), *cost, seconds))
    header = ("data: model", "top-1, %", "seeds", "M parameters", "MFLOPs", "training, s (median)")
    return f"{markdown(header, rows)}\n\n{about_runs(record['runs'])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="classification folder")
    parser.add_argument("--crops", type=Path, help="detection data YAML whose boxes are cut out instead")
    parser.add_argument("--name", help="name of the data in the results")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs") / "classification")
    parser.add_argument("--most", type=int, default=1000, help="crops of one class in one split at most")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    if (given.data is None) == (given.crops is None):
        parser.error("give --data or --crops")
    name = given.name or (given.data.name if given.data else f"{given.crops.stem}_crops")
    folder = given.data
    if folder is None:
        folder = given.runs.resolve() / name
        if not folder.exists():
            make_crops(given.crops, folder, most=given.most)
    settings = {**PROTOCOL, **{k: parse_value(v) for k, v in (pair.split("=", 1) for pair in given.set)}}
    for seed in given.seeds:
        for model in given.models:
            ours = is_model_name(model)
            begun = starts(VanillaYOLO(model).model.yaml) if ours else dict.fromkeys(INITS)
            if has_run(RESULTS, data=name, model=model, **begun, seed=seed):
                continue
            run = given.runs.resolve() / f"{name}_{model}_seed{seed}"
            full = {**settings, "data": str(check_folders(folder)), "seed": seed}
            figures, network = (train_ours if ours else train_timm)(model, run, full)
            rows = read_rows(run)
            top1 = [float(row["metrics/accuracy_top1"]) for row in rows]
            measured = cost(network, settings["imgsz"])
            record = {
                "date": date.today().isoformat(),
                "command": " ".join(["python benchmarks/classification.py", *sys.argv[1:]]),
                "data": name,
                "model": model,
                **begun,
                "seed": seed,
                "settings": settings,
                "machine": machine(),
                "top1_last_epoch": top1[-1],
                "top1_best_epoch": max(top1),
                "top1_per_epoch": top1,
                "training_seconds": float(rows[-1]["time"]),
                "parameters": measured.parameters,
                "gflops": measured.gflops,
                **figures,
            }
            add_run(RESULTS, record)
            print(name, model, seed, top1[-1])


if __name__ == "__main__":
    main()
