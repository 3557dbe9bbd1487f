"""Checking the images and label rows of one split, quickly and to the line."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from vanillayolo.errors import DataError
from vanillayolo.values import shown

from .paths import IMAGE_SUFFIXES, is_image_name, label_path

LOGGER = logging.getLogger(__name__)

TOLERANCE = 0.01
"""How far a coordinate may lie outside 0..1. It is Ultralytics' own: beyond it an image is quietly left out of
training, which this check is there to prevent; within it, the rounding of label tools is accepted."""

FLOAT32_STEP = 1e-6  # Ultralytics subtracts in float32, which may round up
WORKERS = 8
DECODED_SUFFIXES = (".bmp", ".jp2", ".tif", ".tiff")  # Pillow verifies no more than their heads
PLUGIN_SUFFIXES = (".avif", ".heic", ".heif", ".dng")  # Pillow reads them by plugins only: Ultralytics' affair
FORMATS = {*IMAGE_SUFFIXES, "jpeg2000"}  # by Pillow's names; Ultralytics leaves out a GIF called .png
SMALLEST_IMAGE = 10  # pixels a side; Ultralytics leaves out what is smaller
CHUNK = 256  # files per task: a task per file would spend more on queues than on reading


#: Tasks whose labels are polygons.
NEEDS_POLYGONS = {
    "segment": "a polygon: 'class x1 y1 x2 y2 x3 y3 ...'",
    "obb": "four corners: 'class x1 y1 x2 y2 x3 y3 x4 y4'",
}


@dataclass(frozen=True)
class LabelRules:
    """What a row of a label file may hold.

    Attributes:
        classes: Number of classes; class ids run from 0 to one less.
        kpt_shape: Key points after the box in a pose dataset and numbers of each, else (0, 0).
        task: What is trained: segment and obb need polygons, pose needs key points.
    """

    classes: int
    kpt_shape: tuple[int, int] = (0, 0)
    task: str = "detect"

    @property
    def keypoint_numbers(self) -> int:
        """Numbers that follow the box."""
        return self.kpt_shape[0] * self.kpt_shape[1]


@dataclass(frozen=True)
class _Finding:
    """The verdict on one label file: whether it exists and what is wrong with it."""

    exists: bool
    bad_rows: int = 0
    first: str = ""


def list_images(place: Path, owner: str) -> list[str]:
    """Return the image files of a folder (searched in full) or of a ``.txt`` list, as Ultralytics would.

    In a list, lines that start with ``./`` are relative to the list's folder and other relative lines to the current
    folder. Images that do not exist are left out, as in Ultralytics; a warning counts them.

    Args:
        place: An existing folder or list file.
        owner: What to name in an error, such as ``data.yaml: train``.

    Raises:
        DataError: If there are no images, the list is no text, or it names images of which none exists.
    """
    if place.is_dir():
        found = glob.glob(os.path.join(glob.escape(str(place)), "**", "*.*"), recursive=True)
        images = sorted(name for name in found if is_image_name(name))
    else:
        images = _read_list(place, owner)
    if not images:
        raise DataError(f"{owner}: no images found in {place}; allowed suffixes: {', '.join(IMAGE_SUFFIXES)}")
    return images


def _read_list(file: Path, owner: str) -> list[str]:
    if is_image_name(file.name):
        raise DataError(f"{owner}: {file} is a single image; give a folder of images or a .txt list of image paths")
    if not file.is_file():  # a device or a pipe has no end
        raise DataError(f"{owner}: {file} is no file; give a folder of images or a .txt list of image paths")
    try:
        lines = file.read_text(encoding="utf-8-sig").strip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{owner}: {file} cannot be read as a list of image paths; one path per line, UTF-8") from error
    parent = str(file.parent) + os.sep
    named = [line.replace("./", parent, 1) if line.startswith("./") else line for line in lines]
    images = [line.replace("/", os.sep) for line in named if is_image_name(line)]
    there = [image for image in images if os.path.isfile(image)]
    if len(there) < len(images):
        first = next(image for image in images if not os.path.isfile(image))[:300]
        said = f"{owner}: {len(images) - len(there)} of {len(images)} images listed in {file} do not exist"
        if not there:
            raise DataError(f"{said}, first {first}; lines relative to the list's folder start with ./")
        LOGGER.warning("%s and are left out, first %s", said, first)
    return there


def check_readable(images: Sequence[str], owner: str) -> None:
    """Check that an image can be read; Ultralytics leaves out the others, saying so, and fails when none is left.

    Args:
        images: Paths of image files.
        owner: What to name in an error, such as ``data.yaml: train``.

    Raises:
        DataError: If none can, naming the first.
    """
    if not any(is_readable(image) for image in images):  # in a sound dataset only one is opened
        raise DataError(
            f"{owner}: none of {len(images)} images can be read, first {images[0]}; copy or convert them again "
            f"(sides of {SMALLEST_IMAGE} pixels and more, at most 178 million pixels in all)"
        )


def is_readable(image: str) -> bool:
    """Return whether an image file can be read and is large enough."""
    if image.lower().endswith(PLUGIN_SUFFIXES):
        return True
    try:
        with Image.open(image) as opened:
            opened.verify()
            fits = min(opened.size) >= SMALLEST_IMAGE and str(opened.format).lower() in FORMATS
        return fits and (not image.lower().endswith(DECODED_SUFFIXES) or _is_decoded(image))
    except Exception:  # Pillow's readers raise whatever they stumble over: OSError, SyntaxError, ValueError, ...
        return False


def _is_decoded(image: str) -> bool:
    """Return whether OpenCV, which Ultralytics reads with, makes a picture of a file: of a float TIFF it does not."""
    decoded = cv2.imdecode(np.fromfile(image, np.uint8), cv2.IMREAD_UNCHANGED)
    return decoded is not None and decoded.dtype in (np.uint8, np.uint16)


def read_picture(image: Path) -> Image.Image:
    """Return an image file's pixels in RGB, as Ultralytics decodes them: turned by EXIF, 8 bits a channel.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        decoded = cv2.imdecode(np.fromfile(image, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):  # an empty file is an error of OpenCV
        decoded = None
    if decoded is None:
        raise DataError(f"{image}: not a readable image; copy or convert it again, or leave it out")
    return Image.fromarray(np.ascontiguousarray(decoded[..., ::-1]))


