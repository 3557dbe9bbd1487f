"""Pictures that int8 is calibrated on: of the training split, as the network takes them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .pictures import dataset_images, letterbox, read_image, usable_images


def calibration_images(data: str, most: int, channels: int = 3) -> list[Path]:
    """Return at most ``most`` images of the training split, evenly spaced: never of another split.

    In the place of one that cannot be read, which training leaves out, comes another.

    Raises:
        DataError: when there is none.
    """
    files = dataset_images(data, "train")
    even = np.unique(np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)).tolist()
    rest = sorted(set(range(len(files))) - set(even))
    return sorted(usable_images((files[i] for i in [*even, *rest]), most, channels))


class Batches:
    """Images as inputs of batch 1, letterboxed as at inference, read anew each time they are gone through.

    Args:
        files: the images.
        imgsz: side of a square, or height and width, pixels.
        channels: of the network's images.
    """

    def __init__(self, files: Sequence[Path], imgsz: int | Sequence[int], channels: int = 3) -> None:
        sides = [imgsz] if isinstance(imgsz, int) else list(imgsz)
        self.files, self.size, self.channels = files, (sides[0], sides[-1]), channels

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Tensor]:
        return (letterbox(read_image(path, self.channels), self.size) for path in self.files)

    def stacked(self, pixels: int = 8 * 320 * 320) -> Iterator[Tensor]:
        """Yield the same images several at a time, so many as ``pixels`` allow: PyTorch is 2 to 3 times faster so."""
        each = max(1, pixels // (self.size[0] * self.size[1]))
        images = iter(self)
        while batch := list(itertools.islice(images, each)):
            yield torch.cat(batch)
