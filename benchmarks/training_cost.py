"""What a training step costs: time, bytes kept for the backward pass, peak memory; ours lever by lever.

    python benchmarks/training_cost.py [--model yolo11n-vanillanet-5-paper] [--imgsz 640] [--batch 2] [--rounds 5]
        [--configs textbook off ...] [--peers yolo11n yolo11n+bfloat16 FILE.yaml ...] [--memory usual kept]

Without arguments it measures the published model at 640 px in batches of 2; the grid of the documentation is
`--imgsz 320 640 --batch 1 2 8`. For every image size, batch and way of memory a process of its own is started,
because the C library's settings are a process's: `usual`, and `kept` as while training (vanillayolo/yolo/allocator.py).
In it, every round runs one step of each configuration in turn. What is measured is written at once: the same command
goes on where it was stopped, and measures again with `--fresh`. A configuration that does not fit into the free memory
is left out and the record says so.

Writes benchmarks/training_cost_DATE_MODEL.json and prints the table; `--render FILE` prints the table of a record.
A step is forward pass, loss and backward pass; the optimizer's step is the same for all and left out.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
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
from vanillayolo.nn.reparameterize import join_pairs
from vanillayolo.study.latency import machine
from vanillayolo.tables import markdown
from vanillayolo.valid_json import json_text
from vanillayolo.yolo import VanillaDetectionModel
from vanillayolo.yolo.allocator import OWN_CHOICE, freed_memory_kept, glibc
from vanillayolo.yolo.architecture import is_model_name
from vanillayolo.yolo.free_memory import free_bytes
from vanillayolo.yolo.memory import predict_memory, sample_batch, saved_bytes
from vanillayolo.yolo.merging import to_float

HERE = Path(__file__).parent
SLOPE = 0.5  # within deep training, where the pair is no linear map


def ours(name: str, lean: str, bfloat16: bool, joined: bool = False) -> Any:
    """Return one of our networks within deep training; joined, as it trains on at slope 1."""
    model: Any = VanillaDetectionModel(name, verbose=False)
    set_negative_slope(model, 1.0 if joined else SLOPE)
    if joined:
        join_pairs(model)
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
    "auto, float32, joined": lambda name: ours(name, "auto", False, joined=True),
    "auto, bfloat16, joined": lambda name: ours(name, "auto", True, joined=True),
    "max, bfloat16, joined": lambda name: ours(name, "max", True, joined=True),
    "off, bfloat16, joined": lambda name: ours(name, "off", True, joined=True),
}


class Bfloat16Model(DetectionModel):
    """A detector of Ultralytics' in bfloat16 as ours is: Ultralytics itself trains in float32 on CPUs."""

    def loss(self, batch: dict[str, Any], preds: Any = None) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            preds = self.forward(batch["img"].contiguous(memory_format=torch.channels_last))
        return super().loss(batch, to_float(preds))


def peer(name: str) -> Any:
    """Return a detector of Ultralytics' by name or YAML file, one of ours by name; ``+bfloat16`` says the type."""
    name, _, bfloat16 = name.partition("+")
    if is_model_name(name):
        return ours(name, "auto", bool(bfloat16))
    return (Bfloat16Model if bfloat16 else DetectionModel)(str(Path(name).with_suffix(".yaml")), verbose=False)


