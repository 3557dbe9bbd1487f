"""What the mean of box distributions costs in a file: Ultralytics' export beside ours, the same networks, in one run.

    python benchmarks/decode.py [--imgsz 640] [--rounds 20] [--model yolo11n-vanillanet]

Writes benchmarks/time/decode.json. BN statistics are random, as everywhere where only time is measured.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from ultralytics.engine.exporter import Exporter

from vanillayolo.nn import randomize_batchnorm
from vanillayolo.study.latency import latency, table
from vanillayolo.study.records import write_record
from vanillayolo.yolo import VanillaDetectionModel
from vanillayolo.yolo.exporting import export_float
from vanillayolo.yolo.inference import stock_model
from vanillayolo.yolo.stock import to_stock

OUT = Path(__file__).parent / "time" / "decode.json"


def networks(model: str) -> dict[str, Any]:
    """Return YOLO11n, and ours as the stock network that its collapse writes."""
    ours = randomize_batchnorm(VanillaDetectionModel(model, verbose=False)).eval()
    theirs: Any = randomize_batchnorm(stock_model("yolo11n")).eval()
    return {"yolo11n": theirs.fuse(verbose=False), model: to_stock(ours.fuse(verbose=False))}  # type: ignore[operator]


def stock_export(network: Any, folder: Path, imgsz: int) -> Path:
    """Write a network with Ultralytics' exporter and nothing of ours."""
    network = copy.deepcopy(network)
    network.pt_path, network.args, network.task = str(folder / "stock.pt"), {"data": ""}, "detect"
    settings = {"format": "onnx", "imgsz": imgsz, "batch": 1, "simplify": False, "device": "cpu", "mode": "export"}
    return Path(str(Exporter(overrides=settings)(model=network)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolo11n-vanillanet")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    record: dict[str, Any] = {"date": date.today().isoformat(), "command": "python " + " ".join(sys.argv)}
    with tempfile.TemporaryDirectory() as place:
        files = {}
        for name, network in networks(given.model).items():
            folder = Path(place) / name
            folder.mkdir()
            files[f"{name}, Ultralytics' decode"] = stock_export(network, folder, given.imgsz)
            files[name] = export_float(network, folder, "ours", given.imgsz)
        record |= latency(files, ["onnxruntime", "openvino-f32"], given.imgsz, given.rounds)
    write_record(OUT, record)
    print(table(record))


if __name__ == "__main__":
    main()
