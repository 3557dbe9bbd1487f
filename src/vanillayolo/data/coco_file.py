"""Reading a COCO JSON into plain records, with one line for every malformation."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vanillayolo.errors import DataError
from vanillayolo.values import is_path, shown

from .coco_keypoints import read_names, read_points
from .coco_shapes import Points, Size, is_number, read_outlines
from .data_yaml import LONGEST_NAME
from .label_files import NEEDS_POLYGONS
from .paths import IMAGE_SUFFIXES, is_image_name

#: Why an annotation is no object of a task.
WITHOUT = {
    "detect": "without a box",
    "segment": "without a mask",
    "obb": "without corners",
    "pose": "without a labelled key point",
}


@dataclass(frozen=True)
class CocoImage:
    """One image: ``file_name`` relative to the split's folder, size in pixels."""

    file_name: str
    width: float
    height: float

    @property
    def size(self) -> Size:
        """Width and height."""
        return self.width, self.height


@dataclass(frozen=True)
class CocoBox:
    """One object: its box in pixels of its image, and what a task reads beside it.

    Attributes:
        number: id of the annotation, for messages.
        crowd: whether it is a group, no single object.
        parts: outlines of its mask, pixels; of one in RLE, of the size that the file states.
        in_rle: whether that was read from RLE.
        points: its key points ``[k, 3]``.
    """

    image: int
    category: int
    left: float
    top: float
    width: float
    height: float
    crowd: bool
    number: str = ""
    parts: tuple[Points, ...] = ()
    in_rle: bool = False
    points: Points | None = None

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
    """A COCO file.

    Attributes:
        file: where it is.
        images: by id.
        categories: names by id.
        boxes: in file order.
        parents: names of the categories' supercategories by id, where they have one.
        keypoints: names of the key points of the categories that have some, by id.
        left_out: annotations that are no objects of the task, counted by reason.
    """

    file: Path
    images: dict[int, CocoImage]
    categories: dict[int, str]
    boxes: list[CocoBox]
    parents: dict[int, str] = field(default_factory=dict)
    keypoints: dict[int, tuple[str, ...]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


def read_coco(file: Path, task: str = "detect") -> CocoFile:
    """Read a COCO JSON file: instances, or for ``pose`` key points.

    Args:
        file: where it is.
        task: what is read beside the boxes: masks for ``segment`` and ``obb``, key points for ``pose``.

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
    if task == "pose":
        owners = {number: f"{file}: category {number}" for number in categories}
        read.keypoints.update({n: read_names(owners[n], e.get("keypoints")) for n, e in categories.items()})
    for entry in content["annotations"]:
        found = _object(read, entry, task)
        if isinstance(found, CocoBox):
            read.boxes.append(found)
        else:
            read.left_out[found] += 1
    _check_pixels(read)
    return _joined(read)


def _check_pixels(read: CocoFile) -> None:
    """Raise DataError where all coordinates are shares of the picture."""
    objects = [box for box in read.boxes if not box.crowd]
    ends = {
        "bbox": [max(box.right, box.bottom) for box in read.boxes],
        "segmentation": [part.max() for box in objects for part in box.parts],
        "keypoints": [box.points[:, :2].max() for box in objects if box.points is not None],
    }
    for key, edges in ends.items():
        if edges and max(edges) <= 1:
            raise DataError(
                f"{read.file}: every {key} lies within one pixel, as shares of the picture do; write them in pixels"
            )


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
    if not (is_number(width) and is_number(height) and width > 0 and height > 0):
        raise DataError(
            f"{file}: image {number} has the size {shown(width)} x {shown(height)}; width and height in pixels are "
            "needed: correct or make the file anew"
        )
    return CocoImage(name, float(width), float(height))


def _object(coco: CocoFile, entry: object, task: str) -> CocoBox | str:
    """Return what an annotation says of an object, or what it lacks that the task needs."""
    if not isinstance(entry, dict):
        raise DataError(f"{coco.file}: the annotation {shown(entry)} is no object with image_id, category_id and bbox")
    number, image, category, crowd = (entry.get(key) for key in ("id", "image_id", "category_id", "iscrowd"))
    owner = f"{coco.file}: annotation {shown(number)}"
    if not isinstance(image, int) or image not in coco.images:
        raise DataError(
            f"{owner} is of image {shown(image)}, which is not among the images; "
            "image_id must be one of their ids, a whole number"
        )
    if not isinstance(category, int) or category not in coco.categories:
        raise DataError(
            f"{owner} is of category {shown(category)}, which is not among the categories; "
            "category_id must be one of their ids, a whole number"
        )
    if crowd not in (None, 0, 1):
        raise DataError(f"{owner} has iscrowd {shown(crowd)}; give 1 for a group that is no single object, else 0")
    bbox, given = entry.get("bbox"), entry.get("segmentation")
    parts: tuple[Points, ...] = ()
    if (task in NEEDS_POLYGONS or bbox in (None, [])) and not crowd:
        parts = read_outlines(owner, given, coco.images[image].size)
    in_rle = bool(parts) and isinstance(given, dict)
    pose = task == "pose" and not crowd
    points = read_points(owner, entry.get("keypoints"), coco.keypoints[category]) if pose else None
    if (pose and points is None) or (task in NEEDS_POLYGONS and not crowd and not parts):
        return WITHOUT[task]
    if bbox in (None, []):
        if not parts:
            return WITHOUT["detect"]
        bbox = _around(parts, 0.5 if in_rle else 0.0)
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, bbox)):
        raise DataError(f"{owner} has the bbox {shown(bbox)}; left, top, width, height in pixels")
    left, top, width, height = map(float, bbox)
    return CocoBox(image, category, left, top, width, height, bool(crowd), shown(number), parts, in_rle, points)


def _around(parts: tuple[Points, ...], margin: float) -> list[float]:
    """Return the bbox around outlines; ``margin`` leads from the middle of a pixel to its edge."""
    points = np.concatenate(parts)
    corner = points.min(axis=0) - margin
    return [*corner.tolist(), *(points.max(axis=0) + margin - corner).tolist()]
