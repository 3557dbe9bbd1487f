"""Candidates for the family's n: accuracy after a short training, and latency beside YOLO11n in one run.

    python benchmarks/family_search.py train bccd.yaml [--names NAME ...] [--epochs 12] [--imgsz 160] [--seeds 0]
    python benchmarks/family_search.py latency [--names NAME ...] [--imgsz 320] [--rounds 25]
    python benchmarks/family_search.py show

Adds to benchmarks/method/family_search.json, or --out; a run that stands there already is not done again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from runs import add_run, has_run, runs_of

from vanillayolo import VanillaYOLO
from vanillayolo.study.latency import latency, machine
from vanillayolo.yolo import model_yaml
from vanillayolo.yolo.architecture import dump_yaml
from vanillayolo.yolo.inference import stock_model, trace_onnx

OUT = Path(__file__).parent / "method" / "family_search.json"
STRIDES = [1, 2, 2, 1, 1, 1, 2, 1]
WIDE, SLIM = [64, 64, 128, 256, 256, 256, 256, 512, 512], [32, 64, 128, 192, 192, 192, 192, 384, 384]
FINE = [1, 1, 2, 2, 2, 2, 2, 2, 2]  # 3x3 where maps are large, 5x5 elsewhere

#: ``slim-48`` is what the design ``slim`` is now.
#: Settings of the backbone's row; ``neck``: n and pooling first of the neck's stages, ``head``: n of the head's;
#: ``last``: n of a stage in the place of SPPF.
CANDIDATES: dict[str, dict[str, Any]] = {
    "yolo11n-vanillanet-10": {"dims": WIDE, "strides": STRIDES, "act_num": 3},
    "5x5": {"act_num": 2},
    "fine": {"act_num": FINE},
    "5x5-first": {"act_num": 2, "pool_first": True},
    "fine-first": {"act_num": FINE, "pool_first": True},
    "slim-first": {"dims": SLIM, "act_num": FINE, "pool_first": True},
    "slim": {"dims": [32, 64, 96, 192, 192, 192, 192, 384, 384], "act_num": FINE},
    "slim-first-p3": {
        "dims": [32, 64, 128, 128, 192, 192, 192, 384, 384],
        "strides": [1, 2, 1, 2, 1, 1, 2, 1],
        "act_num": FINE,
        "pool_first": True,
    },
    "slim-first-stage": {"dims": SLIM, "act_num": FINE, "pool_first": True, "neck": [2, True], "last": 3},
    "slim-first-5x5": {"dims": SLIM, "act_num": 2, "pool_first": True, "neck": [2, True], "last": 2},
    "slim-48": {"dims": [48, *SLIM[1:]], "act_num": 2, "pool_first": True, "neck": [2, True], "last": 2},
    "slim-48-after": {"dims": [48, *SLIM[1:]], "act_num": 2, "neck": [2, True], "last": 2},
    "slim-first-3x3": {"dims": SLIM, "act_num": [1] * 7 + [2] * 2, "pool_first": True, "neck": [2, True], "last": 3},
}


def candidate(name: str) -> dict[str, Any]:
    """Return the YAML of a candidate."""
    cfg = model_yaml("yolo11n-vanillanet-10")
    change = dict(CANDIDATES[name])
    neck, head, last = change.pop("neck", [2, False]), change.pop("head", 2), change.pop("last", None)
    settings = cfg["backbone"][0][3][0]
    settings |= {"dims": WIDE, "strides": STRIDES} | change
    halvings = [i for i, stride in enumerate(settings["strides"]) if stride == 2]
    ends = [*(i - 1 for i in halvings[1:]), len(settings["strides"]) - 1][-3:]
    for row, end in zip(cfg["backbone"][1:], ends, strict=True):
        row[3][0] = settings["dims"][end + 1]
    for row in cfg["head"]:
        if row[2] == "VanillaStage":
            row[3][2:] = neck
        elif row[2] == "SPPF" and last is not None:
            row[2:] = ["VanillaStage", [1024, 1, last]]
    cfg["head_stages"]["act_num"] = head
    return cfg


def written(name: str, folder: str) -> str:
    """Return what a network is built from: a name of Ultralytics', or a candidate's file."""
    if name not in CANDIDATES:
        return name
    path = Path(folder) / f"yolo11n-{name}.yaml"
    path.write_text(dump_yaml(candidate(name)), encoding="utf-8")
    return str(path)


def train(given: argparse.Namespace) -> None:
    """Train candidates on a set and add the accuracy on its validation split."""
    for seed in given.seeds:
        for name in given.names:
            data = Path(given.data).stem
            key = {"network": name, "data": data, "epochs": given.epochs, "imgsz": given.imgsz, "seed": seed}
            if has_run(given.out, **key):
                continue
            started = time.time()
            with tempfile.TemporaryDirectory() as folder:
                source = written(name, folder)
                model = VanillaYOLO(source)
                settings: dict[str, Any] = {"data": given.data, "imgsz": given.imgsz, "workers": 0, "plots": False}
                settings |= {"verbose": False, "project": folder, "batch": 8}
                recipe = {"nbs": 8, "optimizer": "AdamW", "lr0": 2e-3, "bfloat16": False, "pretrained": False}
                model.train(**settings, **recipe, epochs=given.epochs, seed=seed, name="run")
                best = VanillaYOLO(Path(folder) / "run" / "weights" / "best.pt")
                box = best.val(**settings, name="val").box
            result = {"map50": float(box.map50), "map50_95": float(box.map), "per_class": box.maps.tolist()}
            minutes = round((time.time() - started) / 60, 1)
            command = "python " + " ".join(sys.argv)
            add_run(given.out, {**key, **result, "minutes": minutes, "command": command, **machine()})


def measure(given: argparse.Namespace) -> None:
    """Time the merged candidates beside YOLO11n, in turns, and add the medians."""
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name in ["yolo11n", *given.names]:
            source = written(name, folder)
            network = VanillaYOLO(source).model if name in CANDIDATES else stock_model(name)
            files[name] = trace_onnx(network.fuse(verbose=False), f"{folder}/{name}.onnx", given.imgsz)
        backends = given.backends or ["onnxruntime", "openvino"]
        add_run(given.out, {"kind": "latency", **latency(files, backends, given.imgsz, given.rounds)})


def show(given: argparse.Namespace) -> None:
    """Print what the file has."""
    for run in runs_of(given.out):
        if "network" in run:
            words = [f"{run[key]:>8}" for key in ("data", "epochs", "imgsz", "seed")]
            print(f"{run['network']:24s}", *words, f"{run['map50']:.3f} {run['map50_95']:.3f} {run['minutes']} min")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["train", "latency", "show"])
    parser.add_argument("data", nargs="?", default="")
    parser.add_argument("--names", nargs="+", default=list(CANDIDATES))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--backends", nargs="+")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    {"train": train, "latency": measure, "show": show}[given.mode](given)


if __name__ == "__main__":
    main()
