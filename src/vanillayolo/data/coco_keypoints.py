"""Key points of COCO files: their names, their places, and which one each becomes in a mirror image."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from vanillayolo.errors import DataError
from vanillayolo.values import shown

from .coco_shapes import Points, is_number
from .data_yaml import LONGEST_NAME

SIDES = {"left": "right", "right": "left"}


def read_names(owner: str, given: object) -> tuple[str, ...]:
    """Return the names of a category's ``keypoints``; none where it has none.

    Raises:
        DataError: if they are no list of different names.
    """
    if not given:
        return ()
    named = isinstance(given, list) and all(isinstance(n, str) and 0 < len(n.strip()) <= LONGEST_NAME for n in given)
    if not isinstance(given, list) or not named or len(set(given)) < len(given):
        raise DataError(f"{owner} has the keypoints {shown(given)}; give a list of their names, each once")
    return tuple(given)


def read_points(owner: str, given: object, names: Sequence[str]) -> Points | None:
    """Return the ``keypoints`` of an annotation, ``[k, 3]``: x and y in pixels, visibility; None if none is labelled.

    Raises:
        DataError: if they are malformed, or others than the names of its category.
    """
    if not given:
        return None
    if not isinstance(given, list) or len(given) % 3 or (names and len(given) != 3 * len(names)):
        count = f"{len(given)} numbers as" if isinstance(given, list) else f"{shown(given)} as"
        wanted = f"its category's {len(names)} ({shown(', '.join(names))})" if names else "them"
        raise DataError(f"{owner} has {count} keypoints; x, y, visibility of each of {wanted} are needed, in one list")
    for place, value in enumerate(given):
        if not is_number(value):
            raise DataError(f"{owner} has {shown(value)} in its keypoints; x, y, visibility in turn are numbers")
        if place % 3 == 2 and value not in (0, 1, 2):
            raise DataError(
                f"{owner} has the visibility {shown(value)} at key point {place // 3 + 1}; 0 is not labelled, "
                "1 hidden, 2 visible"
            )
    points = np.array(given, np.float64).reshape(-1, 3)
    return points if points[:, 2].any() else None


def flip_order(names: Sequence[str]) -> list[int]:
    """Return which key point each becomes in a mirror image, by ``left`` and ``right`` in their names.

    Nothing where no name has them, or one has no partner: nobody can tell.
    """
    lowered = [name.lower() for name in names]
    mirrored = [re.sub("left|right", lambda found: SIDES[found[0]], name) for name in lowered]
    if mirrored == lowered or set(mirrored) != set(lowered) or len(set(lowered)) < len(lowered):
        return []
    return [lowered.index(name) for name in mirrored]
