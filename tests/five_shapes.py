"""Labelled pictures of five plain shapes, drawn in milliseconds: the data of the tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from painting import (
    OUTLINES,
    coverage,
    paint_background,
    paint_shape,
    photograph,
    place_outline,
)
from vanillayolo.atomic import write_whole
from vanillayolo.data.paths import CACHE_HINT, staged_folder
from vanillayolo.errors import DataError, closest

SHAPES = tuple(OUTLINES)
"""The classes: circle, square, triangle, star, cross."""

SCENES_VERSION = 1  # raise it when the pictures change, so that older folders are written again
SIDE_RANGE = (0.06, 0.40)  # side of a shape as a share of the picture's side
MIN_VISIBLE = 0.5  # of a shape's area; below, even a person would guess the class of a half star or half cross
MIN_PIXELS = 24  # visible area in pixels of a picture of side 320; a smaller speck has no outline
TRIES = 12
JPEG_QUALITY = 92
CONTENTS = ("images", "labels", "scenes.yaml", "scenes.json")


def draw_scene(
    rng: np.random.Generator, size: int = 320, *, classes: Sequence[str] = SHAPES, shapes: tuple[int, int] = (3, 8)
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Draw one scene.

    Args:
        rng: Source of every choice; the same state gives the same scene.
        size: Side of the picture in pixels.
        classes: Names from ``SHAPES``; their order gives the class numbers.
        shapes: Least and greatest number of shapes to place. Fewer may stand where no room was found.

    Returns:
        The picture, uint8 BGR ``[size, size, 3]``, and the boxes, float ``[n, 5]`` as class, centre x, centre y, width,
        height; the last four as shares of the side, within 0..1. Each box is tight around the visible part of a shape,
        of which at least half can be seen.
    """
    canvas = paint_background(rng, size)
    owner = np.full((size, size), -1, np.int16)  # which shape is on top of each pixel
    areas: list[float] = []
    kinds: list[int] = []
    for _ in range(rng.integers(shapes[0], shapes[1] + 1)):
        kind = int(rng.integers(len(classes)))
        side = float(rng.uniform(*SIDE_RANGE)) * size
        for _ in range(TRIES):
            points = _place(rng, classes[kind], side, size)
            cover = coverage(points, size)
            if _fits(cover > 0.5, owner, [*areas, _area(points)]):
                owner[cover > 0.5] = len(kinds)
                areas.append(_area(points))
                kinds.append(kind)
                paint_shape(rng, canvas, points, cover, side)
                break
    boxes = [(kind, *_visible_box(owner == index)) for index, kind in enumerate(kinds)]
    return photograph(rng, canvas), np.asarray(boxes, np.float64).reshape(-1, 5)


def _place(rng: np.random.Generator, kind: str, side: float, size: int) -> npt.NDArray[np.float64]:
    centre = (rng.uniform(0, size), rng.uniform(0, size))
    return place_outline(kind, side, centre, rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.0))


def _area(points: npt.NDArray[np.float64]) -> float:
    return float(cv2.contourArea(points.astype(np.float32)))


def _fits(shape: npt.NDArray[np.bool_], owner: npt.NDArray[np.int16], areas: list[float]) -> bool:
    """Tell whether every shape, the new one on top included, would still show enough of itself.

    ``areas`` are the whole areas in pixels, hidden and cut parts included, the new shape's last.
    """
    least = MIN_PIXELS * (len(owner) / 320) ** 2
    visible = np.bincount(owner[~shape] + 1, minlength=len(areas))[1 : len(areas)]
    seen = np.append(visible, np.count_nonzero(shape))
    return bool(np.all(seen >= np.maximum(MIN_VISIBLE * np.asarray(areas), least)))


