"""One network under several training settings: what each does to accuracy and to the time of a training.

    vanillayolo compare models=yolo11n-vanillanet data=bccd.yaml seeds=0,1,2 epochs=40 folder=A bfloat16=False
    vanillayolo compare models=yolo11n-vanillanet data=bccd.yaml seeds=0,1,2 epochs=40 folder=B bfloat16=True
    python benchmarks/training_settings.py --model yolo11n-vanillanet "float32=A" "bfloat16=B" ...

Writes benchmarks/training_settings.json: of every folder its settings, and of every seed val, test and seconds. The
first folder is what the others are held against, seed by seed.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import Any

from vanillayolo.study.records import read_record, write_record

OUT = Path(__file__).with_suffix(".json")


def runs_of(folder: Path, model: str) -> dict[str, Any]:
    """Return the runs of one model in a folder of `vanillayolo compare`, by seed."""
    paths = sorted((folder / model).glob("seed*/record.json"))
    records = [read_record(path) for path in paths]
    keys = ("val", "test", "training_seconds")
    return {str(r["seed"]): {key: r[key] for key in keys if key in r} for r in records}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="LABEL=FOLDER")
    parser.add_argument("--model", required=True)
    given = parser.parse_args()
    ways = {label: Path(folder) for label, folder in (word.split("=", 1) for word in given.folders)}
    first = next(iter(ways.values()))
    record = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/training_settings.py --model {given.model} "
        + " ".join(f'"{label}={folder.name}"' for label, folder in ways.items()),
        "model": given.model,
        "machine": read_record(sorted((first / given.model).glob("seed*/record.json"))[0])["machine"],
        "ways": {
            label: {"settings": read_record(folder / "protocol.json"), "seeds": runs_of(folder, given.model)}
            for label, folder in ways.items()
        },
    }
    write_record(OUT, record)


if __name__ == "__main__":
    main()
