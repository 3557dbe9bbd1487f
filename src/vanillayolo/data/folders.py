"""Checks of a classification dataset, ImageNet's layout: ``train/CLASS/*.jpg`` and ``val/CLASS/*.jpg``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vanillayolo.errors import DataError

from .data_yaml import path_of
from .label_files import is_readable
from .paths import is_image_name

#: Folders that Ultralytics takes for a split, first first.
SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "validation", "valid", "test"), "test": ("test", "val")}


def check_folders(data: str | Path, splits: Sequence[str] = ("train", "val")) -> Path:
    """Check a classification folder and return its absolute path.

    Args:
        data: folder with one subfolder a split, each with one subfolder a class. The classes are those of ``train``.
        splits: splits that are needed.

    Raises:
        DataError: for a folder, split or class folder that is missing, or has no images that can be read.
    """
    root = path_of(data, "data")
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        raise DataError(f"data {data} {kind}; give a folder with train/CLASS/*.jpg and val/CLASS/*.jpg")
    folders = {split: _split_folder(root, split) for split in dict.fromkeys(("train", *splits))}
    classes = _class_folders(folders["train"])
    if len(classes) < 2:
        raise DataError(f"{root / 'train'} holds {len(classes)} class folders; give two or more (train/CLASS/*.jpg)")
    for split, folder in folders.items():
        names = _class_folders(folder)
        if foreign := sorted(set(names) - set(classes)):
            raise DataError(f"{folder / foreign[0]}: no such class in {root / 'train'}; rename it, or add it there")
        unreadable = {n: _unreadable(folder / n) for n in names}
        empty = [n for n in names if unreadable[n] == 0]
        if split == "train" and empty:
            raise DataError(f"{folder / empty[0]} holds no images; fill it or remove it from every split")
        if len(empty) == len(names):
            raise DataError(f"{folder} holds no images; give {split}/CLASS/*.jpg")
        broken = [n for n in names if unreadable[n]]
        if broken and (split == "train" or len(empty) + len(broken) == len(names)):
            count = unreadable[broken[0]]
            raise DataError(f"{folder / broken[0]}: none of {count} images can be read; copy or convert them again")
    return root.resolve()


def class_folders(root: Path) -> list[str]:
    """Return the names of the classes of a classification folder."""
    return _class_folders(_split_folder(root, "train"))


def _split_folder(root: Path, split: str) -> Path:
    names = SPLIT_FOLDERS.get(split, (split,))
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root} has no folder {split}; give {split}/CLASS/*.jpg")


def _unreadable(folder: Path) -> int | None:
    """Return how many images a folder holds if none of them can be read; None if one can: the others are not read."""
    count = 0
    for file in folder.rglob("*"):
        if is_image_name(file.name):
            count += 1
            if is_readable(str(file)):
                return None
    return count


def _class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
