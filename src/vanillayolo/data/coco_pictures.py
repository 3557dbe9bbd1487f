"""The pictures of a COCO file as they lie on disk: where they are, how large, and what its boxes are measured in."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from vanillayolo.errors import DataError
from vanillayolo.values import shown

from .coco_file import CocoBox, CocoFile
from .coco_shapes import Size
from .label_files import WORKERS

#: EXIF orientations that swap width and height.
TURNED = {5, 6, 7, 8}
#: Formats whose orientation OpenCV and Pillow apply alike; of others only decoding tells.
TURNED_ALIKE = {"JPEG", "MPO", "PNG", "AVIF"}
#: Share of boxes that may reach over a picture's edge: mistakes of people who label.
STRAY = 0.01
#: Boxes all within the smaller of two sizes by chance: below this, it is no chance.
CHANCE = 1e-3


def picture_size(path: Path) -> Size | None:
    """Return width and height in pixels as Ultralytics decodes a picture, EXIF applied; None if it is unreadable."""
    try:
        with Image.open(path) as opened:
            if (opened.getexif()).get(274) not in TURNED:
                return opened.size
            if opened.format in TURNED_ALIKE:
                return opened.size[::-1]
        decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        return None if decoded is None else decoded.shape[1::-1]
    except Exception:  # Pillow's readers raise whatever they stumble over
        return None


def find_pictures(coco: CocoFile, folder: Path) -> dict[int, Path]:
    r"""Return the file of every image that is there.

    A ``file_name`` is relative to ``folder``. One that leads nowhere is read once more as a Windows path (``a\b.jpg``),
    then without its leading folders, if no other image has that file.

    Raises:
        DataError: if none is there.
    """
    pictures = {number: folder / image.file_name for number, image in coco.images.items()}
    found = {number: path for number, path in pictures.items() if os.path.isfile(path)}
    taken = set(found.values())
    moved: dict[Path, list[int]] = {}
    for number in pictures.keys() - found.keys():
        parts = coco.images[number].file_name.replace("\\", "/").split("/")
        tails = (folder.joinpath(*parts[start:]) for start in range(len(parts)) if parts[start])
        if path := next((path for path in tails if path not in taken and os.path.isfile(path)), None):
            moved.setdefault(path, []).append(number)
    found |= {numbers[0]: path for path, numbers in moved.items() if len(numbers) == 1}
    if not found and pictures:
        raise DataError(
            f"{coco.file}: {len(pictures)} of {len(pictures)} images do not exist, first "
            f"{shown(str(next(iter(pictures.values()))))}; file_name is relative to the split's folder in the data YAML"
        )
    return {number: found[number] for number in coco.images if number in found}


def box_frames(coco: CocoFile, pictures: dict[int, Path]) -> tuple[dict[int, Size], str]:
    """Return the size that the boxes of every image are measured in, and what to say where it was not plain.

    That size is the file's width and height. Where these are not the picture's, the boxes tell which of both is meant:
    boxes of a larger frame reach over the edges of a smaller one.

    Raises:
        DataError: if the boxes are not measured in the pictures' pixels and a picture has another shape than the file
            says: it was cut or padded.
    """
    frames: dict[int, Size] = {number: image.size for number, image in coco.images.items()}
    boxes = [box for box in coco.boxes if box.image in pictures and not box.crowd]
    labelled = list(dict.fromkeys(box.image for box in boxes))
    with ThreadPoolExecutor(WORKERS) as pool:
        sizes = dict(zip(labelled, pool.map(lambda n: picture_size(pictures[n]), labelled), strict=True))
    other = {number: size for number, size in sizes.items() if size and size != frames[number]}
    if not other:
        return frames, ""
    in_pixels = _in_pixels([box for box in boxes if box.image in other], frames, other)
    odd = [number for number, size in other.items() if not in_pixels and not _same_shape(frames[number], size)]
    first = (odd or list(other))[0]
    stated, real = ("{:g} x {:g}".format(*size) for size in (frames[first], other[first]))
    text = (
        f"{coco.file}: width and height of {len(other)} of {len(labelled)} images with boxes are not the picture's, "
        f"first {pictures[first]} ({stated}, the picture {real})"
    )
    if odd:
        raise DataError(
            f"{text}; {len(odd)} have another shape too, so that no scale brings the boxes to their places; write the "
            "sizes of the pictures as they are (turned by EXIF where they have an orientation) and their boxes"
        )
    taken = "pixels of the pictures" if in_pixels else "pixels of the sizes in the file, and scaled"
    return (frames | other if in_pixels else frames), f"{text}; the boxes are taken as {taken}"


def _in_pixels(boxes: list[CocoBox], frames: dict[int, Size], sizes: dict[int, Size]) -> bool:
    """Tell whether boxes are measured in the pixels of the pictures (``sizes``), not in ``frames``."""
    over_frame = sum(_reaches_over(box, frames[box.image]) for box in boxes)
    over_picture = sum(_reaches_over(box, sizes[box.image]) for box in boxes)
    most = STRAY * len(boxes)
    chance = sum(math.log(_shared(frames[box.image], sizes[box.image])) for box in boxes)
    return over_picture <= most and (over_frame > most or chance < math.log(CHANCE))


def _reaches_over(box: CocoBox, size: Size) -> bool:
    # a pixel and a hundredth: rounding, and hands that are not steady
    return any(edge > side * 1.01 + 1 for edge, side in zip((box.right, box.bottom), size, strict=True))


def _shared(frame: Size, size: Size) -> float:
    """Return the share of a frame's area that lies within a picture of another size, both from the top left."""
    return math.prod(min(1.0, side / given) for given, side in zip(frame, size, strict=True))


def _same_shape(frame: Size, size: Size) -> bool:
    """Tell whether one scale leads from one size to the other, each side rounded to a whole pixel."""
    (width, height), (w, h) = frame, size
    return abs(w / width - h / height) <= 1 / width + 1 / height
