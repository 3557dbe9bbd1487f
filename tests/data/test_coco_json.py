from __future__ import annotations

import json
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

from vanillayolo.data import check_data, coco_json, convert_coco
from vanillayolo.data.coco_file import CocoFile, CocoImage
from vanillayolo.data.coco_pictures import picture_size
from vanillayolo.data.scenes import SceneSettings, write_scenes
from vanillayolo.errors import DataError

SHARED = Path(os.environ.get("VANILLAYOLO_SHARED") or Path(__file__).parents[2].parent / "shared")
PICTURE = cv2.imencode(".jpg", np.zeros((50, 100, 3), np.uint8))[1].tobytes()
COCO128 = SHARED / "datasets" / "coco128"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VANILLAYOLO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def coco(**changes: Any) -> dict[str, Any]:
    """Two images of 100 x 50, categories with ids 7 and 3, one box; changed as asked."""
    content = {
        "images": [
            {"id": 10, "file_name": "a.jpg", "width": 100, "height": 50},
            {"id": 20, "file_name": "sub/b.png", "width": 100, "height": 50},
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 10, "category_id": 7, "bbox": [10, 10, 20, 30], "iscrowd": 0}],
    }
    return {**content, **changes}


def dataset(root: Path, content: object | None = None, **keys: Any) -> Path:
    """Write a dataset whose train and val are the same folder and JSON file; return its data YAML."""
    pictures = root / "pictures"
    (pictures / "sub").mkdir(parents=True)
    (pictures / "a.jpg").write_bytes(PICTURE)
    (pictures / "sub" / "b.png").write_bytes(b"b")
    text = content if isinstance(content, str) else json.dumps(content or coco())
    (root / "boxes.json").write_text(text, encoding="utf-8")
    data = {"train": "pictures", "val": "pictures", "annotations": {"train": "boxes.json", "val": "boxes.json"}}
    file = root / "my.yaml"
    file.write_text(yaml.safe_dump({**data, **keys}), encoding="utf-8")
    return file


def rows(view: Path, name: str = "train/a.txt") -> list[list[float]]:
    text = (view.parent / "labels" / name).read_text(encoding="utf-8")
    return [[float(word) for word in line.split()] for line in text.splitlines()]


def view_data(view: Path) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(view.read_text(encoding="utf-8"))
    return data


def test_labels_links_and_names_are_written(tmp_path: Path, cache: Path) -> None:
    file = dataset(tmp_path / "mine")
    before = sorted(tmp_path.joinpath("mine").rglob("*"))
    view = convert_coco(file)
    assert view.is_relative_to(cache / "coco")
    assert view_data(view)["names"] == {0: "dog", 1: "cat"}  # by id: 3, 7
    assert rows(view) == [[1, 0.2, 0.5, 0.2, 0.6]]
    assert rows(view, "val/sub/b.txt") == []  # background
    assert (view.parent / "images/train/sub/b.png").read_bytes() == b"b"
    assert sorted(tmp_path.joinpath("mine").rglob("*")) == before


def test_entries_of_one_picture_are_one_image(tmp_path: Path) -> None:
    """Some tools write an image entry for every box; apart, each would make the others' objects background."""
    twin = {"id": 30, "file_name": "a.jpg", "width": 100, "height": 50}
    boxes = [*coco()["annotations"], {"id": 2, "image_id": 30, "category_id": 3, "bbox": [50, 10, 20, 30]}]
    view = convert_coco(dataset(tmp_path, coco(images=[*coco()["images"], twin], annotations=boxes)))
    assert rows(view) == [[1, 0.2, 0.5, 0.2, 0.6], [0, 0.6, 0.5, 0.2, 0.6]]
    assert sorted(p.name for p in (view.parent / "images" / "train").iterdir()) == ["a.jpg", "sub"]


