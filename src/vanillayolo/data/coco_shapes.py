"""Polygons and masks in RLE of COCO annotations, read into outlines, with one line for every malformation."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeGuard

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from vanillayolo.errors import DataError
from vanillayolo.values import shown

Points = npt.NDArray[np.float64]
Size = tuple[float, float]

#: No picture is that large, in pixels a side.
LARGEST = 1e9
#: Nor has one that many pixels, as far as Ultralytics opens it (Pillow's limit).
MOST_PIXELS = 178_956_970
#: Five bits a character, of numbers below 2 ** 50.
MOST_BITS = 50


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a number of pixels; false for nan too, and for integers that no float holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def read_outlines(owner: str, given: object, size: Size) -> tuple[Points, ...]:
    """Return the outlines ``[k, 2]`` of a ``segmentation`` in pixels of its image: parts and, of a mask, its holes.

    Those of a mask run through the middle of its outermost pixels, which are pixels that Ultralytics fills too.

    Args:
        owner: what to name in an error, the file and the annotation.
        given: polygons ``[[x, y, x, y, ...], ...]``, a mask in RLE, or nothing.
        size: width and height that the file states for the image, pixels.

    Raises:
        DataError: if it is neither, or malformed.
    """
    if isinstance(given, dict) and given:
        return _around(_decoded(owner, given, size))
    if not given:
        return ()
    if not isinstance(given, list) or not all(isinstance(polygon, list) for polygon in given):
        raise DataError(
            f"{owner} has the segmentation {shown(given)}; give polygons [[x, y, x, y, ...], ...] in pixels, or a mask "
            "in RLE, {size: [height, width], counts: ...}"
        )
    polygons = [polygon for polygon in given if polygon]
    for polygon in polygons:
        if wrong := [value for value in polygon if not is_number(value)]:
            raise DataError(f"{owner} has {shown(wrong[0])} in a polygon; x and y in turn are numbers, in pixels")
        if len(polygon) < 6 or len(polygon) % 2:
            raise DataError(
                f"{owner} has the polygon {shown(polygon)} of {len(polygon)} numbers; x and y in turn of three points "
                "or more are needed: correct or remove it"
            )
    return tuple(np.array(polygon, np.float64).reshape(-1, 2) for polygon in polygons)


def _decoded(owner: str, rle: dict[str, Any], size: Size) -> npt.NDArray[np.uint8]:
    """Return a mask in RLE as 0 and 1, ``[height, width]``."""
    wide, high = (int(side) for side in size)
    if rle.get("size") != [high, wide] or high * wide > MOST_PIXELS:
        raise DataError(
            f"{owner} has a mask in RLE of the size {shown(rle.get('size'))}; its image is [{high}, {wide}] "
            "(height, width): correct the image's, or make the mask anew"
        )
    counts = rle.get("counts")
    runs: Any = _runs(counts) if isinstance(counts, str) else counts
    whole = isinstance(runs, list) and all(type(run) is int and 0 <= run <= high * wide for run in runs)
    if not whole or sum(runs or ()) != high * wide:
        sums = f", which cover {sum(runs or ())} pixels" if whole else ""
        raise DataError(
            f"{owner} has a mask in RLE with the counts {shown(counts)}{sums}; pixels of background and object in "
            f"turn, {high * wide} in all, are needed, as a list or as pycocotools' text: make it anew"
        )
    flat = np.repeat(np.arange(len(runs)).astype(np.uint8) & 1, runs)
    return np.ascontiguousarray(flat.reshape(wide, high).T)  # down the columns


def _runs(text: str) -> list[int] | None:
    """Return the counts of COCO's compressed RLE; None where a character is none of its own, or the last is missing.

    A character has five bits, the lowest first, and one that says whether more follow; the highest is the sign. From
    the fourth on a count is written as its difference from the last but one.
    """
    runs: list[int] = []
    value = bits = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or bits > MOST_BITS:
            return None
        value |= (digit & 31) << bits
        bits += 5
        if not digit & 32:
            value -= (digit & 16) << (bits - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = bits = 0
    return None if bits else runs


def _around(mask: npt.NDArray[np.uint8]) -> tuple[Points, ...]:
    """Return the outlines of a mask's parts and holes, of three points at least."""
    found, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    loops = (loop[:, 0].astype(np.float64) + 0.5 for loop in found)
    return tuple(loop if len(loop) > 2 else np.concatenate([loop] * 3)[:3] for loop in loops)


def joined(parts: tuple[Points, ...]) -> Points:
    """Return one outline through all parts, each joined to the next where they come closest: there and back.

    So Ultralytics' ``merge_multi_segment`` does: a row of a label file is one polygon. What lies in an even number of
    loops is empty, so that holes stay holes.
    """
    there: list[Points] = []
    back: list[Points] = []
    start = 0
    for part, following in pairwise(parts):
        apart, nearest = cKDTree(part).query(following)
        enter = int(apart.argmin())
        loop = np.roll(part, -start, axis=0)
        turn = (int(nearest[enter]) - start) % len(part)
        there.append(loop[: turn + 1])
        back.append(np.concatenate([loop[turn:], loop[:1]]))
        start = enter
    last = np.roll(parts[-1], -start, axis=0)
    return np.concatenate([*there, last, *([last[:1]] if there else []), *reversed(back)])


def clipped(points: Points, size: Size) -> Points:
    """Return the part of a polygon ``[k, 2]`` that lies within a picture; nothing where none does."""
    if points.min() >= 0 and (points <= size).all():
        return points
    for axis, sign, edge in ((0, 1, 0.0), (0, -1, size[0]), (1, 1, 0.0), (1, -1, size[1])):
        depth = sign * (points[:, axis] - edge)
        inside, depth_after, after = depth >= 0, np.roll(depth, -1), np.roll(points, -1, axis=0)
        leaves = inside != np.roll(inside, -1)
        share = np.divide(depth, depth - depth_after, out=np.zeros_like(depth), where=leaves)
        cuts = points + share[:, None] * (after - points)
        points = np.stack([points, cuts], 1)[np.stack([inside, leaves], 1)]
    return np.clip(points, 0, size)
