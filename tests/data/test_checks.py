from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vanillayolo.data import check_data
from vanillayolo.data.label_files import LabelRules, _row_fault
from vanillayolo.data.paths import label_path
from vanillayolo.errors import DataError

SHARED = Path(os.environ.get("VANILLAYOLO_SHARED") or Path(__file__).parents[2].parent / "shared")
GOOD_ROW = "0 0.5 0.5 0.2 0.2\n"
PICTURE = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VANILLAYOLO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def dataset(root: Path, labels: dict[str, str] | None = None, **keys: Any) -> Path:
    """Write images train/a, train/b, val/c with labels (``{"train/a": text}``); return the data YAML.

    A key set to ``None`` is left out of the YAML.
    """
    labels = {"train/a": GOOD_ROW, "val/c": GOOD_ROW} if labels is None else labels
    for name in ("train/a", "train/b", "val/c"):
        image = root / "images" / f"{name}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(PICTURE)
    for name, text in labels.items():
        label = root / "labels" / f"{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(text, encoding="utf-8")
    data = {"train": "images/train", "val": "images/val", "names": ["cat", "dog"], **keys}
    file = root / "pets.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not None}), encoding="utf-8")
    return file


def refusal(data: Any, splits: tuple[str, ...] = ("train", "val")) -> str:
    with pytest.raises(DataError) as caught:
        check_data(data, splits)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_sound_dataset_is_returned_as_it_is_and_left_untouched(tmp_path: Path, cache: Path) -> None:
    file = dataset(tmp_path / "pets")
    before = sorted((tmp_path / "pets").rglob("*"))
    assert check_data(file) == file
    assert check_data(str(tmp_path / "pets")) == file
    assert sorted((tmp_path / "pets").rglob("*")) == before
    assert not cache.exists()


def test_missing_file_names_the_closest(tmp_path: Path) -> None:
    dataset(tmp_path)
    assert "did you mean pets.yaml" in refusal(tmp_path / "pet.yaml")
    assert "no YAML file in" in refusal(tmp_path / "nowhere" / "pets.yaml")
    assert "is no YAML" in refusal(tmp_path / "images/train/a.jpg")