def test_view_is_reused_until_the_annotations_change(tmp_path: Path, cache: Path) -> None:
    file = dataset(tmp_path / "mine")
    view = convert_coco(file)
    written = view.stat().st_mtime_ns
    assert convert_coco(file) == view
    assert view.stat().st_mtime_ns == written
    (tmp_path / "mine/boxes.json").write_text(json.dumps(coco(annotations=[])), encoding="utf-8")
    fresh = convert_coco(file)
    assert fresh != view
    assert rows(fresh) == []
    assert not [path for path in (cache / "coco").iterdir() if path.name.startswith(".")]


def test_given_folder_is_rewritten_when_ours_and_refused_otherwise(tmp_path: Path) -> None:
    file = dataset(tmp_path / "mine")
    out = tmp_path / "view"
    assert convert_coco(file, out) == out / "data.yaml"
    (tmp_path / "mine/boxes.json").write_text(json.dumps(coco(annotations=[])), encoding="utf-8")
    assert rows(convert_coco(file, out)) == []
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "mine/boxes.json").write_text(json.dumps(coco(), indent=1), encoding="utf-8")
    with pytest.raises(DataError, match=r"notes\.txt"):
        convert_coco(file, out)


def test_given_names_are_matched_by_category_name(tmp_path: Path) -> None:
    view = convert_coco(dataset(tmp_path / "mine", names=["bird", "cat"]))
    assert rows(view)[0][0] == 1  # dog has no box and may be absent
    with pytest.raises(DataError, match=r"'cat' is not among names.*did you mean cats"):
        convert_coco(dataset(tmp_path / "other", names=["cats", "dog"]))


def test_crowds_and_boxes_without_area_are_left_out_and_counted(tmp_path: Path) -> None:
    boxes = [
        {"id": 1, "image_id": 10, "category_id": 7, "bbox": [0, 0, 50, 50], "iscrowd": 1},
        {"id": 2, "image_id": 10, "category_id": 7, "bbox": [120, 10, 20, 30]},
        {"id": 3, "image_id": 10, "category_id": 7, "bbox": [10, 10, 0, 30]},
        {"id": 4, "image_id": 10, "category_id": 7, "bbox": [-50, -25, 100, 50]},
    ]
    view = convert_coco(dataset(tmp_path / "mine", coco(annotations=boxes)))
    assert rows(view) == [[1, 0.25, 0.25, 0.5, 0.5]]  # clipped to the image
    report = json.loads((view.parent / "conversion.json").read_text(encoding="utf-8"))
    assert report["dropped"] == {"crowd": 2, "no area": 4}  # train and val


def test_copies_stand_in_where_links_are_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("a required privilege is not held")

    monkeypatch.setattr(os, "symlink", refused)
    view = convert_coco(dataset(tmp_path / "hard"))
    assert (view.parent / "images/train/a.jpg").samefile(tmp_path / "hard/pictures/a.jpg")
    monkeypatch.setattr(os, "link", refused)
    view = convert_coco(dataset(tmp_path / "copies"))
    copy = view.parent / "images/train/a.jpg"
    assert copy.read_bytes() == PICTURE
    assert not copy.samefile(tmp_path / "copies/pictures/a.jpg")


def test_subfolder_called_images_keeps_its_labels_findable(tmp_path: Path) -> None:
    content = coco(images=[{"id": 10, "file_name": "images/a.jpg", "width": 100, "height": 50}])
    file = dataset(tmp_path / "mine", content)
    (tmp_path / "mine/pictures/images").mkdir()
    (tmp_path / "mine/pictures/a.jpg").rename(tmp_path / "mine/pictures/images/a.jpg")
    view = check_data(file)
    assert (view.parent / "images/train/labels/a.txt").read_text(encoding="utf-8").startswith("1 0.2")


NAMES = st.lists(st.sampled_from(["a", "A", "..", ".", "images", "b.c", "é"]), min_size=1, max_size=4)


