"""What an object of a COCO file becomes in a label file: a row of the task, as shares of its picture."""

from __future__ import annotations

import numpy as np

from .coco_file import WITHOUT, CocoBox
from .coco_shapes import Points, Size, clipped, joined
from .label_files import NEEDS_POLYGONS, TOLERANCE

NO_AREA = "no area"


def label_numbers(box: CocoBox, frame: Size, stated: Size, task: str) -> tuple[list[float], str]:
    """Return what follows the class in an object's row, or why it has none.

    Args:
        box: the object.
        frame: width and height that its box is measured in, pixels.
        stated: those that the file states for its image, of which a mask in RLE is.
        task: ``segment`` and ``obb`` have one outline, the others a box, which ``pose`` follows by key points.
    """
    wide, high = stated if box.in_rle else frame
    if task in NEEDS_POLYGONS:
        outline = clipped(joined(box.parts), (wide, high))
        flat = not len(outline) or np.ptp(outline, axis=0).min() <= 0
        return ([], NO_AREA) if flat else ((outline / (wide, high)).ravel().tolist(), "")
    left, right = (min(max(edge, 0.0), wide) for edge in (box.left, box.right))
    top, bottom = (min(max(edge, 0.0), high) for edge in (box.top, box.bottom))
    if right <= left or bottom <= top:
        return [], NO_AREA
    numbers = [(left + right) / 2 / wide, (top + bottom) / 2 / high, (right - left) / wide, (bottom - top) / high]
    if box.points is None:
        return numbers, ""
    points = np.where(is_labelled(box.points, frame)[:, None], box.points / [*frame, 1], 0)
    return [*numbers, *points.ravel().tolist()], "" if points.any() else WITHOUT["pose"]


def is_labelled(points: Points, frame: Size) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which key points ``[k, 3]`` are labelled, and in the picture as Ultralytics takes that; ``[k]``."""
    shares = points[:, :2] / frame
    return (points[:, 2] > 0) & (np.abs(shares - 0.5) <= 0.5 + TOLERANCE).all(axis=1)
