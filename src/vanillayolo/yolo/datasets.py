"""How Ultralytics scans a dataset here: with caches in a place of their own, without pictures that nothing decodes.

In restricted mode (``ULTRALYTICS_SAFE_LOAD=1``) it runs no ``download`` but those of its own data YAMLs. A label cache
of Ultralytics' is a pickle, and opening one runs what is in it. Those of this package lie in its cache folder: one that
came with a dataset is never opened, and nothing is written beside the user's files.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from ultralytics.data import dataset, loaders, utils
from ultralytics.utils import LOGGER, ONLINE, ROOT, SAFE_LOAD, SETTINGS, YAML
from ultralytics.utils.patches import imread

from vanillayolo.atomic import whole_file
from vanillayolo.data import cache_dir, check_data, check_folders
from vanillayolo.data.data_yaml import path_of
from vanillayolo.errors import DataError, WriteError

#: Ultralytics' own data YAMLs.
PACKAGED = ROOT / "cfg" / "datasets"
#: Formats of which Pillow finds damage, as the scan asks it to, without decoding.
VERIFIED = (".jpg", ".jpeg", ".png", ".webp", ".mpo")

_load, _check_image = utils.load_dataset_cache_file, utils.check_image


def may_fetch(file: str | Path) -> bool:
    """Return whether Ultralytics may run the ``download`` of a data YAML: in restricted mode of its own ones alone."""
    return not SAFE_LOAD or Path(os.path.realpath(file)).parent == PACKAGED.resolve()


def cache_place(path: str | Path) -> Path:
    """Return our place of the cache that Ultralytics would write to ``path``."""
    digest = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:16]
    return cache_dir() / "labels" / f"{Path(path).stem}-{digest}.cache"


def load_cache(path: Path) -> dict[str, Any]:
    """Return our cache in place of the one at ``path``; raises as Ultralytics' does where none can be read."""
    found: dict[str, Any] = _load(cache_place(path))
    return found


def save_cache(prefix: str, path: Path, x: dict[str, Any], version: str) -> None:
    """Write a scan's result to our place, whole; without one that can be written it is scanned again each time."""
    x["version"] = version
    try:
        with whole_file(cache_place(path)) as temporary, temporary.open("wb") as file:
            np.save(file, np.array(x, dtype=object), allow_pickle=True)
    except WriteError as error:
        LOGGER.warning(f"{prefix}{error}")


def check_image(file: str) -> tuple[str, tuple[int, int]]:
    """Verify an image as Ultralytics does, and that its loader decodes it: a float TIFF would end the training.

    Returns:
        What was mended, and height and width in pixels.
    """
    message, shape = _check_image(file)
    if not file.lower().endswith(VERIFIED):
        assert read_image(file) is not None, "OpenCV does not decode it to 8 bits"
    return message, shape


def read_image(file: str, flags: int = cv2.IMREAD_COLOR) -> npt.NDArray[np.uint8] | None:
    """Return a picture as Ultralytics' loader reads it; None too where that is of other numbers than 8 bits."""
    try:
        decoded = imread(file, flags)
    except cv2.error:  # more pixels than OpenCV takes
        return None
    return decoded if decoded is not None and decoded.dtype == np.uint8 else None


def resolve_data(
    data: str | Path, splits: tuple[str, ...] = ("train", "val"), *, background: bool = False, task: str = "detect"
) -> str:
    """Return the path of a data YAML that Ultralytics can train on.

    A file or folder is checked (and converted, from COCO JSON); a bare name of Ultralytics' own datasets is left to
    Ultralytics, which fetches it, unless it is not here and there is no network.

    Args:
        data: the data YAML, its folder, or the name of one of Ultralytics' own.
        splits: splits that are needed.
        background: whether a split may have no labels at all.
        task: what is trained.

    Raises:
        DataError: when there is nothing to train on.
    """
    path = path_of(data, "data")
    packaged = PACKAGED / f"{path.stem}.yaml"
    if path.exists() or not packaged.is_file() or path.parent != Path("."):
        checked = check_data(
            data,
            tuple(dict.fromkeys(splits)),
            datasets_dir=Path(SETTINGS["datasets_dir"]),
            background=background,
            may_fetch=may_fetch(path),
            task=task,
        )
        return str(checked)
    root = Path(str(YAML.load(packaged).get("path", "")))
    here = any((base / root).exists() for base in (Path(SETTINGS["datasets_dir"]), Path(".")))
    if not here and not ONLINE:
        raise DataError(
            f"data={str(data)!r}: Ultralytics' own dataset, not on this machine, and there is no network; "
            f"put it under {SETTINGS['datasets_dir']} or give the path of your data YAML."
        )
    return str(packaged) if SAFE_LOAD else str(data)  # by its bare name Ultralytics would find another file of it too


def resolve_splits(data: str | Path, task: str = "detect") -> tuple[str, tuple[str, ...]]:
    """Return the path of the data YAML of a task, and its splits that were checked: train, val, and test where named.

    Raises:
        DataError: when there is nothing to train on.
    """
    splits = ("train", "val")
    if not YAML.load(checked := resolve_data(data, task=task)).get("test"):
        return checked, splits
    return resolve_data(data, (*splits, "test"), task=task), (*splits, "test")


def task_data(task: str, data: Any, splits: tuple[str, ...] = ("train", "val"), *, background: bool = False) -> str:
    """Return data of a task, checked; ``background``: a split may have no labels at all.

    Raises:
        DataError: when there is nothing to train on.
    """
    if task == "classify":
        return str(check_folders(data, splits))
    return resolve_data(data, splits, background=background, task=task)


class WithoutDownloads(YAML):
    """Ultralytics' reader of YAMLs, blind for what it may not fetch."""

    @classmethod
    def load(cls, file: str | Path = "data.yaml", append_filename: bool = False) -> dict[str, Any]:
        """Return a YAML's mapping, without ``download`` unless that may be run."""
        data: dict[str, Any] = super().load(file, append_filename)
        if not may_fetch(file):
            data.pop("download", None)
        return data


def install() -> None:
    """Let Ultralytics scan datasets so, in this process."""
    utils.check_image, loaders.imread = check_image, read_image
    dataset.load_dataset_cache_file, dataset.save_dataset_cache_file = load_cache, save_cache
    if SAFE_LOAD:
        utils.YAML = WithoutDownloads