@given(st.lists(st.tuples(NAMES, st.sampled_from([".jpg", ".PNG"])), max_size=8))
def test_no_two_images_share_a_label_file(given_names: list[tuple[list[str], str]]) -> None:
    images = {n: CocoImage("/".join(parts) + end, 1, 1) for n, (parts, end) in enumerate(given_names)}
    names = coco_json._view_names(CocoFile(Path("x.json"), images, {}, []))
    labels = [str(name.with_suffix("")).casefold() for name in names.values()]
    assert len(set(labels)) == len(images)
    for number, name in names.items():
        assert not name.is_absolute()
        assert not any(part.startswith(".") for part in name.parts)
        assert name.suffix == Path("x" + given_names[number][1]).suffix


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1: not valid JSON"),
        ("[]", "no COCO instances file"),
        (coco(images=[{"id": 10}]), "file_name None"),
        (coco(annotations=[{**coco()["annotations"][0], "bbox": [0.1, 0.2, 0.2, 0.6]}]), "write them in pixels"),
        (
            coco(images=[{"id": 10, "file_name": "a\0.jpg", "width": 9, "height": 9}]),
            "file_name 'a.*; give a path",
        ),
        (coco(images=[{"id": 10, "file_name": "a.jpg", "width": 0, "height": 5}]), "size 0 x 5"),
        (coco(images=[{"file_name": "a.jpg"}]), "no integer id"),
        (coco(categories=[{"id": 7, "name": "x"}, {"id": 7, "name": "y"}]), "same id"),
        (coco(categories=[{"id": 7}]), "category 7 has the name None"),
        (
            coco(annotations=[{"id": 5, "image_id": 11, "category_id": 7, "bbox": [0, 0, 1, 1]}]),
            "annotation 5 is of image",
        ),
        (coco(annotations=[{"id": 5, "image_id": 10, "category_id": 9, "bbox": [0, 0, 1, 1]}]), "of category 9"),
        (coco(annotations=[{"id": 5, "image_id": 10, "category_id": 7, "bbox": [0, 0, 1]}]), "has the bbox"),
        (coco(annotations=[{"id": 5, "image_id": 10, "category_id": 7, "bbox": [0, 0, 1, None]}]), "has the bbox"),
        ('{"images": [], "annotations": [], "categories": [{"id": %s}]}' % ("9" * 5000), "cannot be read"),
        (coco(annotations=[{"id": 5, "image_id": 10, "category_id": 7, "bbox": [0, 0, 1, 10**400]}]), "has the bbox"),
        (coco(annotations=[7]), "annotation 7 is no object"),
        (coco(images=[{"id": 10, "file_name": "gone.jpg", "width": 9, "height": 9}]), "1 of 1 images do not exist"),
        (coco(categories=[], annotations=[]), "0 categories"),
    ],
)
def test_malformed_json_is_told_in_one_line(tmp_path: Path, cache: Path, content: object, message: str) -> None:
    file = dataset(tmp_path / "mine", content)
    with pytest.raises(DataError, match=message) as caught:
        convert_coco(file)
    assert "\n" not in str(caught.value)
    assert not cache.exists() or not list((cache / "coco").iterdir())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"annotations": "boxes.json"}, "give a mapping"),
        ({"annotations": {"train": "boxes.json"}}, "no key 'val'"),
        ({"annotations": {"train": "boxes.json", "vla": "boxes.json"}}, "did you mean val"),
        ({"annotations": {"train": "boxes.json", "val": "boxs.json"}}, r"did you mean boxes\.json"),
        ({"train": "picture"}, "not one existing folder"),
        ({"names": ["cat", "cat"]}, "lists a class twice"),
        ({"nc": 5}, "nc is 5"),
    ],
)
def test_wrong_yaml_is_told_in_one_line(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        convert_coco(dataset(tmp_path / "mine", **keys))
    assert "\n" not in str(caught.value)


def test_splits_that_disagree_on_a_category_need_names(tmp_path: Path) -> None:
    files = {"train": "boxes.json", "val": "val.json"}
    file = dataset(tmp_path / "mine", annotations=files)
    swapped = coco(categories=[{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}])
    (tmp_path / "mine/val.json").write_text(json.dumps(swapped), encoding="utf-8")
    with pytest.raises(DataError, match="in another split"):
        convert_coco(file)
    named = yaml.safe_load(file.read_text(encoding="utf-8")) | {"names": ["cat", "dog"]}
    file.write_text(yaml.safe_dump(named), encoding="utf-8")
    view = convert_coco(file)
    assert (rows(view)[0][0], rows(view, "val/a.txt")[0][0]) == (0, 1)


def test_split_without_annotations_is_passed_on(tmp_path: Path) -> None:
    file = dataset(tmp_path / "mine", test="more/images")
    assert view_data(convert_coco(file))["test"] == [str((tmp_path / "mine/more/images").resolve())]


@pytest.mark.skipif(not COCO128.is_dir(), reason=f"the shared COCO128 images are not at {COCO128}")
def test_real_coco_gives_the_boxes_of_its_yolo_labels(tmp_path: Path) -> None:
    js = str(COCO128 / "annotations" / "instances_train2017.json")
    keys = {"path": str(COCO128), "train": "images/train2017", "val": "images/train2017"}
    file = tmp_path / "coco.yaml"
    file.write_text(yaml.safe_dump({**keys, "annotations": {"train": js, "val": js}}), encoding="utf-8")
    view = check_data(file)
    assert len(view_data(view)["names"]) == 80
    count = 0
    for label in (COCO128 / "labels" / "train2017").glob("*.txt"):
        expected = sorted([float(word) for word in line.split()] for line in label.read_text().splitlines())
        np.testing.assert_allclose(sorted(rows(view, f"train/{label.name}")), expected, atol=1.1e-6)
        count += len(expected)
    assert count == 929
    assert len(list((view.parent / "images/train").iterdir())) == 128


def split_of(
    root: Path, boxes: list[list[float]], stated: tuple[int, int], real: tuple[int, int], **image: Any
) -> Path:
    """Write a dataset of one picture of the size ``real`` for which the JSON states another; return its data YAML."""
    content = coco(
        images=[{"id": 10, "file_name": "a.jpg", "width": stated[0], "height": stated[1]}],
        annotations=[{"id": n, "image_id": 10, "category_id": 7, "bbox": box} for n, box in enumerate(boxes)],
    )
    file = dataset(root, content)
    Image.new("RGB", real).save(root / "pictures/a.jpg", **image)
    return file


@pytest.mark.parametrize(
    ("stated", "real", "boxes", "expected"),
    [
        # shrunk after labelling: the boxes reach over the picture
        ((200, 100), (100, 50), [[100, 50, 100, 50]], [0.75, 0.75, 0.5, 0.5]),
        # enlarged after labelling: no box leaves the stated frame
        ((50, 25), (100, 50), [[0, 0, 25, 25]], [0.25, 0.5, 0.5, 1]),
        # the boxes were brought to the picture's size, the sizes not
        ((50, 25), (100, 50), [[50, 25, 50, 25]], [0.75, 0.75, 0.5, 0.5]),
        ((200, 100), (100, 50), [[50, 25, 50, 25]] * 6, [0.75, 0.75, 0.5, 0.5]),
        # one size for all pictures, or width and height exchanged
        ((640, 640), (100, 50), [[50, 25, 50, 25]] * 2, [0.75, 0.75, 0.5, 0.5]),
        ((50, 100), (100, 50), [[50, 25, 50, 25]], [0.75, 0.75, 0.5, 0.5]),
        # too few to tell: as COCO defines it
        ((200, 100), (100, 50), [[50, 25, 50, 25]], [0.375, 0.375, 0.25, 0.25]),
    ],
)
def test_boxes_of_sizes_that_are_not_the_pictures_come_to_their_places(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    stated: tuple[int, int],
    real: tuple[int, int],
    boxes: list[list[float]],
    expected: list[float],
) -> None:
    view = convert_coco(split_of(tmp_path, boxes, stated, real))
    np.testing.assert_allclose(rows(view)[0][1:], expected)
    assert "1 of 1 images with boxes are not the picture's" in caplog.text
    assert "a.jpg" in caplog.text


def test_size_by_which_boxes_have_no_place_is_refused(tmp_path: Path, cache: Path) -> None:
    padded = split_of(tmp_path / "padded", [[0, 25, 100, 50]], (100, 100), (100, 50))
    with pytest.raises(DataError, match=r"100 x 100, the picture 100 x 50.*another shape"):
        convert_coco(padded)
    assert not list((cache / "coco").iterdir())


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_size_is_that_of_the_picture_as_it_is_shown(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    shown = (50, 100) if orientation in {6, 8} else (100, 50)
    convert_coco(split_of(tmp_path / "right", [[0, 0, 50, 50]], shown, (100, 50), exif=exif))
    assert picture_size(tmp_path / "right/pictures/a.jpg") == shown
    Image.new("RGB", (100, 50)).save(tmp_path / "a.webp", exif=exif)
    decoded = cv2.imdecode(np.fromfile(tmp_path / "a.webp", np.uint8), cv2.IMREAD_COLOR)
    assert picture_size(tmp_path / "a.webp") == decoded.shape[1::-1]
    if shown == (50, 100):
        with pytest.raises(DataError, match="another shape"):
            convert_coco(split_of(tmp_path / "raw", [[0, 0, 100, 50]], (100, 50), (100, 50), exif=exif))


def test_what_is_left_out_is_said_each_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = [*coco()["images"], {"id": 30, "file_name": "gone.jpg", "width": 100, "height": 50}]
    boxes = [
        *coco()["annotations"],
        {"id": 2, "image_id": 10, "category_id": 7, "bbox": [0, 0, 50, 50], "iscrowd": 1},
        {"id": 3, "image_id": 30, "category_id": 7, "bbox": [0, 0, 5, 5]},
        {"id": 4, "image_id": 10, "category_id": 7, "bbox": [], "segmentation": []},
        {"id": 5, "image_id": 10, "category_id": 3, "segmentation": [[20, 10, 40, 10, 40, 20], [10, 0, 20, 10, 12, 5]]},
    ]
    file = dataset(tmp_path, coco(images=images, annotations=boxes))
    for _ in range(2):
        caplog.clear()
        view = convert_coco(file)
        assert {record.levelname for record in caplog.records if "left out" in record.message} == {"WARNING"}
        assert "3 of 5 annotations of train are left out (1 without a box, 1 crowd, 1 of missing images)" in caplog.text
        assert "1 of 3 images of val do not exist" in caplog.text
    assert rows(view) == [[1, 0.2, 0.5, 0.2, 0.6], [0, 0.25, 0.2, 0.3, 0.4]]  # the polygons' box
    (tmp_path / "pictures/gone.jpg").write_bytes(PICTURE)
    assert len(rows(convert_coco(file), "train/gone.txt")) == 1  # looked for again


def test_training_on_background_alone_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    crowd = coco(annotations=[{**coco()["annotations"][0], "iscrowd": 1}])
    with pytest.raises(DataError, match=r"1 of 1 annotations of train are left out \(1 crowd\).*write iscrowd 0"):
        convert_coco(dataset(tmp_path / "train", crowd))
    file = dataset(tmp_path / "val", annotations={"train": "boxes.json", "val": "val.json"})
    (tmp_path / "val/val.json").write_text(json.dumps(crowd), encoding="utf-8")
    assert rows(convert_coco(file), "val/a.txt") == []
    assert "1 of 1 annotations of val are left out" in caplog.text


def test_heading_is_no_class_and_one_name_is_one_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 3, "name": "dog", "supercategory": "pets"},
        {"id": 7, "name": "cat", "supercategory": "pets"},
        {"id": 9, "name": "dog", "supercategory": "pets"},
    ]
    boxes = [{"id": n, "image_id": 10, "category_id": n, "bbox": [0, 0, 50, 25]} for n in (3, 7, 9)]
    view = convert_coco(dataset(tmp_path / "one", coco(categories=categories, annotations=boxes)))
    assert view_data(view)["names"] == {0: "dog", 1: "cat"}
    assert [row[0] for row in rows(view)] == [0, 1, 0]
    assert "category 0 ('pets') has no boxes" in caplog.text
    assert "the categories 3, 9 have one name, 'dog'; they are one class" in caplog.text
    categories[3]["supercategory"] = "sausages"
    view = convert_coco(dataset(tmp_path / "two", coco(categories=categories, annotations=boxes)))
    assert view_data(view)["names"] == {0: "dog (pets)", 1: "cat", 2: "dog (sausages)"}
    used = [*boxes, {"id": 4, "image_id": 10, "category_id": 0, "bbox": [0, 0, 50, 25]}]
    view = convert_coco(dataset(tmp_path / "three", coco(categories=categories[:3], annotations=used[:2] + used[3:])))
    assert view_data(view)["names"] == {0: "pets", 1: "dog", 2: "cat"}


