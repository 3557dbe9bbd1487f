"""What a training step costs beside busy processes, by how torch's threads are chosen.

    python benchmarks/busy_machine.py [--cores 2] [--busy 0 1 2] [--seconds 20] [--rounds 3]

Each case is a process of its own, on the first cores of this process, beside so many processes that only count; the
policies run in turns. Writes benchmarks/time/busy_machine.json and prints the table: milliseconds a step, in brackets
how many times the fair share: the fastest idle time by one process' share of the cores, N + 1 times beside N busy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

OUT = Path(__file__).parent / "time" / "busy_machine.json"
#: By policy: its environment.
POLICIES: dict[str, dict[str, str]] = {
    "all cores": {},
    "all cores, passive waiting": {"OMP_WAIT_POLICY": "passive"},
    "GOMP_SPINCOUNT=1000, all cores": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=10000, all cores": {"GOMP_SPINCOUNT": "10000"},
    "free cores": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
SPIN = "while True: pass"


def steps(policy: str, given: argparse.Namespace) -> list[float]:
    """Train for the seconds given and return what every step took, seconds; the first fifth is not counted."""
    import torch

    from vanillayolo.study.latency import machine
    from vanillayolo.yolo import VanillaDetectionModel
    from vanillayolo.yolo.threads import use_free_cores

    torch.set_num_threads(1 if policy == "one thread" else machine()["cores"])
    torch.manual_seed(0)
    model = VanillaDetectionModel(given.model, verbose=False).train()
    from ultralytics.utils import DEFAULT_CFG

    model.args = DEFAULT_CFG
    boxes = torch.rand(given.batch * 4, 4) * 0.4 + 0.2
    batch = {
        "img": torch.rand(given.batch, 3, given.imgsz, given.imgsz),
        "cls": torch.zeros(given.batch * 4, 1),
        "bboxes": boxes,
        "batch_idx": torch.arange(given.batch).repeat_interleave(4).float(),
    }
    taken: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < given.seconds or len(taken) < 3:
        if policy == "free cores":
            use_free_cores()
        start = time.perf_counter()
        loss, _ = model.loss(batch)
        loss.sum().backward()
        model.zero_grad(set_to_none=True)
        taken.append(time.perf_counter() - start)
    return taken[len(taken) // 5 :]


def run_case(policy: str, busy: int, given: argparse.Namespace) -> list[float]:
    """Run one policy beside busy processes, in a process of its own, and return its steps, seconds."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    spinners = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(busy)]
    try:
        words = ["--case", policy, "--model", given.model, "--imgsz", given.imgsz, "--batch", given.batch]
        command = [sys.executable, __file__, *map(str, words), "--seconds", str(given.seconds)]
        done = subprocess.run(command, env=environment | POLICIES[policy], check=True, capture_output=True, text=True)
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
    return list(json.loads(done.stdout.strip().splitlines()[-1]))


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--model", default="yolo11n-vanillanet")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def table(record: dict[str, Any]) -> str:
    """Return the table of a record: milliseconds a step, and how many times one process' share of the cores."""
    busy = sorted({int(n) for case in record["cases"].values() for n in case})
    idle = min(case["0"]["median"] for case in record["cases"].values()) if 0 in busy else None
    lines = ["| threads | " + " | ".join(f"{n} busy" for n in busy) + " |", "| --- |" + " ---: |" * len(busy)]
    for policy, case in record["cases"].items():
        texts = []
        for n in busy:
            row = case[str(n)]
            fair = f" ({row['median'] / idle / max(1, n + 1):.2f})" if idle else ""
            texts.append(f"{row['median'] * 1e3:.0f}{fair}, slowest {row['max'] * 1e3:.0f}")
        lines.append(f"| {policy} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure every policy beside every number of busy processes, in turns, and write the record."""
    given = arguments()
    if given.case:
        print(json.dumps(steps(given.case, given)))
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    taken: dict[str, dict[str, list[float]]] = {p: {str(n): [] for n in given.busy} for p in given.policies}
    for i in range(given.rounds):
        for n in given.busy:
            for policy in given.policies[:: -1 if i % 2 else 1]:
                taken[policy][str(n)] += run_case(policy, n, given)
    from vanillayolo.study.latency import machine

    settings = {k: getattr(given, k) for k in ("model", "imgsz", "batch", "seconds", "rounds")}
    cases = {
        policy: {n: {"median": median(s), "max": max(s), "steps": len(s)} for n, s in by_busy.items()}
        for policy, by_busy in taken.items()
    }
    record = {"date": str(date.today()), "machine": machine(), **settings, "cases": cases}
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(record))


if __name__ == "__main__":
    main()
