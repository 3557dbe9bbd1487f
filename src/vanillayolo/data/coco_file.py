"""Reading a COCO instances JSON into plain records, with one line for every malformation."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

from vanillayolo.errors import DataError
from vanillayolo.values import is_path, shown

from .data_yaml import LONGEST_NAME
from .paths import IMAGE_SUFFIXES, is_image_name

#: No picture is that large, in pixels.
LARGEST = 1e9


@dataclass(frozen=True)
class CocoImage:
    """One image: ``file_name`` relative to the split's folder, size in pixels."""

    file_name: str
    width: float
    height: float


@dataclass(frozen=True)
class CocoBox:
    """One box in pixels of its image; ``crowd`` marks a group that is no single object."""

    image: int
    category: int
    left: float
    top: float
    width: float
    height: float
    crowd: bool

    @property
    def right(self) -> float:
        """The right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.top + self.height


@dataclass(frozen=True)
class CocoFile:
    """A COCO instances file.

    Attributes:
        file: where it is.
        images: by id.
        categories: names by id.
        boxes: in file order.
        parents: names of the categories' supercategories by id, where they have one.
        left_out: annotations that are no boxes, counted by reason.
    """

    file: Path
    images: dict[int, CocoImage]
    categories: dict[int, str]
    boxes: list[CocoBox]
    parents: dict[int, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


def read_coco(file: Path) -> CocoFile:
    """Read a COCO instances JSON file.

    Raises:
        DataError: If it is no JSON or not of that form, naming the first entry at fault.
    """
    try:
        with file.open(encoding="utf-8-sig") as stream:
            content = json.load(stream)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}, line {error.lineno}: not valid JSON ({error.msg}); a COCO instances file is expected"
        ) from error
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, a number of thousands of digits
        raise DataError(f"{file} cannot be read as UTF-8 JSON; a COCO instances file is expected") from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise DataError(f"{file} is no COCO instances file; it must hold the lists images, annotations and categories")
    images = {_identity(file, "image", entry): entry for entry in content["images"]}
    categories = {_identity(file, "category", entry): entry for entry in content["categories"]}
    if len(images) < len(content["images"]) or len(categories) < len(content["categories"]):
        raise DataError(f"{file}: two images or two categories have the same id; ids must be unique")
    named = {number: entry.get("name") for number, entry in categories.items()}
    for number, name in named.items():
        if not isinstance(name, str) or not 0 < len(name.strip()) <= LONGEST_NAME:
            raise DataError(
                f"{file}: category {number} has the name {shown(name)}; give a text of 1 to {LONGEST_NAME} characters"
            )
    read = CocoFile(file, {n: _image(file, n, e) for n, e in images.items()}, {n: str(v) for n, v in named.items()}, [])
    read.parents.update(
        {n: e["supercategory"] for n, e in categories.items() if isinstance(e.get("supercategory"), str)}
    )
    for entry in content["annotations"]:
        box = _box(read, entry)
        read.boxes.extend([box] if box else [])
        read.left_out.update([] if box else ["without a box"])
    if read.boxes and all(max(box.right, box.bottom) <= 1 for box in read.boxes):
        raise DataError(f"{file}: every bbox lies within one pixel, as shares of the picture do; write them in pixels")
    return _joined(read)


def _joined(read: CocoFile) -> CocoFile:
    """Return a file in which entries of one picture, as some tools write one for every box, are one image."""
    first: dict[str, int] = {}
    numbers = {number: first.setdefault(image.file_name, number) for number, image in read.images.items()}
    boxes = [replace(box, image=numbers[box.image]) for box in read.boxes]
    return replace(read, images={number: read.images[number] for number in first.values()}, boxes=boxes)


def _identity(file: Path, what: str, entry: object) -> int:
    number = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(number, int):
        raise DataError(f"{file}: the {what} {shown(entry)} has no integer id")
    return number


def _image(file: Path, number: int, entry: dict[str, Any]) -> CocoImage:
    name, width, height = entry.get("file_name"), entry.get("width"), entry.get("height")
    if not isinstance(name, str) or not is_path(name) or not is_image_name(name):
        raise DataError(
            f"{file}: image {number} has the file_name {shown(name)}; give a path that ends in one of "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    if not (_is_number(width) and _is_number(height) and width > 0 and height > 0):
        raise DataError(
            f"{file}: image {number} has the size {shown(width)} x {shown(height)}; width and height in pixels are "
            "needed: correct or make the file anew"
        )
    return CocoImage(name, float(width), float(height))


def _box(coco: CocoFile, entry: object) -> CocoBox | None:
    """Return the box of an annotation, that around its polygons where it states none, or None where it has neither."""
    if not isinstance(entry, dict):
        raise DataError(f"{coco.file}: the annotation {shown(entry)} is no object with image_id, category_id and bbox")
    number, image, category, bbox = (entry.get(key) for key in ("id", "image_id", "category_id", "bbox"))
    if not isinstance(image, int) or image not in coco.images:
        raise DataError(
            f"{coco.file}: annotation {number} is of image {shown(image)}, which is not among the images; "
            "image_id must be one of their ids, a whole number"
        )
    if not isinstance(category, int) or category not in coco.categories:
        raise DataError(
            f"{coco.file}: annotation {number} is of category {shown(category)}, which is not among the categories; "
            "category_id must be one of their ids, a whole number"
        )
    if bbox is None or bbox == []:
        bbox = _around(entry.get("segmentation"))
        if bbox is None:
            return None
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise DataError(
            f"{coco.file}: annotation {number} has the bbox {shown(bbox)}; left, top, width, height in pixels"
        )
    left, top, width, height = map(float, bbox)
    return CocoBox(image, category, left, top, width, height, bool(entry.get("iscrowd")))


def _around(polygons: object) -> list[float] | None:
    """Return the box around polygons, ``[[x, y, x, y, ...], ...]``; None for a mask in RLE or nothing."""
    if not isinstance(polygons, list) or not polygons or not all(isinstance(p, list) and len(p) > 5 for p in polygons):
        return None
    numbers = [value for polygon in polygons for value in polygon[: len(polygon) // 2 * 2]]
    if not all(map(_is_number, numbers)):
        return None
    xs, ys = ([v for polygon in polygons for v in polygon[axis : len(polygon) // 2 * 2 : 2]] for axis in (0, 1))
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _is_number(value: object) -> TypeGuard[float]:
    # also false for nan, and for integers that no float holds
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