def test_file_names_of_other_folders_and_systems_find_their_pictures(tmp_path: Path) -> None:
    names = [r"sub\b.png", "data/train/a.jpg", r"C:\data\c.jpg", "x/d.jpg", "y/d.jpg"]
    images = [{"id": n, "file_name": name, "width": 100, "height": 50} for n, name in enumerate(names)]
    file = dataset(tmp_path, coco(images=images, annotations=[{**coco()["annotations"][0], "image_id": 1}]))
    for name in ("c.jpg", "d.jpg"):
        (tmp_path / "pictures" / name).write_bytes(PICTURE)
    view = convert_coco(file)
    linked = sorted(path.resolve().name for path in (view.parent / "images/train").rglob("*.*"))
    assert linked == ["a.jpg", "b.png", "c.jpg"]  # d.jpg might be of either


# ---------------------------------------------------------------------------------------------------------------------
# Other tasks


def annotated(*annotations: dict[str, Any], names: object = None) -> dict[str, Any]:
    """Return a file of these annotations of the first image; ``names`` are the category's key points."""
    rows = [{"image_id": 10, "category_id": 7, "bbox": [10, 10, 40, 20], **row} for row in annotations]
    category = {"id": 7, "name": "cat", **({"keypoints": names} if names is not None else {})}
    return coco(annotations=[{"id": n, **row} for n, row in enumerate(rows, 1)], categories=[category])