def check_labels(images: Sequence[str], rules: LabelRules, owner: str, *, background: bool = False) -> None:
    """Check the label file of every image; images without one are background.

    Args:
        images: Paths of image files.
        rules: What a row may hold.
        owner: What to name in an error, such as ``data.yaml: train``.
        background: Whether none needs to have a label file; that is said.

    Raises:
        DataError: For the first bad row, with its file, line and how many there are; or if no image has a label file
            and one is needed.
    """
    files = [str(label_path(image)) for image in images]
    parts = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    with ThreadPoolExecutor(WORKERS) as pool:
        findings = [one for part in pool.map(lambda p: [_check_file(f, rules) for f in p], parts) for one in part]
    if not any(finding.exists for finding in findings):
        text = (
            f"{owner}: none of {len(images)} images has a label file; those of {images[0]} are expected in "
            f"{files[0]} (the last folder 'images' becomes 'labels'), or in COCO JSON under the key 'annotations'"
        )
        if not background:
            raise DataError(text)
        LOGGER.warning("%s; taken for background, so that there are no metrics", text)
    bad = [finding for finding in findings if finding.bad_rows]
    if bad:
        rows = sum(finding.bad_rows for finding in bad)
        count = (
            "the only bad row" if rows == 1 else f"first of {rows} bad rows in {len(bad)} of {len(files)} label files"
        )
        raise DataError(f"{bad[0].first} ({count})")


def _check_file(file: str, rules: LabelRules) -> _Finding:
    try:
        with open(file, encoding="utf-8-sig") as stream:
            lines = stream.read().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return _Finding(exists=False)
    except UnicodeDecodeError:
        return _Finding(True, 1, f"{file}: not UTF-8 text; one row 'class x y width height' per object is expected")
    except OSError as error:
        return _Finding(True, 1, f"{file}: cannot be read ({error.strerror}); replace the file")
    bad_rows, first = 0, ""
    boxes: bool | None = None  # whether the first sound row is a box
    for number, line in enumerate(lines, 1):
        row = line.split()
        if not row:
            continue
        fault = _row_fault(row, rules)
        if not fault:
            boxes = _is_box(row, rules) if boxes is None else boxes
            # Ultralytics reads a whole file as boxes or as polygons, and leaves out the image of a mixed one
            if boxes != _is_box(row, rules):
                fault = "a box row and a polygon row in one file; write either boxes or polygons"
        if fault:
            bad_rows += 1
            first = first or f"{file}, line {number}: {fault}"
    return _Finding(True, bad_rows, first)


def _is_box(row: list[str], rules: LabelRules) -> bool:
    """Tell a row with a box, with or without keypoints after it, from a polygon."""
    return len(row) in (5, 5 + rules.keypoint_numbers)


def _row_fault(row: list[str], rules: LabelRules) -> str:
    """Return what is wrong with the numbers of one row, or an empty text."""
    polygon = len(row) >= 7 and len(row) % 2 == 1
    box = _is_box(row, rules)
    if not (box or polygon):
        return (
            f"{len(row)} numbers; a row is 'class x y width height', or a class and at least three points of a polygon"
        )
    if rules.task in NEEDS_POLYGONS and not polygon:
        return f"a box, where task={rules.task} needs {NEEDS_POLYGONS[rules.task]}"
    if rules.task == "pose" and len(row) != 5 + rules.keypoint_numbers:
        wanted = 5 + rules.keypoint_numbers
        return (
            f"{len(row)} numbers; a class, a box and the key points of kpt_shape {list(rules.kpt_shape)} are {wanted}"
        )
    try:
        values = [float(text) for text in row]
    except ValueError:
        return f"{shown(' '.join(row))} holds something that is no number; write 'class x y width height'"
    number, places = values[0], values[1:5] if box else values[1:]
    if rules.task == "pose":
        places = values[1:5] + [x for i, x in enumerate(values[5:]) if i % rules.kpt_shape[1] < 2]
    if number % 1 != 0:  # also true of nan and inf
        return f"class {row[0]} is no integer; classes run from 0 to {rules.classes - 1}"
    if not 0 <= number < rules.classes:
        return f"class {row[0]} is out of range; the data YAML has classes 0 to {rules.classes - 1}"
    # min and max would let a nan through
    if not all(-TOLERANCE <= place <= 1 + TOLERANCE for place in places):
        return f"{shown(' '.join(row))} lies outside 0..1; coordinates are shares of the image's width and height"
    # Ultralytics trains on the box around a polygon, which may be too wide although every point is within the tolerance
    if not box and max(max(axis) - min(axis) for axis in (places[::2], places[1::2])) > 1 + TOLERANCE - FLOAT32_STEP:
        return f"{shown(' '.join(row))} is wider or higher than its image"
    if box and min(places[2:4]) < 0:
        return f"{shown(' '.join(row))} has a negative width or height"
    return ""