def _visible_box(visible: npt.NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Return centre x, centre y, width, height of a mask's extent as shares of its side."""
    size = len(visible)
    columns, rows = np.flatnonzero(visible.any(axis=0)), np.flatnonzero(visible.any(axis=1))
    left, right = columns[0] / size, (columns[-1] + 1) / size
    top, bottom = rows[0] / size, (rows[-1] + 1) / size
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def make_scenes(
    root: Path, *, train: int = 192, val: int = 48, size: int = 320, seed: int = 0, classes: Sequence[str] = SHAPES
) -> Path:
    """Write a dataset of scenes in the layout of YOLO, or find it there already.

    The files appear all at once: they are written to a sibling folder that is renamed at the end. The same arguments
    give the same bytes on one machine. Training and validation scenes come from independent random streams, and scene
    number i does not depend on how many are asked for.

    Args:
        root: Folder of the dataset. One with other settings is written again; one with foreign files is refused.
        train: Number of training scenes.
        val: Number of validation scenes.
        size: Side of the pictures in pixels, at least 64.
        seed: Seed of all scenes, not negative.
        classes: Names from ``SHAPES``; their order gives the class numbers.

    Returns:
        The path of ``scenes.yaml`` in ``root``, absolute.

    Raises:
        DataError: If an argument is out of range or the folder holds other files or cannot be written.
    """
    root = Path(root).expanduser().absolute()
    settings = _settings(train, val, size, seed, classes)
    data_yaml = root / "scenes.yaml"
    text = _yaml_text(root, classes)
    if _stored_settings(root) == settings:
        # a folder that was moved as a whole keeps its scenes; only the absolute path in its YAML is out of date
        if not data_yaml.is_file() or data_yaml.read_text(encoding="utf-8") != text:
            write_whole(data_yaml, text, CACHE_HINT)
        return data_yaml
    # images and labels without our record are somebody's own
    with staged_folder(root, CONTENTS if (root / "scenes.json").is_file() else ()) as stage:
        streams = np.random.SeedSequence(seed).spawn(2)
        for split, count, stream in zip(("train", "val"), (train, val), streams, strict=True):
            _write_split(stage, split, stream.spawn(count), size, classes)
        (stage / "scenes.yaml").write_text(text, encoding="utf-8", newline="\n")
        (stage / "scenes.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8", newline="\n")
    return data_yaml


def _settings(train: int, val: int, size: int, seed: int, classes: Sequence[str]) -> dict[str, Any]:
    least = {"train": (train, 1), "val": (val, 1), "size": (size, 64), "seed": (seed, 0)}
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise DataError(f"scenes: {name}={value} is too small; give {name}={smallest} or more")
    if not classes or len(set(classes)) != len(classes):
        raise DataError(f"scenes: classes {list(classes)} must name different shapes; allowed: {', '.join(SHAPES)}")
    for name in classes:
        if name not in SHAPES:
            raise DataError(f"scenes: no shape is called '{name}'; {closest(name, SHAPES)}")
    return {"version": SCENES_VERSION, **{k: v for k, (v, _) in least.items()}, "classes": list(classes)}


def _stored_settings(root: Path) -> object:
    try:
        return json.loads((root / "scenes.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _yaml_text(root: Path, classes: Sequence[str]) -> str:
    data = {"path": str(root), "train": "images/train", "val": "images/val", "names": dict(enumerate(classes))}
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _write_split(
    root: Path, split: str, streams: list[np.random.SeedSequence], size: int, classes: Sequence[str]
) -> None:
    images, labels = root / "images" / split, root / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number, stream in enumerate(streams):
        picture, boxes = draw_scene(np.random.default_rng(stream), size, classes=classes)
        # encoded in memory: cv2.imwrite cannot open paths with letters outside the code page on Windows
        done, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise RuntimeError("cv2 could not encode a JPEG")
        (images / f"{number:05d}.jpg").write_bytes(jpeg.tobytes())
        rows = "".join(f"{int(c)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in boxes)
        (labels / f"{number:05d}.txt").write_text(rows, encoding="utf-8", newline="\n")
