"""Pictures are found and read as Ultralytics' datasets find and read them."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from ultralytics.data.dataset import YOLODataset

from vanillayolo.errors import DataError
from vanillayolo.yolo.calibration import calibration_images
from vanillayolo.yolo.pictures import dataset_images, image_files, letterbox, read_image, usable_images


@pytest.fixture
def data(scenes: Path, tmp_path: Path) -> Path:
    """A copy of the scenes in a folder with a blank in its name."""
    root = tmp_path / "my set"
    shutil.copytree(scenes.parent, root)
    file = root / "data.yaml"
    lists = {"train": "train.txt", "val": "val.txt"}
    file.write_text(yaml.safe_dump({"path": str(root), **lists, "names": list("abcde")}), encoding="utf-8")
    for split, relative in (("train", True), ("val", False)):
        images = sorted((root / "images" / split).iterdir())
        lines = [f"./images/{split}/{p.name}" if relative else str(p) for p in images]
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return file


def test_lists_name_the_images_that_training_reads(data: Path) -> None:
    for split in ("train", "val"):
        images = dataset_images(str(data), split)
        theirs = YOLODataset(str(data.parent / f"{split}.txt"), data=yaml.safe_load(data.read_text()), augment=False)
        assert [str(p) for p in images] == theirs.im_files
        assert all(p.is_file() for p in images)
    assert image_files(data.parent / "val.txt") == dataset_images(str(data), "val")
    assert len(calibration_images(str(data), 3)) == 3


def test_what_training_leaves_out_is_left_out_and_replaced(data: Path) -> None:
    images = dataset_images(str(data), "val")
    empty, half = data.parent / "images/val/empty.png", data.parent / "images/val/half.jpg"
    empty.write_bytes(b"")
    cv2.imwrite(str(half), cv2.imread(str(images[0])))
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    gone = data.parent / "images/val/gone.jpg"
    files = [empty, half, gone, *images]
    assert usable_images(files, 2) == images[:2]
    assert usable_images(files, 100) == images
    with pytest.raises(DataError, match=r"none of the images can be used, first .*empty\.png: not a readable image"):
        usable_images(files[:3], 8)
    train = dataset_images(str(data), "train")
    train[0].write_bytes(b"")
    chosen = calibration_images(str(data), 2)
    assert len(chosen) == 2
    assert train[0] not in chosen


@pytest.mark.parametrize(("channels", "suffix"), [(1, ".png"), (4, ".png"), (5, ".tiff")])
def test_images_have_the_channels_of_the_network(channels: int, suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 40, max(channels, 3)), np.uint8)
    path = tmp_path / f"x{suffix}"
    if channels == 5:
        cv2.imwritemulti(str(path), [np.ascontiguousarray(noise[..., i]) for i in range(5)])
    else:
        cv2.imwrite(str(path), noise)
    image = read_image(path, channels)
    assert image.shape == (20, 40, channels)
    x = letterbox(image, 40)
    assert x.shape == (1, channels, 40, 40)
    assert float(x[0, :, 0].min()) == float(x[0, :, 0].max()) == pytest.approx(114 / 255)
    assert torch.equal((x[0, :, 10:30] * 255).round().byte(), torch.from_numpy(image).permute(2, 0, 1))
    with pytest.raises(DataError, match=rf"{channels if channels > 3 else 3} channels of uint8; the network takes 7"):
        read_image(path, 7)


def test_float_values_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.tiff"
    cv2.imwrite(str(path), np.ones((20, 20, 4), np.float32))
    with pytest.raises(DataError, match="float32"):
        read_image(path, 4)


def test_a_source_that_is_not_there_and_one_without_images(tmp_path: Path) -> None:
    for source in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match="no images there"):
            image_files(source)
