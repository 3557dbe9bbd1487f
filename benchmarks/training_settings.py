"""One network under several training settings: what each does to accuracy and to the time of a training.

    vanillayolo compare models=yolo11n-vanillanet data=bccd.yaml seeds=0,1,2 epochs=40 folder=A bfloat16=False
    vanillayolo compare models=yolo11n-vanillanet data=bccd.yaml seeds=0,1,2 epochs=40 folder=B bfloat16=True
    python benchmarks/training_settings.py --model yolo11n-vanillanet "float32=A" "bfloat16=B" ...

Writes benchmarks/method/training_settings.json: of every folder settings and machine, and of every seed val, test and
seconds. The first folder is what the others are held against, seed by seed. Ways that are in the file already stay.
"""

from __future__ import annotations

import argparse
import statistics
from datetime import date
from pathlib import Path
from typing import Any

from vanillayolo.study.records import read_record, spread, with_spread, write_record
from vanillayolo.tables import markdown

OUT = Path(__file__).parent / "method" / "training_settings.json"


def way_of(folder: Path, model: str) -> dict[str, Any]:
    """Return settings, machine and, by seed, the runs of one model in a folder of `vanillayolo compare`."""
    records = [read_record(path) for path in sorted((folder / model).glob("seed*/record.json"))]
    keys = ("val", "test", "training_seconds")
    return {
        "settings": read_record(folder / "protocol.json"),
        "machine": records[0]["machine"],
        "seeds": {str(r["seed"]): {key: r[key] for key in keys if key in r} for r in records},
    }


def settings_table(record: dict[str, Any]) -> str:
    """Return what training settings do to accuracy and time; differences are to the first, seed by seed."""
    rows = []
    ways = {label: way["seeds"] for label, way in record["ways"].items()}
    first = next(iter(ways.values()))
    for label, seeds in ways.items():
        cells: list[str] = [
            with_spread(spread([run[split][metric] for run in seeds.values()]), 1, 100)
            for split in ("val", "test")
            for metric in ("map50", "map50_95")
        ]
        shared = [s for s in seeds if s in first]
        gains = [100 * (seeds[s]["val"]["map50_95"] - first[s]["val"]["map50_95"]) for s in shared]
        cells.append("" if seeds is first or not gains else f"{statistics.fmean(gains):+.1f}")
        cells.append(f"{statistics.median(run['training_seconds'] for run in seeds.values()):.0f}")
        rows.append((label, *cells, len(seeds)))
    header = ("", "val mAP50", "val mAP50-95", "test mAP50", "test mAP50-95", "val, same seeds", "training, s", "seeds")
    machine = record["machine"]
    shared_keys = record["ways"][next(iter(ways))]["settings"]
    words = " ".join(f"{k}={shared_keys[k]}" for k in ("data", "epochs", "imgsz", "batch"))
    about = (
        f"`{record['model']}`, {words}, mean ± standard deviation, one core a run ({machine['processor']}, torch "
        f"{machine['versions']['torch']}, {record['date']}; shared, so that seconds are to be read as ratios). "
        f"`{record['command']}`"
    )
    return f"{markdown(header, rows)}\n\n{about}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="LABEL=FOLDER")
    parser.add_argument("--model", required=True)
    given = parser.parse_args()
    ways = {label: Path(folder) for label, folder in (word.split("=", 1) for word in given.folders)}
    found = {label: way_of(folder, given.model) for label, folder in ways.items()}
    words = " ".join(f'"{label}={folder.name}"' for label, folder in ways.items())
    command = f"python benchmarks/training_settings.py --model {given.model} {words}"
    record: dict[str, Any] = {"model": given.model, "machine": next(iter(found.values()))["machine"], "ways": {}}
    if OUT.exists() and (old := read_record(OUT))["model"] == given.model:
        record, command = old, f"{old['command']}; {command}"
    ways_now = {**record["ways"], **found}
    write_record(OUT, {**record, "date": date.today().isoformat(), "command": command, "ways": ways_now})


if __name__ == "__main__":
    main()
