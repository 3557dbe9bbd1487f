"""From the map of which object shows at each pixel to boxes, outlines, turned boxes and key points."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Owner = npt.NDArray[np.int16]

KEYPOINTS = ("left", "top", "right", "bottom")
FLIP = (2, 1, 0, 3)
"""Order of the key points in a picture turned left to right."""


@dataclass(frozen=True)
class Labels:
    """The labels of one picture. Coordinates are pixels, where the first pixel spans 0 to 1.

    Attributes:
        classes: ``[n]``.
        boxes: left, top, right, bottom of the visible part of each object; ``[n, 4]``.
        owner: which object shows at each pixel, -1 for none; ``[h, w]``.
        outlines: segment: one closed outline around the visible part of each object, pieces and holes joined by seams
            of no width; ``[k, 2]`` each.
        corners: obb: corners of the smallest turned box around the visible part; ``[n, 4, 2]``.
        keypoints: pose: leftmost, topmost, rightmost and bottommost point of the whole object, and whether it is
            outside the picture (0, at 0, 0), hidden (1) or visible (2); ``[n, 4, 3]``.
        picture_class: classify: the class of the picture.
    """

    classes: npt.NDArray[np.int64]
    boxes: Points
    owner: Owner
    outlines: tuple[Points, ...] | None = None
    corners: Points | None = None
    keypoints: Points | None = None
    picture_class: int | None = None


def visible_part(owner: Owner, index: int, region: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """Return where an object shows within a region (left, top, right, bottom) that holds all of it; 0 or 1."""
    left, top, right, bottom = region
    return (owner[top:bottom, left:right] == index).astype(np.uint8)


def visible_box(part: npt.NDArray[np.uint8], region: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of a part in pixels of the picture."""
    x, y, w, h = cv2.boundingRect(part)
    return region[0] + x, region[1] + y, region[0] + x + w, region[1] + y + h


def outline(part: npt.NDArray[np.uint8], origin: tuple[int, int]) -> Points:
    """Return one closed outline along the edges of the pixels of a part, ``[k, 2]``, within half a pixel."""
    high, wide = part.shape
    # Pixels lie at odd places of a grid twice as fine; grown by one, their borders lie on pixel edges, at even places.
    fine = np.zeros((2 * high + 1, 2 * wide + 1), np.uint8)
    fine[1::2, 1::2] = part
    fine = cv2.dilate(fine, np.ones((3, 3), np.uint8))
    found, _ = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # half a pixel of error at most, less for small objects
    slack = 1.0 if part.sum() > 600 else 0.5 if part.sum() > 150 else 0.0
    loops = [cv2.approxPolyDP(loop, slack, True)[:, 0, :] if slack else loop[:, 0, :] for loop in found]
    loops = sorted((loop for loop in loops if len(loop) >= 3), key=cv2.contourArea, reverse=True)
    joined = loops[0]
    for loop in loops[1:]:
        if cv2.contourArea(loop) >= 4:  # a pixel; smaller is nothing but a bend of the line
            joined = _joined(joined, loop)
    return joined / 2 + np.asarray(origin, np.float64)


def _joined(one: npt.NDArray[np.int32], other: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Put a second loop into a first one where they come closest: there and back along one seam."""
    apart = ((one[:, None].astype(np.int64) - other[None]) ** 2).sum(axis=2)
    i, j = np.unravel_index(int(apart.argmin()), apart.shape)
    return np.concatenate([one[: i + 1], other[j:], other[: j + 1], one[i:]])


def turned_box(part: npt.NDArray[np.uint8], origin: tuple[int, int], size: int) -> Points:
    """Return the corners ``[4, 2]`` of the smallest turned box around a part.

    Where it would leave the picture the upright box stands in its stead: corners outside are cut off by some readers,
    which turns the box into another one.
    """
    ys, xs = np.nonzero(part)
    hull = cv2.convexHull(
        np.concatenate([np.stack([xs + x, ys + y], 1) for x in (0, 1) for y in (0, 1)]).astype(np.int32)
    )
    corners = np.asarray(cv2.boxPoints(cv2.minAreaRect(hull)), np.float64) + origin
    if corners.min() < 0 or corners.max() > size:
        left, top, right, bottom = visible_box(part, (*origin, 0, 0))
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    return corners


def extreme_points(silhouette: Points, owner: Owner, index: int) -> Points:
    """Return the key points ``[4, 3]`` of an object from the points ``[k, 2]`` around its whole silhouette."""
    x, y = silhouette.T
    points = silhouette[[x.argmin(), y.argmin(), x.argmax(), y.argmax()]]
    size = len(owner)
    inside = np.all((points >= 0) & (points < size), axis=1)
    seen = np.zeros(4)
    for number, (px, py) in enumerate(points.astype(int)):
        if inside[number]:
            # the outline runs between pixels: the object shows if it owns one of those around the point
            near = owner[max(py - 1, 0) : py + 2, max(px - 1, 0) : px + 2]
            seen[number] = 2 if (near == index).any() else 1
    return np.concatenate([points * inside[:, None], seen[:, None]], axis=1)
