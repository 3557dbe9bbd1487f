"""Detect with an int8 LiteRT file of maps (decode=outside) and nothing but numpy, OpenCV and ai-edge-litert.

    python litert_detect.py best_int8.tflite street.jpg [--conf 0.25] [--iou 0.7]

Reads best_int8.tflite.contract.json beside the file; prints a line for every box (class, score, x1 y1 x2 y2 in pixels
of the picture). Without --conf boxes count from the score that the contract says.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter


def letterbox(image: np.ndarray, height: int, width: int) -> tuple[np.ndarray, float, int, int]:
    """Return the picture as RGB ``[height, width, 3]``, and the scale and left and top margins it was made with."""
    scale = min(height / image.shape[0], width / image.shape[1])
    inner_w, inner_h = round(image.shape[1] * scale), round(image.shape[0] * scale)
    left, top = round((width - inner_w) / 2 - 0.1), round((height - inner_h) / 2 - 0.1)
    canvas = np.full((height, width, 3), 114, np.uint8)
    if (inner_h, inner_w) != image.shape[:2]:
        image = cv2.resize(image, (inner_w, inner_h), interpolation=cv2.INTER_LINEAR)
    canvas[top : top + inner_h, left : left + inner_w] = image
    return canvas[..., ::-1], scale, left, top


def decode(boxes: np.ndarray, stride: int, bins: int) -> np.ndarray:
    """Return the corners ``[cells, 4]``, in pixels of the input, of a level's map ``[rows, columns, 4 * bins]``."""
    rows, columns = boxes.shape[:2]
    powers = np.exp(boxes.reshape(-1, 4, bins) - boxes.reshape(-1, 4, bins).max(2, keepdims=True))
    sides = (powers * np.arange(bins)).sum(2) / powers.sum(2)  # left, top, right, bottom, in cells
    y, x = np.mgrid[:rows, :columns].reshape(2, -1) + 0.5
    return np.stack([x - sides[:, 0], y - sides[:, 1], x + sides[:, 2], y + sides[:, 3]], 1) * stride


def detect(path: Path, contract: dict[str, Any], image: np.ndarray, conf: float, iou: float) -> np.ndarray:
    """Return the boxes ``[n, 6]`` of a BGR picture: x1, y1, x2, y2 in its pixels, score, class; best first."""
    given = contract["input"]
    _, height, width, _ = given["shape"]
    rgb, scale, left, top = letterbox(image, height, width)
    integers = np.round(rgb / 255 / given["scale"]) + given["zero_point"]
    runner = Interpreter(str(path)).get_signature_runner()
    outputs = runner(**{given["name"]: integers.clip(-128, 127).astype(np.int8)[None]})
    corners, scores = [], []
    for said in contract["outputs"]:
        numbers = (outputs[said["name"]][0].astype(np.float32) - said["zero_point"]) * said["scale"]
        if said["holds"] == "boxes":
            corners.append(decode(numbers, said["stride"], contract["decode"]["bins"]))
        else:
            scores.append(1 / (1 + np.exp(-numbers.reshape(-1, numbers.shape[2]))))
    boxes, likely = np.concatenate(corners), np.concatenate(scores)
    best, classes = likely.max(1), likely.argmax(1)
    sure = best > conf
    boxes, best, classes = boxes[sure], best[sure], classes[sure]
    sized = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    kept = np.array(cv2.dnn.NMSBoxesBatched(sized.tolist(), best.tolist(), classes.tolist(), conf, iou), int)
    found = ((boxes[kept] - [left, top, left, top]) / scale).clip(0, [image.shape[1], image.shape[0]] * 2)
    return np.column_stack([found, best[kept], classes[kept]])


def main() -> int:
    """Run the command line; return 2, after a line that says why, where a file cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--conf", type=float)
    parser.add_argument("--iou", type=float, default=0.7)
    given = parser.parse_args()
    beside = given.model.with_name(f"{given.model.name}.contract.json")
    image = cv2.imread(str(given.image)) if given.image.is_file() else None
    if image is None:
        print(f"{given.image}: not a readable picture.", file=sys.stderr)
        return 2
    if not beside.is_file() or "decode" not in (contract := json.loads(beside.read_text(encoding="utf-8"))):
        print(f"{beside}: no contract of a file exported with decode=outside.", file=sys.stderr)
        return 2
    conf = contract["suppression"]["conf"] if given.conf is None else given.conf
    for x1, y1, x2, y2, score, number in detect(given.model, contract, image, conf, given.iou):
        print(f"{contract['names'][str(int(number))]} {score:.3f} {x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
