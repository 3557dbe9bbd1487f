"""float32 against int8: mAP of trained checkpoints on a split of their data, file by file, all in one JSON.

    python benchmarks/int8.py NAME=best.pt [NAME=other.pt ...] --data bccd.yaml [--split test] [--imgsz 320]
    python benchmarks/readme_table.py

Any number of checkpoints, any number of runs, any data: each network is kept under its name and its data, and what is
there already of the same file is not done again. All files are validated alike: by their own library, square
letterboxed images, batch 1, what is not int8 in float32. Calibration is on the training split. `--cases all` takes
equalisation and bias correction away, one by one and both; `--layers 8` adds the noise of every layer on 8 images.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

from vanillayolo import VanillaYOLO
from vanillayolo.deploy.formats import FORMATS, INT8, graph_of
from vanillayolo.deploy.layer_report import layer_report
from vanillayolo.deploy.quantize import quantize_export
from vanillayolo.study.latency import machine
from vanillayolo.valid_json import json_text
from vanillayolo.yolo.exporting import export_float
from vanillayolo.yolo.inference import dataset_images
from vanillayolo.yolo.opened import open_checkpoint
from vanillayolo.yolo.runtimes import own_runtimes

OUT = Path(__file__).parent / "int8" / "int8.json"
#: What is compared: the format and the settings that differ from the defaults; None for the float32 file.
CASES: dict[str, tuple[str, dict[str, Any]] | None] = {"float32": None}
#: Formats whose convolutions can be asked.
READ = [name for name in INT8 if FORMATS[name].graph]
for _format in READ:
    CASES |= {
        f"{_format} int8": (_format, {}),
        f"{_format} int8, not equalised": (_format, {"equalize": "off"}),
        f"{_format} int8, equalised by weights": (_format, {"equalize": "weights"}),
        f"{_format} int8, equalised by maps": (_format, {"equalize": "activations"}),
        f"{_format} int8, no bias correction": (_format, {"bias_correction": False}),
        f"{_format} int8, neither": (_format, {"equalize": "off", "bias_correction": False}),
    }
CASES |= {f"{_format} int8, 8-bit weights": (_format, {"weight_bits": 8}) for _format in READ}
CASES |= {f"{_format} int8": (_format, {}) for _format in INT8}
#: float32 and what `export int8=True` writes, but for formats of packages that are seldom there.
MAIN = ["float32", *(f"{_format} int8" for _format in READ)]


def scores(file: Path, data: str, split: str, imgsz: int) -> dict[str, Any]:
    """Return the figures of a file on square images, each padded alike: what float32 and int8 share."""
    settings = {"rect": False, "batch": 1, "plots": False, "verbose": False, "workers": 0}
    with own_runtimes():
        box = VanillaYOLO(file).val(data=data, split=split, imgsz=imgsz, **settings).box
    return {"map": float(box.map), "map50": float(box.map50), "map_per_class": [float(v) for v in box.maps]}


def run_case(checkpoint: Path, case: tuple[str, dict[str, Any]] | None, given: Any, folder: Path) -> dict[str, Any]:
    """Make the file of one case and return its figures."""
    begin = time.perf_counter()
    if case is None:
        file = export_float(open_checkpoint(checkpoint).merged(), folder, "float", given.imgsz)
    else:
        format, settings = case
        path = folder / f"x{INT8[format].ending}"
        file = quantize_export(checkpoint, format, given.data, given.imgsz, path, **settings)
    record: dict[str, Any] = {"seconds_to_make": round(time.perf_counter() - begin, 1)}
    if case is not None and case[0] in READ:
        found = graph_of(file).int8_convolutions(file)
        backbone = [int8 for name, int8 in found.items() if name.startswith("model.0.")]
        record["int8_convolutions"] = [sum(found.values()), len(found)]
        record["int8_convolutions_of_the_backbone"] = [sum(backbone), len(backbone)]
        if given.layers:
            report = layer_report(file, checkpoint, dataset_images(given.data, "train")[: given.layers])
            record["layers"] = report.to_dict()["layers"]
    for split in given.split:
        record[split] = scores(file, given.data, split, given.imgsz)
    return record


def entry(models: dict[str, Any], name: str, file: Path, given: Any) -> dict[str, Any]:
    """Return a network's record: the one that is there where file and size are the same, else a new one."""
    network = open_checkpoint(file).merged()
    backbone = [n for n, m in network.named_modules() if isinstance(m, torch.nn.Conv2d) and n.startswith("model.0.")]
    about = {
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "data": Path(given.data).stem,
        "imgsz": given.imgsz,
        "parameters": sum(p.numel() for p in network.parameters()),
        "backbone_convolutions": len(backbone),
    }
    key = f"{name} on {about['data']}"
    old = models.get(key, {})
    if any(old.get(k) != v for k, v in about.items()):
        models[key] = {**about, "cases": {}}
    models[key] |= {"date": date.today().isoformat(), "machine": machine()}
    return models[key]