def test_folder_must_hold_exactly_one_yaml(tmp_path: Path) -> None:
    file = dataset(tmp_path)
    file.with_name("more.yml").write_text("{}", encoding="utf-8")
    assert "more.yml, pets.yaml" in refusal(tmp_path)
    assert "holds no data YAML" in refusal(tmp_path / "images")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: a\nval: [b\n", "line 3: not valid YAML"),
        ("train: a\n\tval: b\n", "line 2: not valid YAML"),
        ("- a\n- b\n", "holds a list"),
        ("", "holds nothing"),
        ("a: \x01\n", "cannot be read"),
        ("a: 2020-13-45\n", "cannot be read"),
        (f"nc: {'9' * 5000}\n", "cannot be read"),
    ],
)
def test_malformed_yaml_is_told(tmp_path: Path, text: str, message: str) -> None:
    file = dataset(tmp_path)
    file.write_text(text, encoding="utf-8")
    assert message in refusal(file)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"names": None}, "neither names nor nc"),
        ({"nc": 3}, "nc is 3 but names lists 2"),
        ({"nc": "many"}, "nc is 'many'"),
        ({"names": {0: "cat", 2: "dog"}}, "numbered 0..1 without gaps"),
        ({"names": {"cat": 0, "dog": 1}}, "keys of names are cat, dog"),
        ({"names": "cat"}, "names is 'cat'"),
        ({"names": []}, "names is []"),
        ({"val": None}, "'val' is missing"),
        ({"val": None, "valid": "images/val"}, "did you mean valid"),
        ({"train": 7}, "train is 7"),
        ({"train": "images/trian"}, "did you mean train"),
        ({"path": "gone"}, "path 'gone' leads to no folder"),
        ({"path": 3}, "path is 3"),
        ({"train": "labels"}, "no images found"),
        ({"train": "images/train/a.jpg"}, "is a single image"),
        ({"nc": float("nan")}, "nc is nan"),
        ({"train": "/dev/zero"}, "is no file"),
        ({"path": []}, "path is []"),
        ({"bg_class_idx": 1}, "bg_class_idx is of semantic segmentation"),
        ({"names": None, "nc": float("inf")}, "nc is inf"),
        ({"names": None, "nc": 10**9}, "an integer from 1 to 100000"),
        ({"names": None, "nc": True}, "nc is True"),
        ({"names": {0: "cat", float("inf"): "dog"}}, "keys of names are 0, inf"),
        ({"names": ["cat", None]}, "the name of class 1 is None"),
        ({"names": ["cat", " "]}, "the name of class 1 is ' '"),
        ({"names": ["cat", float("nan")]}, "the name of class 1 is nan"),
        ({"names": ["cat", ["dog"]]}, "the name of class 1 is ['dog']"),
        ({"names": ["cat", "d" * 5000]}, "1 to 200 characters"),
        ({"names": ["cat", "d\0g"]}, "the name of class 1 is 'd\\x00g'"),
        ({"names": "c" * 5000}, "names is 'ccc"),
        ({"train": "i" * 5000}, "no path of a file system"),
        ({"path": "i" * 300}, "no path of a file system"),
        ({"val": "a\0b"}, "no path of a file system"),
        ({"test": {"a": "b"}}, "test is {'a': 'b'}"),
        ({"channels": "three"}, "channels is 'three'"),
        ({"channels": 0}, "channels is 0"),
        ({"kpt_shape": [float("nan"), 3]}, "kpt_shape is [nan, 3]"),
        ({"kpt_shape": [2]}, "kpt_shape is [2]"),
        ({"flip_idx": 3}, "flip_idx is 3"),
        ({"download": ["a"]}, "download is ['a']"),
    ],
)
def test_wrong_keys_and_paths_are_told(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    assert message in refusal(dataset(tmp_path, **keys))


def test_anchors_that_unfold_without_end_stay_short(tmp_path: Path) -> None:
    file = dataset(tmp_path)
    deeper = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    file.write_text(f"a0: &a0 [x]\n{deeper}train: images/train\nval: images/val\nnames: *a11\n", encoding="utf-8")
    assert len(refusal(file)) < 1000


@pytest.mark.parametrize("given", [5, None, "a\0b", "x" * 5000, "~nobody/pets.yaml"])
def test_what_is_no_path_is_told(given: Any) -> None:
    assert "data" in refusal(given)


def test_names_of_two_classes_may_be_alike_which_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = dataset(tmp_path, names=["cat", "cat"])
    assert check_data(file) == file
    assert "names lists 'cat' more than once" in caplog.text


@pytest.mark.parametrize("keys", [{"names": None, "nc": "2"}, {"nc": 2.0}, {"names": {"0": "cat", "1": "dog"}}])
def test_what_ultralytics_accepts_is_accepted(tmp_path: Path, keys: dict[str, Any]) -> None:
    file = dataset(tmp_path, **keys)
    assert check_data(file) == file


def test_splits_are_checked_only_when_asked_for(tmp_path: Path) -> None:
    file = dataset(tmp_path, test="images/test")
    assert check_data(file) == file
    assert "test: 'images/test' leads to" in refusal(file, ("val", "test"))
    assert "'test' is missing" in refusal(dataset(tmp_path), ("test",))
    assert "did you mean val" in refusal(file, ("vall",))


def test_validation_is_another_word_for_val(tmp_path: Path) -> None:
    file = dataset(tmp_path, val=None, validation="images/val")
    assert check_data(file) == file


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 0.5 0.5 0.2", "4 numbers"),
        ("0 0.1 0.1 0.2 0.2 0.3", "6 numbers"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "8 numbers"),
        ("0 0.5 half 0.2 0.2", "no number"),
        ("0.5 0.5 0.5 0.2 0.2", "class 0.5 is no integer"),
        ("nan 0.5 0.5 0.2 0.2", "class nan is no integer"),
        ("2 0.5 0.5 0.2 0.2", "class 2 is out of range; the data YAML has classes 0 to 1"),
        ("-1 0.5 0.5 0.2 0.2", "class -1 is out of range"),
        ("0 320 0.5 0.2 0.2", "outside 0..1"),
        ("0 0.5 0.5 nan 0.2", "outside 0..1"),
        ("0 0.5 0.5 -0.005 0.2", "negative width"),
        ("0 0.1 0.1 0.2 0.2 0.3 1.3", "outside 0..1"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3", "either boxes or polygons"),
    ],
)
def test_bad_row_is_named_with_file_and_line(tmp_path: Path, row: str, message: str) -> None:
    file = dataset(tmp_path, {"train/a": GOOD_ROW, "train/b": f"{GOOD_ROW}\n{row}\n{GOOD_ROW}", "val/c": ""})
    said = refusal(file)
    assert message in said
    assert f"{Path('labels/train/b.txt')}, line 3" in said
    assert "the only bad row" in said


