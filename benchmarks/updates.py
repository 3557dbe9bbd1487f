"""What many small updates and weights bring: runs of `vanillayolo compare` in one record, by data, network and start.

    vanillayolo compare models=yolo11n data=bccd.yaml seeds=0 epochs=40 imgsz=320 batch=8 folder=runs/compare ...
    python benchmarks/updates.py runs/compare

adds the finished runs of folders to benchmarks/accuracy/updates.json; a run that is there is replaced.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vanillayolo.study.records import spread
from vanillayolo.tables import markdown
from vanillayolo.valid_json import json_text

RECORD = Path(__file__).parent / "accuracy" / "updates.json"
KEY = ("data", "network", "start", "nbs", "epochs", "seed")
HEAD = ("data", "model", "start", "epochs", "pictures an update", "seeds", "mAP50", "mAP50-95")


def runs_of(folder: Path) -> list[dict[str, Any]]:
    """Return the finished runs of a folder of `vanillayolo compare`."""
    protocol = json.loads((folder / "protocol.json").read_text())
    shown = {"bfloat16": protocol["bfloat16"], "workers": protocol["workers"], "backends": "none"}
    found = []
    for path in sorted(folder.glob("*/seed*/record.json")):
        record = json.loads(path.read_text())
        words = {"models": record["model"], "data": protocol["data"], "seeds": record["seed"], **shown}
        words |= {key: protocol[key] for key in ("epochs", "imgsz", "batch", "pretrained", "nbs") if key in protocol}
        scores = {}
        for split in ("val", "test"):
            names = {name: round(ap["map50_95"], 4) for name, ap in record[split]["per_class"].items()}
            scores[split] = {k: round(record[split][k], 6) for k in ("map50", "map50_95")} | {"per_class": names}
        found.append(
            {
                "data": Path(protocol["data"]).stem,
                "network": record["model"],
                "start": "weights" if protocol.get("pretrained") else "noise",
                "nbs": protocol.get("nbs", protocol["batch"]),  # compare's choice for sets as small as these
                "epochs": protocol["epochs"],
                "seed": record["seed"],
                **scores,
                "minutes": round(record["training_seconds"] / 60, 1),
                "command": "vanillayolo compare " + " ".join(f"{key}={value}" for key, value in words.items()),
                "machine": record["machine"],
            }
        )
    return found


def grouped(record: Mapping[str, Any]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Return the runs that differ in nothing but their seed, together."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in record["runs"]:
        groups.setdefault(tuple(run[key] for key in KEY[:-1]), []).append(run)
    return groups


def updates_table(record: Mapping[str, Any]) -> str:
    """Return mean and spread over the seeds, on test, by data, epochs, network and start."""
    rows = []
    order = sorted(grouped(record).items(), key=lambda item: (item[0][0], item[0][3] != 8, item[0][4], item[0][1:3]))
    for (data, network, start, nbs, epochs), runs in order:
        cells = []
        for key in ("map50", "map50_95"):
            over = spread([run["test"][key] for run in runs])
            cells.append(f"{over['mean']:.3f}" + (f" ± {over['std']:.3f}" if len(runs) > 1 else ""))
        rows.append((data, f"`{network}`", start, str(epochs), str(nbs), str(len(runs)), *cells))
    return markdown(HEAD, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    record = json.loads(RECORD.read_text())
    for folder in parser.parse_args().folders:
        for run in runs_of(folder):
            name = [run[key] for key in KEY]
            record["runs"] = [r for r in record["runs"] if [r[key] for key in KEY] != name] + [run]
    RECORD.write_text(json_text(record))
    print(updates_table(record))


if __name__ == "__main__":
    main()
