"""float32 against int8: mAP on a split, with and without equalisation and bias correction, file by file.

    python benchmarks/int8.py best.pt [other.pt ...] --data bccd.yaml [--split test] [--imgsz 320] [--out NAME]

What is in the JSON already is not done again, so that an interrupted run goes on. All files are validated alike: by
their own library, square letterboxed images, batch 1. Calibration is on the training split. Writes
benchmarks/int8_NAME.json and, with --layers, the noise of every layer.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from vanillayolo import VanillaYOLO
from vanillayolo.deploy.layer_report import layer_report
from vanillayolo.deploy.onnx_graph import int8_convolutions
from vanillayolo.deploy.quantize import FORMATS, merged_network, quantize_export
from vanillayolo.study.latency import machine
from vanillayolo.yolo.exporting import export_float
from vanillayolo.yolo.inference import dataset_images

#: What is compared: the format and the settings that differ from the defaults; None for the float32 file.
CASES: dict[str, tuple[str, dict[str, Any]] | None] = {"float32": None}
for _format in FORMATS:
    CASES |= {
        f"{_format} int8": (_format, {}),
        f"{_format} int8, not equalised": (_format, {"equalize": "off"}),
        f"{_format} int8, equalised by weights": (_format, {"equalize": "weights"}),
        f"{_format} int8, no bias correction": (_format, {"bias_correction": False}),
        f"{_format} int8, neither": (_format, {"equalize": "off", "bias_correction": False}),
    }


def scores(file: Path, data: str, split: str, imgsz: int) -> dict[str, Any]:
    """Return the figures of a file on square images, each padded alike: what float32 and int8 share."""
    settings = {"rect": False, "batch": 1, "plots": False, "verbose": False, "workers": 0}
    box = VanillaYOLO(file).val(data=data, split=split, imgsz=imgsz, **settings).box
    return {"map": float(box.map), "map50": float(box.map50), "map_per_class": [float(v) for v in box.maps]}


def run_case(checkpoint: Path, case: tuple[str, dict[str, Any]] | None, given: Any, folder: Path) -> dict[str, Any]:
    """Make the file of one case and return its figures."""
    begin = time.perf_counter()
    if case is None:
        file = export_float(merged_network(checkpoint), folder, "float", given.imgsz)
    else:
        format, settings = case
        path = folder / f"x{FORMATS[format][1]}"
        file = quantize_export(checkpoint, format, given.data, given.imgsz, path, **settings)
    record: dict[str, Any] = {"seconds_to_make": round(time.perf_counter() - begin, 1)}
    if case is not None:
        found = int8_convolutions(file)
        record["int8_convolutions"] = [sum(found.values()), len(found)]
        if given.layers:
            report = layer_report(file, checkpoint, dataset_images(given.data, "train")[: given.layers])
            record["layers"] = report.to_dict()["layers"]
    for split in given.split:
        record[split] = scores(file, given.data, split, given.imgsz)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path, help="file, or NAME=file")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", nargs="+", default=["test"])
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--layers", type=int, default=0, metavar="IMAGES")
    parser.add_argument("--out", default=date.today().isoformat())
    given = parser.parse_args()
    out = Path(__file__).parent / f"int8_{given.out}.json"
    record: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {"models": {}}
    record |= {"date": date.today().isoformat(), "machine": machine(), "imgsz": given.imgsz}
    for checkpoint in given.checkpoints:
        name, _, file = str(checkpoint).rpartition("=")
        done = record["models"].setdefault(name or Path(file).parent.parent.name or Path(file).stem, {})
        for case in given.cases:
            if case in done and all(split in done[case] for split in given.split):
                continue
            with tempfile.TemporaryDirectory() as folder:
                done[case] = run_case(Path(file), CASES[case], given, Path(folder))
            out.write_text(json.dumps(record, indent=1) + "\n")
            figures = ", ".join(f"{split} {100 * done[case][split]['map']:.2f}" for split in given.split)
            print(f"{name or file}: {case}: mAP50-95 {figures}", flush=True)


if __name__ == "__main__":
    main()