#: Files whose int8 costs at most so many points of mAP50-95 are counted.
SMALL_COST = 0.5


def int8_table(record: dict[str, Any]) -> str:
    """Return mAP50-95 of float32 and int8 files, and in how many int8 costs little."""
    formats = {"onnx int8": "ONNX Runtime int8", "openvino int8": "OpenVINO int8"}
    clipped = "onnx int8, 8-bit weights"  # shown beside, not counted: not the default
    for case, title in (("litert int8", "LiteRT int8"), (clipped, "ONNX Runtime, 8-bit weights")):
        if any(case in model["cases"] for model in record["models"].values()):
            formats[case] = title
    rows = [
        f"| checkpoint, data | px | float32 | {' | '.join(formats.values())} | backbone convolutions in int8 |",
        f"|---|{'---:|' * (len(formats) + 3)}",
    ]
    costs, whole = [], True
    for name, model in record["models"].items():
        cases = model["cases"]
        for split in [split for split in ("test", "val", "train") if split in cases["float32"]]:
            before = 100 * cases["float32"][split]["map"]
            cells, backbone = [], []
            for case in formats:
                after = 100 * cases[case][split]["map"] if split in cases.get(case, {}) else None
                cells.append("" if after is None else f"{after:.2f} ({after - before:+.2f})")
                if after is not None and case != clipped:
                    costs.append(before - after)
                if after is not None and case.split()[0] in READ and case != clipped:
                    backbone.append(cases[case]["int8_convolutions_of_the_backbone"])
            whole &= all(int8 == total == model["backbone_convolutions"] for int8, total in backbone)
            shown = ", ".join(f"{int8} of {total}" for int8, total in backbone)
            rows.append(f"| {name}, {split} | {model['imgsz']} | {before:.2f} | {' | '.join(cells)} | {shown} |")
    kept = sum(cost <= SMALL_COST for cost in costs)
    machines = {f"{m['machine']['processor']} ({m['machine']['capability']})" for m in record["models"].values()}
    every = "every" if whole else "NOT every"
    return "\n".join(
        [
            *rows,
            "",
            f"mAP50-95 in points; {kept} of {len(costs)} int8 files cost at most {SMALL_COST} points; {every} backbone "
            f"convolution is int8. {', '.join(sorted(machines))}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", help="file, or NAME=file")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", nargs="+", default=["test"])
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--cases", nargs="+", default=MAIN, choices=["all", *CASES])
    parser.add_argument("--layers", type=int, default=0, metavar="IMAGES")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    record: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {"models": {}}
    for checkpoint in given.checkpoints:
        name, _, file = checkpoint.rpartition("=")
        name = name or Path(file).parent.parent.name or Path(file).stem
        done = entry(record["models"], name, Path(file), given)["cases"]
        for case in CASES if "all" in given.cases else given.cases:
            if case in done and all(split in done[case] for split in given.split):
                continue
            with tempfile.TemporaryDirectory() as folder:
                done[case] = done.get(case, {}) | run_case(Path(file), CASES[case], given, Path(folder))
            given.out.write_text(json_text(record))
            figures = ", ".join(f"{split} {100 * done[case][split]['map']:.2f}" for split in given.split)
            print(f"{name}: {case}: mAP50-95 {figures} ({done[case]['seconds_to_make']:.0f} s to make)", flush=True)


if __name__ == "__main__":
    main()