def test_all_bad_rows_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    said = refusal(dataset(tmp_path, {"train/a": "9 0 0 0 0\n9 0 0 0 0\n", "train/b": "1 2\n", "val/c": ""}))
    assert "a.txt, line 1" in said
    assert "first of 3 bad rows in 2 of 2 label files" in said


def test_polygons_background_and_rounding_are_fine(tmp_path: Path) -> None:
    labels = {"train/a": "\n1 0 0 0.5 0 1 1.004\n1.0 0 0 0.5 0 1 1 0 1", "val/c": ""}
    file = dataset(tmp_path, labels)
    assert check_data(file) == file


def test_pose_rows_need_their_shape(tmp_path: Path) -> None:
    labels = {"train/a": "0 0.5 0.5 0.2 0.2 0.1 0.1 2 0.3 0.3 2\n", "val/c": ""}
    assert "outside 0..1" in refusal(dataset(tmp_path, labels))
    file = dataset(tmp_path, labels, kpt_shape=[2, 3])
    assert check_data(file) == file


def test_label_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    file = dataset(tmp_path)
    (tmp_path / "labels/train/a.txt").write_bytes(b"\xff\xfe0\x00")
    assert "not UTF-8 text" in refusal(file)


def test_images_of_which_none_can_be_read_are_told(tmp_path: Path) -> None:
    file = dataset(tmp_path)
    (tmp_path / "images/train/a.jpg").write_bytes(b"no picture")
    assert check_data(file) == file  # b is one
    (tmp_path / "images/train/b.jpg").write_bytes(cv2.imencode(".png", np.zeros((4, 40, 3), np.uint8))[1].tobytes())
    message = refusal(file)
    assert "pets.yaml: train: none of 2 images can be read" in message
    assert message.count("a.jpg") == 1
    Image.new("L", (16, 16)).save(tmp_path / "images/train/a.jpg", "GIF")  # Ultralytics leaves it out by its format
    assert refusal(file) == message
    (tmp_path / "images/train/c.heic").write_bytes(b"for a plugin to read")
    assert check_data(file) == file


def test_split_without_any_label_file_says_where_labels_belong(tmp_path: Path) -> None:
    said = refusal(dataset(tmp_path, {"train/a": GOOD_ROW}))
    assert "val: none of 1 images has a label file" in said
    assert str(tmp_path / "labels" / "val" / "c.txt") in said


def test_background_alone_is_enough_to_validate_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = dataset(tmp_path, {"train/a": GOOD_ROW})
    assert check_data(file, ("val",), background=True) == file
    assert "no metrics" in caplog.text
    assert caplog.records[0].levelname == "WARNING"


