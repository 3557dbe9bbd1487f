from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vanillayolo.data import SHAPES, check_data, draw_scene, make_scenes
from vanillayolo.data.scenes import five_shapes
from vanillayolo.data.scenes.painting import coverage, place_outline
from vanillayolo.errors import DataError

SMALL = {"train": 6, "val": 3, "size": 96}


def files_of(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file() and path.name != "scenes.yaml")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), size=st.sampled_from([64, 96, 160, 320]), classes=st.sets(st.sampled_from(SHAPES))
)
def test_boxes_lie_within_the_picture_and_name_given_classes(seed: int, size: int, classes: set[str]) -> None:
    chosen = sorted(classes) or list(SHAPES)
    picture, boxes = draw_scene(np.random.default_rng(seed), size, classes=chosen)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    assert boxes.shape[1] == 5
    assert np.isin(boxes[:, 0], np.arange(len(chosen))).all()
    centre, extent = boxes[:, 1:3], boxes[:, 3:5]
    assert (centre - extent / 2 >= -1e-9).all()
    assert (centre + extent / 2 <= 1 + 1e-9).all()
    assert (extent * size >= 2).all()


@pytest.mark.parametrize("kind", SHAPES)
def test_drawn_shape_fills_its_corners_to_the_pixel(kind: str) -> None:
    points = place_outline(kind, 60.0, (50.3, 47.8), 0.4, 0.9)
    rows, columns = np.nonzero(coverage(points, 100) > 0.5)
    drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    # a pointed corner covers less than half of its last pixels
    assert np.abs(np.asarray(drawn) - [*points.min(axis=0), *points.max(axis=0)]).max() < 2.5


def test_box_is_tight_around_what_was_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(five_shapes, "paint_background", lambda rng, size: np.zeros((size, size, 3), np.float32))
    monkeypatch.setattr(
        five_shapes, "photograph", lambda rng, canvas: (canvas.max(axis=2, keepdims=True) > 25) * [1, 1, 1]
    )
    for seed in range(60):
        picture, boxes = draw_scene(np.random.default_rng(seed), 128, shapes=(1, 1))
        for _, x, y, w, h in boxes * 128:
            rows, columns = np.nonzero(picture[..., 0])
            painted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            # a pixel that is covered by less than half is painted faintly and not counted as the shape
            assert np.abs(np.asarray(painted) - [x - w / 2, y - h / 2, x + w / 2, y + h / 2]).max() <= 2.01


def test_hidden_shape_is_not_placed() -> None:
    owner = np.full((100, 100), -1, np.int16)
    owner[20:40, 20:40] = 0
    cover = np.zeros((100, 100), np.bool_)
    cover[10:60, 10:29] = True
    assert five_shapes._fits(cover, owner, [400.0, 950.0])
    cover[10:60, 10:31] = True
    assert not five_shapes._fits(cover, owner, [400.0, 1050.0])  # 45 percent of the lower one would be left
    assert not five_shapes._fits(cover, np.full((100, 100), -1, np.int16), [2200.0])  # the new one lies half outside


def test_every_class_appears_and_scenes_differ() -> None:
    scenes = [draw_scene(np.random.default_rng(seed), 96) for seed in range(20)]
    kinds = np.concatenate([boxes[:, 0] for _, boxes in scenes])
    assert set(kinds.astype(int)) == set(range(len(SHAPES)))
    assert len({picture.tobytes() for picture, _ in scenes}) == len(scenes)


def test_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    make_scenes(tmp_path / "one", **SMALL, seed=3)
    make_scenes(tmp_path / "two", **SMALL, seed=3)
    make_scenes(tmp_path / "other", **SMALL, seed=4)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    one, other = files_of(tmp_path / "one"), files_of(tmp_path / "other")
    assert not any(one[name] == other[name] for name in one if name.endswith(".jpg"))


def test_scene_does_not_depend_on_how_many_are_asked_for(tmp_path: Path) -> None:
    make_scenes(tmp_path / "few", train=2, val=2, size=96)
    make_scenes(tmp_path / "more", train=4, val=2, size=96)
    few, more = files_of(tmp_path / "few"), files_of(tmp_path / "more")
    del few["scenes.json"]
    assert all(more[name] == content for name, content in few.items())
    assert few["images/train/00000.jpg"] != few["images/val/00000.jpg"]


def test_written_dataset_passes_the_checks(tmp_path: Path) -> None:
    data_yaml = make_scenes(tmp_path / "scenes", **SMALL)
    assert check_data(data_yaml) == data_yaml
    data = yaml.safe_load(data_yaml.read_text(encoding="utf-8"))
    assert list(data["names"].values()) == list(SHAPES)
    assert Path(data["path"]) == tmp_path / "scenes"
    assert len(list((tmp_path / "scenes/images/train").iterdir())) == SMALL["train"]
    assert cv2.imread(str(tmp_path / "scenes/images/val/00000.jpg")).shape == (96, 96, 3)


def test_existing_dataset_is_reused_and_other_settings_replace_it(tmp_path: Path) -> None:
    root = tmp_path / "scenes"
    make_scenes(root, **SMALL)
    picture = root / "images/train/00000.jpg"
    written = picture.stat().st_mtime_ns
    make_scenes(root, **SMALL)
    assert picture.stat().st_mtime_ns == written
    before = picture.read_bytes()
    make_scenes(root, **SMALL, seed=1)
    assert picture.read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


def test_moved_dataset_keeps_its_scenes_and_gets_its_new_path(tmp_path: Path) -> None:
    make_scenes(tmp_path / "old", **SMALL)
    (tmp_path / "old").rename(tmp_path / "new")
    written = (tmp_path / "new/images/val/00000.jpg").stat().st_mtime_ns
    data_yaml = make_scenes(tmp_path / "new", **SMALL)
    assert yaml.safe_load(data_yaml.read_text(encoding="utf-8"))["path"] == str(tmp_path / "new")
    assert (tmp_path / "new/images/val/00000.jpg").stat().st_mtime_ns == written


@pytest.mark.parametrize("name", ["thesis.txt", "images/mine.jpg"])
def test_folder_with_other_files_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match=name.partition("/")[0]):
        make_scenes(tmp_path, **SMALL)
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_left_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("vanillayolo.data.scenes.five_shapes.draw_scene", full_disk)
    with pytest.raises(OSError, match="no space"):
        make_scenes(tmp_path / "scenes", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 0}, "train=0"),
        ({"size": 8}, "size=8"),
        ({"seed": -1}, "seed=-1"),
        ({"classes": ["circel"]}, "did you mean circle"),
        ({"classes": ["star", "star"]}, "different shapes"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        make_scenes(tmp_path / "scenes", **{**SMALL, **arguments})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "scenes").exists()
