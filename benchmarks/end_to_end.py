"""What a picture costs from the network's input to its objects: the file in ONNX Runtime, and what must follow it.

    python benchmarks/end_to_end.py NAME=CHECKPOINT ... --data bccd.yaml [--imgsz 320] [--threads 1] [--out FILE]

A head with two sets of branches (YOLO26's) is timed with both: that after which boxes are suppressed, and that which
finds every object once (``nms=False``). mAP is of the test split, with the same branches. Pictures are those of the
same split, letterboxed before; every file takes every picture, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from ultralytics import YOLO
from ultralytics.data.augment import LetterBox
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.patches import imread

from vanillayolo.study.latency import machine
from vanillayolo.tables import markdown
from vanillayolo.valid_json import json_text

CONF, IOU = 0.25, 0.7
MODES: dict[str, dict[str, Any]] = {"suppression": {}, "nms=False": {"nms": False}}


def suppressed(output: np.ndarray) -> Any:
    return non_max_suppression(torch.from_numpy(output), CONF, IOU)


def taken(output: np.ndarray) -> Any:
    return output[0][output[0, :, 4] > CONF]


def session(file: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def rows(name: str, checkpoint: str, given: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """Return accuracy and file of a checkpoint, with each set of branches that it has."""
    found = {}
    for mode, keys in MODES.items():
        model = YOLO(checkpoint)  # a fresh one: exporting and validating change it
        if keys and not getattr(model.model.model[-1], "one2one_cv2", None):
            continue
        box = (
            YOLO(checkpoint)
            .val(
                data=given.data,
                split="test",
                imgsz=given.imgsz,
                plots=False,
                verbose=False,
                project=str(folder),
                **keys,
            )
            .box
        )
        file = folder / f"{name}-{len(found)}.onnx"
        Path(model.export(format="onnx", imgsz=given.imgsz, verbose=False, **keys)).rename(file)
        found[f"{name}, {mode}"] = {"file": file, "map50": float(box.map50), "map50_95": float(box.map)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "accuracy" / "end_to_end.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    test = Path(check_det_dataset(given.data)["test"])
    letterbox = LetterBox((given.imgsz, given.imgsz), auto=False)
    pictures = [letterbox(image=imread(str(p)))[:, :, ::-1].transpose(2, 0, 1)[None] for p in sorted(test.iterdir())]
    images = [np.ascontiguousarray(x, np.float32) / 255 for x in pictures]
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, dict[str, Any]] = {}
        for word in given.models:
            name, _, checkpoint = word.partition("=")
            found |= rows(name, checkpoint, given, Path(folder))
        runs = {name: session(row.pop("file"), given.threads) for name, row in found.items()}
    after: dict[str, Callable[[np.ndarray], Any]] = {n: taken if "nms=False" in n else suppressed for n in runs}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for i in range(given.rounds * len(images)):
        for name in list(runs)[:: -1 if i % 2 else 1]:
            begin = time.perf_counter()
            output = runs[name].run(None, {"images": images[i % len(images)]})[0]
            middle = time.perf_counter()
            after[name](output)
            times[name].append((middle - begin, time.perf_counter() - middle))
    for name, row in found.items():
        network, rest = (statistics.median(x) * 1e3 for x in zip(*times[name], strict=True))
        whole = statistics.median(sum(x) for x in times[name]) * 1e3
        row |= {"network_ms": network, "after_ms": rest, "whole_ms": whole}
    record = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/end_to_end.py " + " ".join(sys.argv[1:]),
        "machine": machine(),
        "settings": {"imgsz": given.imgsz, "threads": given.threads, "conf": CONF, "iou": IOU, "images": len(images)},
        "models": found,
    }
    given.out.write_text(json_text(record))
    print(ends_table(record))


def ends_table(record: dict[str, Any]) -> str:
    """Return a record as a table: accuracy, and milliseconds of network, what follows, and both."""
    head = ["model", "mAP50", "mAP50-95", "network, ms", "what follows, ms", "both, ms"]
    cells = [
        [f"{r['map50']:.3f}", f"{r['map50_95']:.3f}", *(f"{r[k]:.1f}" for k in ("network_ms", "after_ms", "whole_ms"))]
        for r in record["models"].values()
    ]
    return markdown(head, [[name, *row] for name, row in zip(record["models"], cells, strict=True)])


if __name__ == "__main__":
    main()