def test_circle_of_links_is_told(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert "does not exist" in refusal(dataset(tmp_path, train="circle"))


def test_lists_of_images_and_lists_of_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = dataset(tmp_path, train=["images/train", "images/val"], val="val.txt")
    (tmp_path / "val.txt").write_text("./images/val/c.jpg\n./images/train/a.jpg\n", encoding="utf-8")
    assert check_data(file) == file
    (tmp_path / "val.txt").write_text("./images/val/c.jpg\n./images/val/gone.jpg\n", encoding="utf-8")
    assert check_data(file) == file
    assert "1 of 2 images listed" in caplog.text
    assert caplog.records[0].levelname == "WARNING"
    (tmp_path / "val.txt").write_text("./images/val/gone.jpg\n", encoding="utf-8")
    assert "1 of 1 images listed" in refusal(file)


@pytest.mark.parametrize("given", ["pets", ".", "../pets", "../pets/../pets"])
def test_relative_path_works_from_any_folder_through_a_copy(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    root = tmp_path / "pets"
    file = dataset(root, path=given, extra="kept")
    if given == "pets":  # relative to the YAML's folder
        file = file.rename(tmp_path / "pets.yaml")
    used = check_data(file)
    assert used.is_relative_to(cache)
    monkeypatch.chdir(tmp_path.anchor)
    data = yaml.safe_load(used.read_text(encoding="utf-8"))
    assert Path(data["train"]).samefile(root / "images/train")
    assert Path(data["path"]).is_absolute()
    assert data["extra"] == "kept"
    assert check_data(used) == used


def test_path_is_also_tried_in_the_current_folder_and_the_datasets_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = dataset(tmp_path / "store" / "pets", path="pets")
    (tmp_path / "elsewhere").mkdir()
    file = file.rename(tmp_path / "elsewhere" / "pets.yaml")
    assert "leads to no folder" in refusal(file)
    assert check_data(file, datasets_dir=tmp_path / "store").is_file()
    monkeypatch.chdir(tmp_path / "store")
    assert check_data(file).is_file()


def test_leading_dots_of_exported_datasets_are_forgiven(tmp_path: Path, cache: Path) -> None:
    file = dataset(tmp_path / "pets", train="../images/train", val="../images/val")
    assert check_data(file) == file  # Ultralytics forgives them too
    file = dataset(tmp_path / "pets", train=["../images/train"])
    assert check_data(file).is_relative_to(cache)  # but not in a list


def test_dataset_still_to_be_downloaded_is_left_to_ultralytics(tmp_path: Path) -> None:
    file = dataset(tmp_path, train="images/later", download="https://example.com/later.zip")
    assert check_data(file) == file
    assert "bad row" in refusal(dataset(tmp_path, {"train/a": "7\n"}, download="https://example.com/later.zip"))


@given(
    st.integers(0, 4),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
    st.sampled_from(["{:.6f}", "{:g}", "{!r}"]),
)
def test_every_sound_box_row_passes(number: int, box: list[float], form: str) -> None:
    assert _row_fault([str(number), *(form.format(value) for value in box)], LabelRules(5)) == ""


@given(st.lists(st.text(min_size=1, max_size=8), max_size=12))
def test_any_row_gets_a_verdict_and_only_numbers_pass(row: list[str]) -> None:
    words = " ".join(row).split()
    if words and not _row_fault(words, LabelRules(5)):
        assert all(-0.02 <= float(word) <= 4 for word in words)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("d/images/train/a.b.jpg", "d/labels/train/a.b.txt"),
        ("images/images/a.jpg", "images/labels/a.txt"),
        ("d/pictures/a.jpg", "d/pictures/a.txt"),
    ],
)
def test_label_path_replaces_the_last_images_folder(image: str, label: str) -> None:
    root = Path(Path.cwd().anchor)
    assert label_path(root / image) == root / label


@pytest.mark.parametrize("name", ["coco128", "bccd"])
def test_real_datasets_pass(name: str) -> None:
    folder = SHARED / "datasets" / name
    if not folder.is_dir():
        pytest.skip(f"the shared dataset {name} is not at {folder}")
    assert check_data(folder).is_file()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "'kpt_shape' is missing"),
        ({"kpt_shape": [2, 4]}, r"'kpt_shape' is \[2, 4\]; give \[points, 2 or 3\]"),
        ({"kpt_shape": [2, 3], "flip_idx": [1]}, r"flip_idx is \[1\]; give for each of the 2 key points"),
        ({"kpt_shape": [2, 3], "flip_idx": [1, "0"]}, r"flip_idx is \[1, '0'\]"),
        ({"kpt_shape": [2, 3], "kpt_oks_sigmas": [0.1]}, r"kpt_oks_sigmas is \[0\.1\]; .* each of the 2 key points"),
        ({"kpt_shape": [2, 3], "kpt_oks_sigmas": [0.1, "a"]}, r"kpt_oks_sigmas is \[0\.1, 'a'\]"),
        ({"kpt_shape": [2, 3], "kpt_oks_sigmas": [0.1, float("nan")]}, r"kpt_oks_sigmas is \[0\.1, nan\]"),
        ({"kpt_shape": [2, 3], "kpt_oks_sigmas": 0.1}, r"kpt_oks_sigmas is 0\.1"),
    ],
)
def test_key_points_that_do_not_go_together_are_told(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_data(dataset(tmp_path, **keys), task="pose")