SQUARE = [10, 10, 50, 10, 50, 30, 10, 30]
SHARES = [0.1, 0.2, 0.5, 0.2, 0.5, 0.6, 0.1, 0.6]
IN_RLE = {"size": [50, 100], "counts": [10 * 50 + 10, 20, *[30, 20] * 39, 100 * 50 - 10 * 50 - 10 - 20 - 39 * 50]}


def test_masks_are_outlines_and_those_without_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = annotated(
        {"segmentation": [SQUARE]},
        {"segmentation": IN_RLE, "bbox": None},
        {"segmentation": [[-20, 10, 20, 10, 20, 20, -20, 20]]},
        {"segmentation": [SQUARE, [60, 10, 80, 10, 80, 30]]},
        {"segmentation": []},
        {"segmentation": {"size": 3}, "iscrowd": 1},
        {"segmentation": [[10, 60, 20, 60, 20, 70]]},
    )
    view = convert_coco(dataset(tmp_path, content), task="segment")
    square, mask, cut, two = rows(view)
    assert square == [0, *SHARES]
    corners = np.reshape(mask[1:], (-1, 2)) * [100, 50]  # the middle of its pixels
    assert sorted(corners.round(5).tolist()) == [[10.5, 10.5], [10.5, 29.5], [49.5, 10.5], [49.5, 29.5]]
    assert sorted(np.reshape(cut[1:], (-1, 2)).tolist()) == [[0, 0.2], [0, 0.4], [0.2, 0.2], [0.2, 0.4]]
    assert {tuple(p) for p in np.reshape(two[1:], (-1, 2))} == {*zip(SHARES[::2], SHARES[1::2], strict=True)} | {
        (0.6, 0.2), (0.8, 0.2), (0.8, 0.6)
    }  # fmt: skip
    assert "3 of 7 annotations of train are left out (1 without a mask, 1 crowd, 1 no area)" in caplog.text
    assert convert_coco(tmp_path / "my.yaml").parent != view.parent
    boxes = rows(convert_coco(tmp_path / "my.yaml"))
    assert len(boxes) == 6
    np.testing.assert_allclose(boxes[1], [0, 0.3, 0.4, 0.4, 0.4])  # around the mask in RLE, which has no bbox


