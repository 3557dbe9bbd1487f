from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vanillayolo.data import check_folders
from vanillayolo.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of two pictures each in train and val."""
    for place in ("train/a", "train/b", "val/a", "val/b"):
        (tmp_path / "pets" / place).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (16, 16)).save(tmp_path / "pets" / place / f"{number}.png")
    return tmp_path / "pets"


def spoil(folder: Path, count: int = 2) -> None:
    for file in sorted(folder.iterdir())[:count]:
        file.write_bytes(b"no picture")


def test_sound_folder_passes_and_one_broken_picture_does_not_matter(root: Path) -> None:
    spoil(root / "train/a", 1)
    spoil(root / "val/a")  # Ultralytics leaves them out
    assert check_folders(root) == root.resolve()


def refusal(root: object) -> str:
    with pytest.raises(DataError) as caught:
        check_folders(root)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_class_of_which_no_picture_can_be_read_is_told(root: Path) -> None:
    spoil(root / "train/b")
    assert f"{root / 'train' / 'b'}: none of 2 images can be read" in refusal(root)


def test_split_of_which_no_picture_can_be_read_is_told(root: Path) -> None:
    spoil(root / "val/a")
    shutil.rmtree(root / "val/b")
    (root / "val/b").mkdir()
    assert f"{root / 'val' / 'a'}: none of 2 images can be read" in refusal(root)


def test_pictures_that_only_pillow_reads_are_none(root: Path) -> None:
    for file in (root / "train/a").iterdir():
        file.unlink()
    Image.fromarray(np.zeros((16, 16), np.float32)).save(root / "train/a/0.tif")
    assert "none of 1 images can be read" in refusal(root)
    Image.fromarray(np.zeros((16, 16), np.uint16)).save(root / "train/a/0.tif")
    assert check_folders(root) == root.resolve()


def test_what_is_missing_is_told(root: Path) -> None:
    for file in (root / "train/b").iterdir():
        file.unlink()
    assert "holds no images; fill it" in refusal(root)
    shutil.rmtree(root / "train/b")
    assert "holds 1 class folders" in refusal(root)
    shutil.copytree(root / "train/a", root / "train/c")
    assert "no such class" in refusal(root)
    shutil.rmtree(root / "val")
    assert "no folder val" in refusal(root)
    for none in (5, "a\0b", "x" * 5000):
        assert "no path" in refusal(none) or "give a path" in refusal(none)
