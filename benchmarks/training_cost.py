"""What a training step costs: time, bytes kept for the backward pass, peak memory; ours lever by lever.

    python benchmarks/training_cost.py [--model yolo11n-vanillanet-5-paper] [--imgsz 640] [--batch 2] [--rounds 5]
        [--configs textbook off ...] [--peers yolo11n ...] [--threads 2]

Every round runs one step of each configuration in turn, all in this process. Writes
benchmarks/training_cost_DATE_MODEL.json and prints the table; `--render FILE` prints the table of a record.
A step is forward pass, loss and backward pass; the optimizer's step is the same for all and left out.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from textbook import textbook_model
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG

from vanillayolo.nn import SeriesActivation, set_lean, set_negative_slope
from vanillayolo.study.latency import machine
from vanillayolo.yolo import VanillaDetectionModel
from vanillayolo.yolo.memory import sample_batch, saved_bytes

HERE = Path(__file__).parent
SLOPE = 0.5  # within deep training, where the pair is no linear map


def ours(name: str, lean: str, bfloat16: bool) -> Any:
    model: Any = VanillaDetectionModel(name, verbose=False)
    set_negative_slope(model, SLOPE)
    set_lean(model, lean)
    model.bfloat16 = bfloat16
    return model


def strips_only(name: str) -> Any:
    """Return torch's autograd but for the weight gradient of the depthwise convolutions."""
    model = ours(name, "off", False)
    for module in model.modules():
        if isinstance(module, SeriesActivation):
            module.lean = "auto"
    return model


#: Name of a configuration: what builds it. The levers are added one by one.
CONFIGS: dict[str, Callable[[str], Any]] = {
    "textbook": lambda name: textbook_model(ours(name, "off", False)),
    "off, float32": lambda name: ours(name, "off", False),
    "depthwise gradient": strips_only,
    "auto, float32": lambda name: ours(name, "auto", False),
    "max, float32": lambda name: ours(name, "max", False),
    "off, bfloat16": lambda name: ours(name, "off", True),
    "auto, bfloat16": lambda name: ours(name, "auto", True),
    "max, bfloat16": lambda name: ours(name, "max", True),
}


def peer(name: str) -> Any:
    return DetectionModel(f"{name}.yaml", verbose=False)


def memory(entry: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes (Linux; 0 elsewhere)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{entry}:")), 0)


def forget_peak() -> None:
    """Let VmHWM start anew, without the memory that the C library holds back for later."""
    gc.collect()
    if hasattr(trim := ctypes.CDLL(None), "malloc_trim"):
        trim.malloc_trim(0)
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def one_step(model: Any, batch: dict[str, torch.Tensor]) -> float:
    """Run one step and return its seconds."""
    model.zero_grad(set_to_none=True)
    begin = time.perf_counter()
    loss, _ = model.loss(batch)
    loss.sum().backward()
    return time.perf_counter() - begin


def measure(models: dict[str, Any], imgsz: int, batch: int, rounds: int) -> dict[str, Any]:
    """Return, for every model, seconds of a step, bytes kept and peak memory beyond what was there."""
    sample = sample_batch(imgsz, batch, boxes=8)
    record: dict[str, Any] = {}
    for name, model in models.items():
        one_step(model, sample)  # the gradients exist from here on, and the libraries are warm
        kept = saved_bytes(model, lambda model=model: model.loss(sample))
        model.zero_grad(set_to_none=True)
        forget_peak()
        before = memory("VmRSS")
        one_step(model, sample)
        record[name] = {"kept_bytes": kept, "peak_bytes": memory("VmHWM") - before, "seconds": []}
        model.zero_grad(set_to_none=True)
    for i in range(rounds):
        for name in list(models)[:: -1 if i % 2 else 1]:
            record[name]["seconds"].append(one_step(models[name], sample))
            models[name].zero_grad(set_to_none=True)
    return record


def table(record: dict[str, Any]) -> str:
    """Return a record as Markdown: one table for every image size and batch."""
    parts = []
    for case in record["cases"]:
        rows = case["configs"]
        first = next(iter(rows))
        base = statistics.median(rows[first]["seconds"])
        parts.append(f"\n{case['imgsz']} px, batch {case['batch']}\n")
        parts.append(f"| | s per step (min to max) | of {first} | kept, MB per image | peak, MB |")
        parts.append("| --- | ---: | ---: | ---: | ---: |")
        for name, row in rows.items():
            times = row["seconds"]
            median = statistics.median(times)
            parts.append(
                f"| {name} | {median:.2f} ({min(times):.2f} to {max(times):.2f}) | {median / base:.2f} | "
                f"{row['kept_bytes'] / 1e6 / case['batch']:.0f} | {row['peak_bytes'] / 1e6:.0f} |"
            )
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolo11n-vanillanet-5-paper")
    parser.add_argument("--imgsz", type=int, nargs="+", default=[640])
    parser.add_argument("--batch", type=int, nargs="+", default=[2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--configs", nargs="*", default=list(CONFIGS), choices=list(CONFIGS))
    parser.add_argument("--peers", nargs="*", default=["yolo11n", "yolo11s", "yolo11m", "yolo11l"])
    parser.add_argument("--threads", type=int, default=0, help="0: every core")
    parser.add_argument("--render", type=Path, help="print the table of this record, measure nothing")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.render:
        print(table(json.loads(given.render.read_text())))
        return
    about = machine()
    torch.set_num_threads(given.threads or about["cores"])
    torch.manual_seed(0)
    models = {name: CONFIGS[name](given.model) for name in given.configs} | {name: peer(name) for name in given.peers}
    for model in models.values():
        model.args = DEFAULT_CFG
        model.train()
    record: dict[str, Any] = {
        "date": date.today().isoformat(),
        "command": "python " + " ".join(sys.argv),
        "machine": {**about, "threads": torch.get_num_threads()},
        "model": given.model,
        "slope": SLOPE,
        "cases": [
            {"imgsz": s, "batch": b, "configs": measure(models, s, b, given.rounds)}
            for s in given.imgsz
            for b in given.batch
        ],
    }
    out = given.out or HERE / f"training_cost_{record['date']}_{given.model}.json"
    out.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))


if __name__ == "__main__":
    main()
