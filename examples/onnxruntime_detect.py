"""Detect with an exported ONNX file and nothing but numpy, OpenCV and ONNX Runtime.

    python onnxruntime_detect.py best.onnx street.jpg [--conf 0.25] [--iou 0.7]

Prints a line for every box (class, score, x1 y1 x2 y2 in pixels of the picture) and writes street-detected.png.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime


def letterbox(image: np.ndarray, height: int, width: int) -> tuple[np.ndarray, float, int, int]:
    """Return the network's input ``[1, 3, height, width]``, and the scale and left and top margins it was made with."""
    scale = min(height / image.shape[0], width / image.shape[1])
    inner_w, inner_h = round(image.shape[1] * scale), round(image.shape[0] * scale)
    left, top = round((width - inner_w) / 2 - 0.1), round((height - inner_h) / 2 - 0.1)
    canvas = np.full((height, width, 3), 114, np.uint8)
    if (inner_h, inner_w) != image.shape[:2]:
        image = cv2.resize(image, (inner_w, inner_h), interpolation=cv2.INTER_LINEAR)
    canvas[top : top + inner_h, left : left + inner_w] = image
    rgb = canvas[..., ::-1].transpose(2, 0, 1)[None]
    return np.ascontiguousarray(rgb, np.float32) / 255, scale, left, top


def detect(session: onnxruntime.InferenceSession, image: np.ndarray, conf: float, iou: float) -> np.ndarray:
    """Return the boxes ``[n, 6]`` of a BGR picture: x1, y1, x2, y2 in its pixels, score, class; best first."""
    entry = session.get_inputs()[0]
    height, width = (side if isinstance(side, int) else 640 for side in entry.shape[2:])
    x, scale, left, top = letterbox(image, height, width)
    output = session.run(None, {entry.name: x})[0][0]  # [4 + classes, anchors]
    scores, classes = output[4:].max(0), output[4:].argmax(0)
    sure = scores > conf
    (cx, cy, w, h), scores, classes = output[:4, sure], scores[sure], classes[sure]
    corners = np.stack([cx - w / 2, cy - h / 2, w, h], 1)
    kept = np.array(cv2.dnn.NMSBoxesBatched(corners.tolist(), scores.tolist(), classes.tolist(), conf, iou), int)
    x1, y1, w, h = corners[kept].reshape(-1, 4).T
    boxes = (np.stack([x1, y1, x1 + w, y1 + h], 1) - [left, top, left, top]) / scale
    boxes = boxes.clip(0, [image.shape[1], image.shape[0]] * 2)
    return np.column_stack([boxes, scores[kept], classes[kept]])


def main() -> int:
    """Run the command line; return 2, after a line that says why, where a file cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--conf", type=float, default=0.25)
    parser.add_argument("--iou", type=float, default=0.7)
    given = parser.parse_args()
    image = cv2.imread(str(given.image)) if given.image.is_file() else None
    if image is None:
        print(f"{given.image}: not a readable picture.", file=sys.stderr)
        return 2
    try:
        session = onnxruntime.InferenceSession(str(given.model), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes share no base
        print(f"{given.model}: not a usable ONNX file ({str(error).splitlines()[0]}).", file=sys.stderr)
        return 2
    names = ast.literal_eval(session.get_modelmeta().custom_metadata_map.get("names", "{}"))
    for *box, score, number in detect(session, image, given.conf, given.iou):
        name = names.get(int(number), str(int(number)))
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        print(f"{name} {score:.3f} {x1} {y1} {x2} {y2}")
        cv2.rectangle(image, (x1, y1), (x2, y2), (0, 200, 0), 2)
        cv2.putText(image, f"{name} {score:.2f}", (x1, max(y1 - 4, 10)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 120, 0), 1)
    out = given.image.with_name(f"{given.image.stem}-detected.png")
    cv2.imwrite(str(out), image)
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