def memory(entry: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes (Linux; 0 elsewhere)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{entry}:")), 0)


def forget_peak() -> None:
    """Let VmHWM start anew, without the memory that the C library holds back for later."""
    gc.collect()
    if (library := glibc()) is not None:
        library.malloc_trim(0)
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def one_step(model: Any, batch: dict[str, torch.Tensor]) -> float:
    """Run one step and return its seconds."""
    model.zero_grad(set_to_none=True)
    begin = time.perf_counter()
    loss, _ = model.loss(batch)
    loss.sum().backward()
    return time.perf_counter() - begin


def measure(models: dict[str, Any], imgsz: int, batch: int, rounds: int, budget: float) -> dict[str, Any]:
    """Return, for every model, seconds of a step, bytes kept and peak memory beyond what was there.

    After ``budget`` seconds no further round is begun, but three there are.
    """
    sample = sample_batch(imgsz, batch, boxes=8)
    record: dict[str, Any] = {}
    for name, model in models.items():
        needed, free = predict_memory(model, imgsz, boxes=8).peak(batch), free_bytes()
        if needed > 0.9 * free:
            record[name] = {"skipped": f"needs {needed / 1e9:.1f} GB of {free / 1e9:.1f} GB free"}
            continue
        one_step(model, sample)  # the libraries are warm from here on
        kept = saved_bytes(model, lambda model=model: model.loss(sample))
        model.zero_grad(set_to_none=True)
        forget_peak()
        before = memory("VmRSS")
        one_step(model, sample)
        record[name] = {"kept_bytes": kept, "peak_bytes": memory("VmHWM") - before, "seconds": []}
        model.zero_grad(set_to_none=True)
    measured = [name for name in models if "seconds" in record[name]]
    begin = time.perf_counter()
    for i in range(rounds):
        if i >= 3 and time.perf_counter() - begin > budget:
            break
        for name in measured[:: -1 if i % 2 else 1]:
            record[name]["seconds"].append(one_step(models[name], sample))
            models[name].zero_grad(set_to_none=True)
    return record


def run_case(given: argparse.Namespace) -> None:
    """Measure one image size, batch and way of memory in this process and write it."""
    torch.set_num_threads(given.threads or machine()["cores"])
    torch.manual_seed(0)
    models = {name: CONFIGS[name](given.model) for name in given.configs} | {name: peer(name) for name in given.peers}
    for model in models.values():
        model.args = DEFAULT_CFG
        model.train()
    with freed_memory_kept(given.memory[0] == "kept") as kept:
        if kept != (given.memory[0] == "kept"):
            sys.exit("memory=kept needs glibc, and no MALLOC_ setting in the environment")
        record = measure(models, given.imgsz[0], given.batch[0], given.rounds, given.budget)
    given.case.write_text(json_text(record))


def start_case(given: argparse.Namespace, imgsz: int, batch: int, way: str) -> dict[str, Any]:
    """Measure one case in a process of its own and return its record."""
    environment = {key: value for key, value in os.environ.items() if key not in {*OWN_CHOICE, "GLIBC_TUNABLES"}}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "case.json"
        words: list[object] = ["--model", given.model, "--imgsz", imgsz, "--batch", batch, "--memory", way]
        words += ["--rounds", given.rounds, "--budget", given.budget, "--threads", given.threads, "--case", out]
        words += ["--configs", *given.configs, "--peers", *given.peers]
        subprocess.run([sys.executable, __file__, *map(str, words)], check=True, env=environment)
        return {"imgsz": imgsz, "batch": batch, "memory": way, "configs": json.loads(out.read_text())}


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolo11n-vanillanet-5-paper")
    parser.add_argument("--imgsz", type=int, nargs="+", default=[640])
    parser.add_argument("--batch", type=int, nargs="+", default=[2])
    parser.add_argument("--memory", nargs="+", default=["usual", "kept"], choices=["usual", "kept"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=900, help="seconds of a case for rounds beyond the third")
    parser.add_argument("--configs", nargs="*", default=list(CONFIGS), choices=list(CONFIGS))
    parser.add_argument("--peers", nargs="*", default=["yolo11n", "yolo11s", "yolo11m", "yolo11l"])
    parser.add_argument("--threads", type=int, default=0, help="0: every core")
    parser.add_argument("--fresh", action="store_true", help="measure what is already in the record again")
    parser.add_argument("--render", type=Path, help="print the table of this record, measure nothing")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", type=Path, help=argparse.SUPPRESS)  # the process of one case
    return parser.parse_args()


def training_table(record: dict[str, Any]) -> str:
    """Return a record of training_cost.py: a table for every image size and batch, ways of memory below each other."""
    parts = []
    for imgsz, batch in dict.fromkeys((case["imgsz"], case["batch"]) for case in record["cases"]):
        cases = [case for case in record["cases"] if (case["imgsz"], case["batch"]) == (imgsz, batch)]
        rows = {
            name + ("" if case.get("memory", "usual") == "usual" else ", memory kept"): row
            for case in cases
            for name, row in case["configs"].items()
        }
        first = next((name for name, row in rows.items() if "seconds" in row), None)
        base = statistics.median(rows[first]["seconds"]) if first else 0.0
        lines = []
        for name, row in rows.items():
            if "skipped" in row:
                lines.append((name, row["skipped"], "", "", ""))
                continue
            times = row["seconds"]
            median = statistics.median(times)
            seconds = f"{median:.2f} ({min(times):.2f} to {max(times):.2f})"
            kept, peak = row["kept_bytes"] / 1e6 / batch, row["peak_bytes"] / 1e6
            lines.append((name, seconds, f"{median / base:.2f}", f"{kept:.0f}", f"{peak:.0f}"))
        header = ("", "s per step (min to max)", f"of {first}", "kept, MB per image", "peak, MB")
        parts.append(f"{record['model']}, {imgsz} px, batch {batch}:\n\n{markdown(header, lines)}")
    machine = record["machine"]
    about = (
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['versions']['torch']}, {record['date']}."
    )
    return "\n\n".join([*parts, f"{about} `{record['command']}`"])


def main() -> None:
    given = arguments()
    if given.render:
        print(training_table(json.loads(given.render.read_text())))
        return
    if given.case:
        run_case(given)
        return
    about = machine()
    head: dict[str, Any] = {
        "date": date.today().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "machine": {**about, "threads": given.threads or about["cores"]},
        "model": Path(given.model).name,
        "slope": SLOPE,
        "cases": [],
    }
    out = given.out or HERE / "time" / f"training_cost_{head['date']}_{Path(given.model).stem}.json"
    before = json.loads(out.read_text()) if out.exists() and not given.fresh else head
    same = all(before[key] == head[key] for key in ("model", "slope", "machine"))
    record = {**head, "cases": before["cases"] if same else []}
    if same and head["command"] not in before["command"]:  # a grid is measured by several
        record["command"] = f"{before['command']}; {head['command']}"
    wanted = {*given.configs, *given.peers}
    for imgsz in given.imgsz:
        for batch in given.batch:
            for way in given.memory:
                this = {"imgsz": imgsz, "batch": batch, "memory": way}
                old = [case for case in record["cases"] if this.items() <= case.items()]
                if old and wanted <= old[0]["configs"].keys():
                    continue
                case = start_case(given, imgsz, batch, way)
                record["cases"] = [c for c in record["cases"] if c not in old] + [case]
                out.write_text(json_text(record))
                print(training_table({**record, "cases": [case]}), flush=True)
    print(training_table(record))


if __name__ == "__main__":
    main()