def test_polygons_with_corners_are_turned_boxes(tmp_path: Path) -> None:
    view = check_data(dataset(tmp_path, annotated({"segmentation": [SQUARE]})), task="obb")
    assert rows(view) == [[0, *SHARES]]


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("segment", {}, "1 without a mask.*needs polygons or a mask in RLE.*train task=detect"),
        ("obb", {"segmentation": []}, "1 without corners.*needs the four corners of each turned box"),
        ("pose", {"keypoints": [0] * 12}, "1 without a labelled key point.*needs keypoints, x, y and visibility"),
        ("segment", {"segmentation": [SQUARE], "iscrowd": 1}, "1 crowd.*write iscrowd 0"),
        ("segment", {"segmentation": [[0.1, 0.2, 0.5, 0.2, 0.5, 0.6]]}, "every segmentation lies within one pixel"),
        ("pose", {"keypoints": [0.1, 0.2, 2, 0.5, 0.6, 2]}, "every keypoints lies within one pixel"),
        ("segment", {"segmentation": [[1, 2, 3, 4]]}, "annotation 1 has the polygon .1, 2, 3, 4. of 4 numbers"),
        ("pose", {"keypoints": [1, 2, 3]}, "annotation 1 has the visibility 3"),
        ("detect", {"iscrowd": "0"}, "annotation 1 has iscrowd '0'; give 1"),
    ],
)
def test_objects_of_no_use_to_a_task_are_told_in_one_line(
    tmp_path: Path, cache: Path, task: str, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=r"boxes\.json: .*" + message) as caught:
        check_data(dataset(tmp_path, annotated(row)), task=task)
    assert "\n" not in str(caught.value)
    assert not (cache / "coco").exists() or not list((cache / "coco").iterdir())


