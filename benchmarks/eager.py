"""The merged network beside its training form in eager PyTorch: every width, batch 1 and 8, both memory formats.

    python benchmarks/eager.py [--imgsz 320] [--rounds 20] [--models yolo11n-vanillanet ...]

Writes benchmarks/time/eager.json and prints the table; exit code 1 where a merged network is the slower one. A case is
timed in one go, both forms in turns; a run that was interrupted goes on with the cases that are not there yet.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import torch

from vanillayolo.nn import randomize_batchnorm
from vanillayolo.study.latency import load_average, machine, measure
from vanillayolo.valid_json import json_text
from vanillayolo.yolo import VanillaDetectionModel
from vanillayolo.yolo.model import fold_stock
from vanillayolo.yolo.threads import available_cores

OUT = Path(__file__).parent / "time" / "eager.json"
MODELS = [f"yolo11{letter}-vanillanet" for letter in "nsmlx"] + ["yolo11n-vanillanet-5-paper"]
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
#: The noise of a measurement of equal networks: below it none is called the slower one.
NOISE = 1.02


def forms(name: str) -> dict[str, Any]:
    """Return a network in training form, its neck folded, and merged; BN random, because of denormal numbers."""
    torch.manual_seed(0)
    network = randomize_batchnorm(VanillaDetectionModel(name, verbose=False)).eval()
    return {"training form": fold_stock(copy.deepcopy(network)), "merged": network.fuse(verbose=False)}


def compare(networks: dict[str, Any], batch: int, layout: str, imgsz: int, rounds: int) -> dict[str, Any]:
    """Time both forms in turns and return milliseconds and their ratio, merged over training form."""
    memory_format = LAYOUTS[layout]
    image = torch.rand(batch, 3, imgsz, imgsz).to(memory_format=memory_format)
    laid = {form: copy.deepcopy(network).to(memory_format=memory_format) for form, network in networks.items()}
    with torch.inference_mode():
        timings = measure({form: lambda network=network: network(image) for form, network in laid.items()}, rounds)
    record: dict[str, Any] = {t.name: {"median": t.median, "min": t.minimum, "max": t.maximum} for t in timings}
    return record | {"ratio": record["merged"]["median"] / record["training form"]["median"]}


def key(name: str, batch: int, layout: str) -> str:
    return f"{Path(name).name} batch {batch} {layout}"


def begin(given: argparse.Namespace) -> dict[str, Any]:
    """Return the record to go on with: the file's where machine and settings are the same."""
    same = {"machine": machine(), "imgsz": given.imgsz, "rounds": given.rounds}
    old = json.loads(given.out.read_text()) if given.out.exists() else {}
    if all(old.get(k) == v for k, v in same.items()):
        return old
    command = " ".join(["python benchmarks/eager.py", *sys.argv[1:]])
    return {"date": date.today().isoformat(), "command": command, **same, "load": load_average(), "milliseconds": {}}


FORMS = ("training form", "merged")


def eager_table(record: dict[str, Any]) -> str:
    """Return what merging does to the time of eager PyTorch, case by case."""
    rows = ["| case | training form, ms | merged, ms | merged / training form |", "|---|---:|---:|---:|"]
    for case, row in record["milliseconds"].items():
        cells = (f"{row[f]['median']:.1f} ({row[f]['min']:.1f} to {row[f]['max']:.1f})" for f in FORMS)
        rows.append(f"| `{case}` | {' | '.join(cells)} | {row['ratio']:.2f} |")
    machine = record["machine"]
    about = (
        f"{machine['processor']}, {machine['cores']} cores, torch {machine['versions']['torch']}, "
        f"{record['imgsz']} px, {record['date']}: median (minimum to maximum) of {record['rounds']} rounds. "
        f"`{record['command']}`"
    )
    return "\n".join([*rows, "", about])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    torch.set_num_threads(available_cores())
    record = begin(given)
    rows = record["milliseconds"]
    for name in given.models:
        cases = [(batch, layout) for batch in (1, 8) for layout in LAYOUTS]
        missing = [case for case in cases if key(name, *case) not in rows]
        networks = forms(name) if missing else {}
        for batch, layout in cases:
            if (batch, layout) in missing:
                rows[key(name, batch, layout)] = compare(networks, batch, layout, given.imgsz, given.rounds)
                given.out.write_text(json_text(record))
            row = rows[key(name, batch, layout)]
            form = f"{row['training form']['median']:9.1f} {row['merged']['median']:9.1f}  {row['ratio']:.2f}"
            print(f"{name:28} batch {batch} {layout:14} {form}", flush=True)
    slower = sum(row["ratio"] > NOISE for row in rows.values())
    print(f"{slower} of {len(rows)} cases in which the merged network is slower than its training form")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
