"""Pictures for comparing and calibrating, found and read as Ultralytics' training finds and reads them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from ultralytics.data.augment import LetterBox, classify_transforms
from ultralytics.data.base import BaseDataset
from ultralytics.data.utils import IMG_FORMATS, check_det_dataset
from ultralytics.utils.patches import imread

from vanillayolo.data.folders import SPLIT_FOLDERS
from vanillayolo.data.label_files import is_readable
from vanillayolo.errors import DataError, one_line

from .exporting import quiet

#: How OpenCV reads pictures for a network of so many channels (Ultralytics' choice); others are read unchanged.
READ_AS = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}


class ImageList(BaseDataset):
    """Ultralytics' dataset without labels: its files are those that training sees."""

    def get_labels(self) -> list[dict[str, Any]]:
        """Return an empty label for each file: none is read, and no cache is."""
        return [{} for _ in self.im_files]

    def update_labels(self, include_class: list[int] | None) -> None:
        """Leave the empty labels."""

    def build_transforms(self, hyp: Any = None) -> None:
        """Transform nothing."""


def listed_images(where: str | Path | Sequence[str]) -> list[Path]:
    """Return the images of folders and ``.txt`` lists, sorted, as Ultralytics' datasets find them.

    Raises:
        DataError: when there is none.
    """
    given = [str(entry) for entry in where] if isinstance(where, (list, tuple)) else str(where)
    try:
        with quiet(logging.ERROR):  # how fast the disk is does not matter for eight pictures
            return [Path(file) for file in ImageList(given).im_files]
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: no images there; allowed are {', '.join(sorted(IMG_FORMATS))}.") from error


def image_files(source: str | Path) -> list[Path]:
    """Return the images of a folder or a ``.txt`` list, or the one image given, sorted.

    Raises:
        DataError: when there is none.
    """
    root = Path(source)
    if root.is_file() and root.suffix.lower() != ".txt":
        return [root]
    if not root.exists():
        raise DataError(f"{source}: no images there, it does not exist; give an image or a folder of images.")
    return listed_images(root)


def dataset_images(data: str, split: str = "val") -> list[Path]:
    """Return the images of one split of a (checked) data YAML or classification folder, as Ultralytics resolves it.

    Raises:
        DataError: when the split is missing or empty.
    """
    if (root := Path(data)).is_dir():  # a classification folder
        folders = [root / name for name in SPLIT_FOLDERS.get(split, (split,))]
        return listed_images(next((folder for folder in folders if folder.is_dir()), folders[0]))
    try:
        where = check_det_dataset(data, autodownload=False).get(split)
    except (FileNotFoundError, SyntaxError, RuntimeError) as error:
        raise DataError(f"data={data!r}: {one_line(error)}") from error
    if not where:
        raise DataError(f"data={data!r} has no split {split!r}.")
    return listed_images(where)


def read_image(path: str | Path, channels: int = 3) -> np.ndarray:
    """Read an image as ``[height, width, channels]`` uint8; three channels are BGR.

    Raises:
        DataError: when it cannot be decoded, or has other channels or values.
    """
    image = imread(str(path), READ_AS.get(channels, cv2.IMREAD_UNCHANGED))
    if image is None:
        raise DataError(f"{path}: not a readable image; give others (source=, data=).")
    if image.shape[2] != channels or image.dtype != np.uint8:
        raise DataError(
            f"{path}: {image.shape[2]} channels of {image.dtype}; the network takes {channels} of uint8 (or uint16)."
        )
    return np.asarray(image)


def check_usable(path: Path, channels: int = 3) -> None:
    """Raise DataError for an image that Ultralytics' training leaves out, or that has other channels."""
    if not is_readable(str(path)):
        raise DataError(f"{path}: not a readable image; give others (source=, data=).")
    if path.suffix.lower() in (".jpg", ".jpeg"):  # OpenCV fills up half a file with grey, Ultralytics leaves it out
        try:
            with Image.open(path) as opened:
                opened.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{path}: not a readable image ({error}); give others (source=, data=).") from error
    read_image(path, channels)


def usable_images(files: Iterable[Path], most: int, channels: int = 3) -> list[Path]:
    """Return the first ``most`` files that can be read for a network of so many channels.

    Raises:
        DataError: when there is none, with the reason of the first.
    """
    chosen: list[Path] = []
    reason = ""
    for path in files:
        if len(chosen) == most:
            break
        try:
            check_usable(path, channels)
            chosen.append(path)
        except DataError as error:
            reason = reason or str(error)
    if not chosen:
        raise DataError(f"none of the images can be used, first {reason}")
    return chosen


def channels_of(network: Any) -> int:
    """Return how many channels the images of a network have."""
    return int((getattr(network, "yaml", None) or {}).get("channels", 3))


def first_pixels(image: np.ndarray) -> np.ndarray:
    """Return an image with colours as a network takes them: three channels as RGB, others as they are."""
    return np.ascontiguousarray(image[..., ::-1] if image.shape[2] == 3 else image)


def letterbox(image: np.ndarray, imgsz: int | tuple[int, int]) -> Tensor:
    """Return the network's input ``[1, channels, height, width]``: letterboxed (grey 114, centred), RGB, 0 to 1.

    Args:
        image: BGR ``[height, width, 3]`` uint8, or of another number of channels.
        imgsz: side of a square, or height and width, pixels.
    """
    boxed = LetterBox((imgsz, imgsz) if isinstance(imgsz, int) else imgsz)(image=image)
    return torch.from_numpy(first_pixels(boxed).transpose(2, 0, 1).copy()).float()[None] / 255


def cropped(image: np.ndarray, imgsz: int) -> Tensor:
    """Return a classifier's input ``[1, 3, imgsz, imgsz]``: the shorter side to ``imgsz``, the centre, RGB, 0 to 1."""
    return torch.as_tensor(classify_transforms(imgsz)(Image.fromarray(first_pixels(image))))[None].float()


def network_input(task: str, image: np.ndarray, imgsz: int) -> Tensor:
    """Return an image as networks of a task take it, ``[1, channels, height, width]``."""
    return cropped(image, imgsz) if task == "classify" else letterbox(image, imgsz)
