"""Reading a COCO instances JSON into plain records, with every malformation told in one line."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from vanillayolo.data.paths import IMAGE_SUFFIXES, is_image_name
from vanillayolo.errors import DataError


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


@dataclass(frozen=True)
class CocoFile:
    """A COCO instances file: images by id, category names by id, boxes in file order."""

    file: Path
    images: dict[int, CocoImage]
    categories: dict[int, str]
    boxes: list[CocoBox]


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
    except (OSError, UnicodeDecodeError, RecursionError) as error:
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
        if not isinstance(name, str):
            raise DataError(f"{file}: category {number} has no name; every category needs a text under name")
    read = CocoFile(file, {n: _image(file, n, e) for n, e in images.items()}, {n: str(v) for n, v in named.items()}, [])
    read.boxes.extend(_box(read, entry) for entry in content["annotations"])
    return read


def _identity(file: Path, what: str, entry: object) -> int:
    number = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(number, int):
        raise DataError(f"{file}: the {what} {_short(entry)} has no integer id")
    return number


def _image(file: Path, number: int, entry: dict[str, Any]) -> CocoImage:
    name, width, height = entry.get("file_name"), entry.get("width"), entry.get("height")
    if not isinstance(name, str) or not is_image_name(name):
        raise DataError(
            f"{file}: image {number} has the file_name {name!r}; allowed suffixes: {', '.join(IMAGE_SUFFIXES)}"
        )
    if not (_is_number(width) and _is_number(height) and width > 0 and height > 0):
        raise DataError(
            f"{file}: image {number} has the size {width!r} x {height!r}; width and height in pixels are needed"
        )
    return CocoImage(name, float(width), float(height))


def _box(coco: CocoFile, entry: object) -> CocoBox:
    if not isinstance(entry, dict):
        raise DataError(f"{coco.file}: the annotation {_short(entry)} is no object with image_id, category_id and bbox")
    number, image, category, bbox = (entry.get(key) for key in ("id", "image_id", "category_id", "bbox"))
    if not isinstance(image, int) or image not in coco.images:
        raise DataError(f"{coco.file}: annotation {number} is of image {_short(image)}, which is not among the images")
    if not isinstance(category, int) or category not in coco.categories:
        raise DataError(
            f"{coco.file}: annotation {number} is of category {_short(category)}, which is not among the categories"
        )
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise DataError(
            f"{coco.file}: annotation {number} has the bbox {_short(bbox)}; left, top, width, height in pixels"
        )
    left, top, width, height = map(float, bbox)
    return CocoBox(image, category, left, top, width, height, bool(entry.get("iscrowd")))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