def test_key_points_follow_their_box(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = annotated(
        {"keypoints": [10, 10, 2, 50, 10, 1, 7, 7, 0], "num_keypoints": 2},
        {"keypoints": [10, 10, 2, 120, 10, 2, 100.5, 50.4, 2]},
        {"keypoints": [0] * 9, "num_keypoints": 0},
        {"keypoints": [120, 10, 2] * 3},
        names=["left_ear", "right_ear", "tail"],
    )
    view = check_data(dataset(tmp_path, content), task="pose")
    box = [0, 0.3, 0.4, 0.4, 0.4]
    np.testing.assert_allclose(rows(view)[0], [*box, 0.1, 0.2, 2, 0.5, 0.2, 1, 0, 0, 0])
    np.testing.assert_allclose(rows(view)[1], [*box, 0.1, 0.2, 2, 0, 0, 0, 1.005, 1.008, 2])
    assert len(rows(view)) == 2
    assert "2 of 4 annotations of train are left out (2 without a labelled key point)" in caplog.text
    assert "4 key points of train lie outside their pictures and are taken as not labelled" in caplog.text
    data = view_data(view)
    assert (data["kpt_shape"], data["flip_idx"]) == ([3, 3], [1, 0, 2])
    assert data["kpt_names"] == {0: ["left_ear", "right_ear", "tail"]}
    before = yaml.safe_load((tmp_path / "my.yaml").read_text(encoding="utf-8"))
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({**before, "flip_idx": [2, 1, 0]}), encoding="utf-8")
    assert view_data(check_data(tmp_path / "my.yaml", task="pose"))["flip_idx"] == [2, 1, 0]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"kpt_shape": [4, 3]},
            r"annotation 1 has key points of the shape \[3, 3\], and .*my\.yaml: kpt_shape is \[4, 3\]",
        ),
        ({"kpt_shape": [3, 2]}, r"kpt_shape is \[3, 2\]; .* x, y, visibility"),
        ({"flip_idx": [0, 1]}, r"my\.yaml: flip_idx is \[0, 1\]; give for each of the 3 key points"),
        ({"flip_idx": [0, 1, 3]}, r"my\.yaml: flip_idx is \[0, 1, 3\].*0 to 2, each once"),
    ],
)
def test_key_points_that_the_data_yaml_denies(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    file = dataset(tmp_path, annotated({"keypoints": [10, 10, 2] * 3}), **keys)
    with pytest.raises(DataError, match=message):
        check_data(file, task="pose")


def test_objects_with_other_numbers_of_key_points_are_refused(tmp_path: Path) -> None:
    other = annotated({"keypoints": [10, 10, 2] * 3}, {"keypoints": [10, 10, 2] * 4})
    with pytest.raises(DataError, match=r"annotation 2 has .* \[4, 3\], and that of annotation 1 is \[3, 3\]"):
        check_data(dataset(tmp_path / "numbers", other), task="pose")
    named = annotated({"keypoints": [10, 10, 2] * 3}, names=["a", "b"])
    with pytest.raises(DataError, match=r"annotation 1 has 9 numbers as keypoints.* its category's 2"):
        check_data(dataset(tmp_path / "names", named), task="pose")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_scenes_in_coco_json_are_those_in_label_files(tmp_path: Path, task: str) -> None:
    settings = SceneSettings(pictures=10, size=64, task=task, classes=2, objects=4)
    plain, annotated = (write_scenes(tmp_path / form, settings, form) for form in ("yolo", "coco"))
    view = check_data(annotated, task=task)
    for label in (plain.parent / "labels/train").glob("*.txt"):
        expected = [[float(word) for word in line.split()] for line in label.read_text().splitlines()]
        for got, row in zip(rows(view, f"train/{label.name}"), expected, strict=True):
            np.testing.assert_allclose(got, row, atol=1e-4)  # the JSON has hundredths of a pixel
    before, after = (view_data(file) for file in (check_data(plain, task=task), view))
    assert [after.get(key) for key in ("names", "flip_idx")] == [before.get(key) for key in ("names", "flip_idx")]


@pytest.mark.slow
@pytest.mark.skipif(not COCO128.is_dir(), reason=f"the shared COCO128 images are not at {COCO128}")
def test_real_polygons_are_those_of_ultralytics_converter(tmp_path: Path) -> None:
    theirs = pytest.importorskip("ultralytics.data.converter")
    js = COCO128 / "annotations" / "instances_train2017.json"
    theirs.convert_coco(str(js.parent), str(tmp_path / "theirs"), use_segments=True)
    keys = {"path": str(COCO128), "train": "images/train2017", "val": "images/train2017"}
    file = tmp_path / "coco.yaml"
    file.write_text(yaml.safe_dump({**keys, "annotations": {"train": str(js), "val": str(js)}}), encoding="utf-8")
    view = check_data(file, task="segment")
    single = several = 0
    for label in (tmp_path / "theirs/labels/train2017").glob("*.txt"):
        expected = [np.array(line.split(), float) for line in label.read_text().splitlines()]
        got = [np.array(row) for row in rows(view, f"train/{label.name}")]
        assert len(got) == len(expected)
        for mine, their in zip(got, expected, strict=True):
            assert mine[0] == their[0]
            if len(mine) == len(their) and np.allclose(mine, their, atol=1e-6):
                single += 1
            else:  # several parts, from another start
                several += 1
                np.testing.assert_allclose(extent(mine), extent(their), rtol=1e-4, atol=1e-5)
    assert (single, several) == (847, 82)


def extent(row: np.ndarray[Any, Any]) -> list[float]:
    """Return the length of a polygon row's edges and the sides of its box, whatever its start."""
    points = row[1:].reshape(-1, 2)
    length = np.hypot(*(np.roll(points, -1, axis=0) - points).T).sum()
    return [float(length), *points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
