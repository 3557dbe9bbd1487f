"""One network under several training settings: what each does to accuracy and to the time of a training.

    vanillayolo compare models=yolo11n-vanillanet data=bccd.yaml seeds=0,1,2 epochs=40 folder=A bfloat16=False
    vanillayolo compare models=yolo11n-vanillanet data=bccd.yaml seeds=0,1,2 epochs=40 folder=B bfloat16=True
    python benchmarks/training_settings.py --model yolo11n-vanillanet "float32=A" "bfloat16=B" ...

Writes benchmarks/training_settings.json: of every folder its settings and machine, and of every seed val, test and
seconds. The first folder is what the others are held against, seed by seed. Ways that are in the file already stay.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import Any

from vanillayolo.study.records import read_record, write_record

OUT = Path(__file__).with_suffix(".json")


def way_of(folder: Path, model: str) -> dict[str, Any]:
    """Return settings, machine and, by seed, the runs of one model in a folder of `vanillayolo compare`."""
    records = [read_record(path) for path in sorted((folder / model).glob("seed*/record.json"))]
    keys = ("val", "test", "training_seconds")
    return {
        "settings": read_record(folder / "protocol.json"),
        "machine": records[0]["machine"],
        "seeds": {str(r["seed"]): {key: r[key] for key in keys if key in r} for r in records},
    }


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
