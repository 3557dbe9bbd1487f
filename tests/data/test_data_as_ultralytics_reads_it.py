"""What passes our checks must be what Ultralytics then finds: same places, same label files, no image left out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from five_shapes import make_scenes
from vanillayolo.data import check_data
from vanillayolo.data.label_files import LabelRules, check_labels, list_images
from vanillayolo.data.paths import IMAGE_SUFFIXES, label_path
from vanillayolo.errors import DataError

theirs = pytest.importorskip("ultralytics.data.utils")
base = pytest.importorskip("ultralytics.data.base")


@pytest.fixture(autouse=True)
def no_side_effects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VANILLAYOLO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(theirs, "check_font", lambda *_: None)  # it would look for a font on the network


@pytest.fixture(scope="module")
def scenes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("data") / "scenes", train=3, val=2, size=64).parent


def test_image_suffixes_are_the_same() -> None:
    assert set(IMAGE_SUFFIXES) == theirs.IMG_FORMATS


@given(st.lists(st.sampled_from(["images", "train", "my.images", "a b", "labels"]), max_size=5))
def test_label_paths_are_the_same(folders: list[str]) -> None:
    image = os.path.join(Path.cwd().anchor, *folders, "a.b.jpg")
    assert [str(label_path(image))] == theirs.img2label_paths([image])


@pytest.mark.parametrize("path", [None, ".", "absolute"])
@pytest.mark.parametrize("train", ["images/train", "../images/train", ["../images/train", "images/val"], "list.txt"])
def test_checked_yaml_leads_ultralytics_to_the_same_images(
    scenes_root: Path, monkeypatch: pytest.MonkeyPatch, path: str | None, train: str | list[str]
) -> None:
    (scenes_root / "list.txt").write_text("./images/train/00001.jpg\n", encoding="utf-8")
    data = {"train": train, "val": "images/val", "nc": 5, "path": str(scenes_root) if path == "absolute" else path}
    file = scenes_root / "mine.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in data.items() if v}), encoding="utf-8")
    used = check_data(file)
    monkeypatch.chdir(scenes_root.anchor)
    read = theirs.check_det_dataset(str(used))
    reader = type("Reader", (), {"prefix": "", "fraction": 1.0})()
    images = base.BaseDataset.get_img_files(reader, read["train"])
    expected = {str: ["train/00000", "train/00001", "train/00002"], list: ["train/00000", "train/00001", "train/00002"]}
    names = ["train/00001"] if train == "list.txt" else expected[type(train)]
    names = [*names, *(["val/00000", "val/00001"] if isinstance(train, list) else [])]
    assert images == sorted(str((scenes_root / "images" / f"{name}.jpg").resolve()) for name in names)


def test_converted_coco_is_read_with_its_boxes(scenes_root: Path, tmp_path: Path) -> None:
    content = {
        "images": [{"id": n, "file_name": f"0000{n}.jpg", "width": 64, "height": 64} for n in range(2)],
        "categories": [{"id": 9, "name": "thing"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 9, "bbox": [16, 16, 32, 32]}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content), encoding="utf-8")
    keys = {"path": str(scenes_root), "train": "images/train", "val": "images/val"}
    both = dict.fromkeys(("train", "val"), str(tmp_path / "boxes.json"))
    (tmp_path / "coco.yaml").write_text(yaml.safe_dump({**keys, "annotations": both}), encoding="utf-8")
    read = theirs.check_det_dataset(str(check_data(tmp_path / "coco.yaml")))
    assert read["names"] == {0: "thing"}
    images = list_images(Path(read["train"]), "train")
    results = [theirs.verify_image_label((i, str(label_path(i)), "", False, 1, 0, 0, False)) for i in images]
    assert [len(result[1]) for result in results] == [0, 1]
    np.testing.assert_allclose(results[1][1], [[0, 0.5, 0.5, 0.5, 0.5]])


NUMBER = st.one_of(st.floats(-0.03, 1.03), st.sampled_from([0.0, 1.0, 1.01, -0.01, float("nan"), 2.0]))
ROW = st.builds(
    lambda number, places: " ".join([number, *map(repr, places)]),
    st.sampled_from(["0", "1", "1.0", "2", "-1", "0.5"]),
    st.one_of(*(st.lists(NUMBER, min_size=n, max_size=n) for n in (3, 4, 4, 4, 6, 8))),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(rows=["0 0.5 0.5 0.5 0.5", "0 0.1 0.1 0.2 0.2 0.3 0.3"])
@example(rows=["0 0.0 -0.0078125 0.1 1.0078125 0.2 0.0"])
@example(rows=["0 -0.005 0.5 -0.005 0.5"])
@given(rows=st.lists(ROW, min_size=1, max_size=3))
def test_labels_that_pass_are_never_left_out(scenes_root: Path, tmp_path: Path, rows: list[str]) -> None:
    image = tmp_path / "images" / "a.jpg"
    label = label_path(image)
    for file in (image, label):
        file.parent.mkdir(exist_ok=True)
    image.write_bytes((scenes_root / "images/train/00000.jpg").read_bytes())
    label.write_text("\n".join(rows), encoding="utf-8")
    try:
        check_labels([str(image)], LabelRules(2), "train")
    except DataError:
        return
    verdict = theirs.verify_image_label((str(image), str(label), "", False, 2, 0, 0, False))
    assert verdict[8] == 0, verdict[9]  # number of corrupt images
