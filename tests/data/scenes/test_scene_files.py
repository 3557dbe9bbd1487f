"""Written scenes are what readers find: Ultralytics' own dataset for every task, our checks, COCO's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from vanillayolo import cli
from vanillayolo.data import Scenes, SceneSettings, check_data, check_folders, write_scenes
from vanillayolo.data.scenes.atlas import Atlas
from vanillayolo.errors import DataError, UsageError

SMALL: dict[str, Any] = {"pictures": 16, "size": 128, "classes": 4, "val_every": 4}


@pytest.fixture(autouse=True)
def one_atlas(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanillayolo.data.scenes.scene.draw_atlas", lambda _: atlas)


def read(data: Path, task: str, split: str) -> Any:
    """Read a split as a training does; the messages of Ultralytics' scan must be none."""
    dataset = pytest.importorskip("ultralytics.data.dataset")
    found = yaml.safe_load(data.read_text(encoding="utf-8"))
    reader = dataset.YOLODataset(
        img_path=str(data.parent / found[split]), data={**found, "channels": 3}, task=task, augment=False, imgsz=128
    )
    cache = dataset.load_dataset_cache_file(data.parent / "labels" / f"{split}.cache")
    assert cache["msgs"] == []
    assert cache["results"][0] == len(reader.labels) == (4 if split == "val" else 12)
    return reader


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_ultralytics_reads_what_was_drawn(tmp_path: Path, task: str) -> None:
    made = SceneSettings(**SMALL, task=task)
    data = write_scenes(tmp_path / "out", made)
    assert check_data(data) == data
    scenes = Scenes(made)
    for split in ("train", "val"):
        for entry in read(data, task, split).labels:
            _, labels = scenes[int(Path(entry["im_file"]).stem)]
            low, high = labels.boxes[:, :2], labels.boxes[:, 2:]
            if labels.corners is not None:
                low, high = labels.corners.min(axis=1), labels.corners.max(axis=1)
            boxes = np.concatenate([(low + high) / 2, high - low], axis=1) / 128
            assert len(entry["bboxes"]) == len(boxes)
            if not len(boxes):
                continue
            # an outline may run within half a pixel of the box
            slack = 0.5 / 128 + 1e-5 if task == "segment" else 1e-5
            nearest = np.abs(entry["bboxes"][:, None] - boxes[None]).max(axis=2)
            assert nearest.min(axis=1).max() <= slack
            assert nearest.min(axis=0).max() <= slack
            assert sorted(entry["cls"].ravel().astype(int)) == sorted(labels.classes)
            if task == "pose":
                assert entry["keypoints"].shape[1:] == (4, 3)
            if task == "obb":
                assert all(len(points) == 4 for points in entry["segments"])


def test_masks_that_ultralytics_draws_are_the_visible_parts(tmp_path: Path) -> None:
    made = SceneSettings(**SMALL, task="segment")
    data = write_scenes(tmp_path / "out", made)
    utils, scenes, overlaps = pytest.importorskip("ultralytics.data.utils"), Scenes(made), []
    for entry in read(data, "segment", "train").labels:
        _, labels = scenes[int(Path(entry["im_file"]).stem)]
        for points in entry["segments"]:
            mask = utils.polygon2mask((1024, 1024), [(points * 1024).ravel()])[4::8, 4::8] > 0
            index = np.bincount(labels.owner[mask] + 1, minlength=2)[1:].argmax()
            part = labels.owner == index
            overlaps.append((mask & part).sum() / (mask | part).sum())
    assert np.mean(overlaps) > 0.95
    assert np.mean(np.array(overlaps) > 0.9) > 0.9


