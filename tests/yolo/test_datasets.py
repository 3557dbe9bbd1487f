"""Ultralytics' scan of a dataset with our caches and our check of pictures; what a foreign cache would do."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from ultralytics.cfg import get_cfg
from ultralytics.data.dataset import ClassificationDataset, YOLODataset
from ultralytics.data.utils import check_det_dataset

from vanillayolo.errors import DataError
from vanillayolo.yolo.datasets import PACKAGED, WithoutDownloads, cache_place, may_fetch, resolve_data


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VANILLAYOLO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pictures with labels in YOLO's layout, the same in ImageNet's."""
    noise = np.random.default_rng(0)
    for number in range(3):
        picture = Image.fromarray(noise.integers(0, 255, (40, 50, 3), np.uint8))
        for place in (tmp_path / "d/images/train", tmp_path / "c/train/one"):
            place.mkdir(parents=True, exist_ok=True)
            picture.save(place / f"{number}.png")
        label = tmp_path / f"d/labels/train/{number}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    return tmp_path


def boxes(root: Path) -> YOLODataset:
    return YOLODataset(str(root / "d/images/train"), imgsz=32, augment=False, data={"names": {0: "x"}})


def classes(root: Path) -> ClassificationDataset:
    return ClassificationDataset(root / "c/train", get_cfg(overrides={"imgsz": 32}))


class Marker:
    """What a pickle may do when it is opened; here it makes an empty file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_foreign_caches_are_never_opened_and_ours_lie_elsewhere(root: Path, cache: Path) -> None:
    marker = root / "opened"
    foreign = [root / "d/labels/train.cache", root / "c/train.cache"]
    for file in foreign:
        with file.open("wb") as stream:
            np.save(stream, np.array(Marker(marker), dtype=object), allow_pickle=True)
    before = [file.read_bytes() for file in foreign]
    for _ in range(2):
        assert len(boxes(root).labels) == len(classes(root).samples) == 3
    assert not marker.exists()
    assert [file.read_bytes() for file in foreign] == before
    assert len(list((cache / "labels").iterdir())) == 2
    pickle.loads(pickle.dumps(Marker(marker)))  # the marker would have been seen
    assert marker.exists()


@pytest.mark.parametrize("damage", [b"", b"no pickle", "half", "folder"])
def test_damaged_cache_is_made_again(root: Path, damage: bytes | str) -> None:
    boxes(root)
    place = cache_place(root / "d/labels/train.cache")
    whole = place.read_bytes()
    place.write_bytes(damage if isinstance(damage, bytes) else whole[: len(whole) // 2])
    if damage == "folder":
        place.unlink()
        place.mkdir()
    assert len(boxes(root).labels) == 3
    if damage != "folder":  # a cache that cannot be written is scanned for each time
        assert place.read_bytes() == whole


def test_cache_follows_the_labels(root: Path) -> None:
    boxes(root)
    (root / "d/labels/train/0.txt").write_text("0 0.5 0.5 0.2 0.2\n0 0.2 0.2 0.1 0.1\n", encoding="utf-8")
    assert len(boxes(root).labels[0]["cls"]) == 2


@pytest.mark.parametrize("mode", ["F", "I", "cut"])
def test_picture_that_the_loader_does_not_decode_is_left_out(root: Path, mode: str) -> None:
    """Pillow verifies these; without our check the first batch with one ends the training."""
    for place in (root / "d/images/train", root / "c/train/one"):
        picture = Image.open(place / "0.png")
        (place / "0.png").unlink()
        picture.convert("RGB" if mode == "cut" else mode).save(place / "0.tif")
        if mode == "cut":
            (place / "0.tif").write_bytes((place / "0.tif").read_bytes()[:3000])
    found = boxes(root)
    assert [Path(file).name for file in found.im_files] == ["1.png", "2.png"]
    assert len([found[i] for i in range(2)]) == len(classes(root).samples) == 2


@pytest.mark.parametrize("mode", ["I;16", "L", "1", "RGBA", "CMYK"])
def test_pictures_that_it_decodes_stay(root: Path, mode: str) -> None:
    picture = Image.open(root / "d/images/train/0.png")
    (picture.convert("L") if mode == "I;16" else picture).convert(mode).save(root / "d/images/train/3.tif")
    assert len(boxes(root).labels) == 4


def later(root: Path, monkeypatch: pytest.MonkeyPatch, download: object) -> Path:
    """Return a data YAML whose images a download would bring, in restricted mode."""
    monkeypatch.setattr("vanillayolo.yolo.datasets.SAFE_LOAD", True)
    data = {"path": str(root), "train": "later", "val": "later", "names": ["x"], "download": download}
    file = root / "coco8.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    return file


def test_restricted_mode_runs_no_download_of_others(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = later(root, monkeypatch, f"import pathlib; pathlib.Path({str(root / 'run')!r}).touch()")
    with pytest.raises(DataError, match=r"coco8\.yaml.*its download is not run.*unset ULTRALYTICS_SAFE_LOAD"):
        resolve_data(file)
    monkeypatch.setattr("ultralytics.data.utils.YAML", WithoutDownloads)
    with pytest.raises(FileNotFoundError):
        check_det_dataset(str(file))  # whoever comes past our check
    assert not (root / "run").exists()
    with monkeypatch.context() as patch:  # without the mode it runs
        patch.setattr("vanillayolo.yolo.datasets.SAFE_LOAD", False)
        patch.setattr("ultralytics.data.utils.check_font", lambda *_: None)
        check_det_dataset(str(file))
    assert (root / "run").exists()


def test_restricted_mode_leaves_ultralytics_own_datasets_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = later(root, monkeypatch, "https://example.com/x.zip")
    assert may_fetch(PACKAGED / "coco8.yaml")
    assert not may_fetch(file)
    assert WithoutDownloads.load(PACKAGED / "coco8.yaml")["download"]
    monkeypatch.setattr("vanillayolo.yolo.datasets.ONLINE", True)
    monkeypatch.chdir(root)  # where another coco8.yaml lies
    assert resolve_data("coco8") == str(PACKAGED / "coco8.yaml")