def test_classification_folders_hold_every_class(tmp_path: Path) -> None:
    root = write_scenes(tmp_path / "out", SceneSettings(**SMALL, task="classify"))
    assert check_folders(root) == root.resolve()
    for split, each in (("train", 3), ("val", 1)):
        assert {folder.name: len(list(folder.iterdir())) for folder in (root / split).iterdir()} == dict.fromkeys(
            ("contour-0", "polygon-0", "cell-0", "profile-0"), each
        )


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_coco_files_hold_the_same(tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VANILLAYOLO_CACHE", str(tmp_path / "cache"))
    made = SceneSettings(**SMALL, task=task)
    data = write_scenes(tmp_path / "out", made, "coco")
    scenes, objects = Scenes(made), 0
    for split, count in (("train", 12), ("val", 4)):
        content = json.loads((data.parent / f"instances_{split}.json").read_text(encoding="utf-8"))
        assert len(content["images"]) == count
        assert len({row["id"] for row in content["annotations"]}) == len(content["annotations"])
        objects += len(content["annotations"])
        for image in content["images"]:
            assert (data.parent / "images" / split / image["file_name"]).is_file()
            _, labels = scenes[image["id"]]
            rows = [row for row in content["annotations"] if row["image_id"] == image["id"]]
            assert [row["area"] for row in rows] == [int((labels.owner == k).sum()) for k in range(len(rows))]
            assert all(("segmentation" in row) == (task in ("segment", "obb")) for row in rows)
            assert all(len(row.get("keypoints", [])) == (12 if task == "pose" else 0) for row in rows)
    assert json.loads((data.parent / "scenes.json").read_text(encoding="utf-8"))["objects"] == objects
    converted = check_data(data)
    names = yaml.safe_load(converted.read_text(encoding="utf-8"))["names"]
    assert list(names.values()) == list(yaml.safe_load(data.read_text(encoding="utf-8"))["names"].values())


def contents(root: Path) -> dict[str, bytes]:
    return {
        p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.suffix in (".jpg", ".txt", ".json")
    }


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    made = SceneSettings(**{**SMALL, "pictures": 40})
    one, two = (write_scenes(tmp_path / str(workers), made, workers=workers).parent for workers in (1, 2))
    assert contents(one) == contents(two)
    assert len(contents(one)) == 81


def test_a_set_that_is_there_is_left_and_other_files_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "out"
    made = SceneSettings(**SMALL)
    write_scenes(root, made)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.jpg")}
    root.rename(tmp_path / "moved")
    data = write_scenes(tmp_path / "moved", made)
    assert yaml.safe_load(data.read_text(encoding="utf-8"))["path"] == str(tmp_path / "moved")
    assert sorted(before.values()) == sorted(p.stat().st_mtime_ns for p in (tmp_path / "moved").rglob("*.jpg"))
    record = tmp_path / "moved" / "scenes.json"
    said = json.loads(record.read_text(encoding="utf-8"))
    assert said["settings"].pop("plain") is False  # earlier versions did not know it; their sets lie in caches
    record.write_text(json.dumps(said), encoding="utf-8")
    assert write_scenes(tmp_path / "moved", made) == data
    with pytest.raises(DataError, match="already holds other files"):
        write_scenes(tmp_path / "moved", SceneSettings(**SMALL, seed=1))
    with pytest.raises(DataError, match="already holds other files"):
        write_scenes(tmp_path / "moved", SceneSettings(**SMALL, plain=True))
    assert len(list((tmp_path / "moved").rglob("*.jpg"))) == SMALL["pictures"]
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]
    for place in ("/proc/x", data / "x", ""):
        with pytest.raises(UsageError, match="folder="):
            write_scenes(place, made)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("pictures=3", "give pictures=10 or more"),
        ("task=classify pictures=30 classes=4", "give pictures=40 or more"),
        ("task=classify format=coco pictures=600", "has no format=coco"),
        ("format=voc", "format=voc: allowed: yolo, coco"),
        ("workers=0", "workers=0"),
        ("task=segmentation", "did you mean segment"),
        ("size=big", "size='big': give a whole number"),
        ("picures=5", "did you mean pictures"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    assert cli.main(["scenes", f"folder={tmp_path / 'out'}", *words.split()]) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["pictures=10", "size=64", "classes=4", "workers=1"]
    assert cli.main(["scenes", f"folder={out}", *words]) == 0
    line = capsys.readouterr().out
    assert f"{out / 'scenes.yaml'}: 9 pictures for training, 1 for validation" in line
    assert "4 classes, licence CC0-1.0" in line
    assert cv2.imread(str(out / "images" / "val" / "0000009.jpg")).shape == (64, 64, 3)
    record = json.loads((out / "scenes.json").read_text(encoding="utf-8"))
    assert record["settings"]["generator_version"] == 1
    assert record["settings"]["seed"] == 0


def test_nothing_is_left_when_drawing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("vanillayolo.data.scenes.writing.label_rows", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_scenes(tmp_path / "out", SceneSettings(**SMALL))
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_do_not_go_together() -> None:
    with pytest.raises(UsageError, match=r"workers=1\.5"):
        write_scenes("never", SceneSettings(), workers=1.5)  # type: ignore[arg-type]
