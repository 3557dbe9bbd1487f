"""A task trains from COCO JSON as from Ultralytics' label files: the same items of a dataset, the same losses."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset

from vanillayolo import VanillaYOLO
from vanillayolo.yolo import model_yaml
from vanillayolo.yolo.architecture import dump_yaml
from vanillayolo.yolo.datasets import resolve_data
from vanillayolo.yolo.tasks import TASKS

CORNERS = ["top_left", "top_right", "bottom_right", "bottom_left"]
Found = tuple[Path, list[dict[str, Any]]]


def polygons_of_coco128(root: Path) -> list[Found]:
    """Return pictures and annotations of those whose objects have one polygon each."""
    content = json.loads((root / "coco128/annotations/instances_train2017.json").read_text(encoding="utf-8"))
    found: dict[str, Found] = {}
    for image in content["images"]:
        rows = [row for row in content["annotations"] if row["image_id"] == image["id"]]
        if rows and all(not row["iscrowd"] and len(row["segmentation"]) == 1 for row in rows):
            found[image["file_name"]] = (root / "coco128/images/train2017" / image["file_name"], rows)
    return [found[name] for name in sorted(found)[:8]]


def boards(root: Path, task: str) -> list[Found]:
    """Return photos of chess boards with their four corners as key points or as a polygon, in pixels."""
    found = []
    for index, picture in enumerate(sorted((root / "chessboard_pose/images/train").iterdir())[:8]):
        label = root / f"chessboard_{task}/labels/train/{picture.stem}.txt"
        wide, high = Image.open(picture).size
        rows = []
        for line in label.read_text(encoding="utf-8").splitlines():
            values = [float(word) for word in line.split()][1:]
            if task == "obb":
                corners = [value * (wide, high)[n % 2] for n, value in enumerate(values)]
                rows.append({"segmentation": [corners], "category_id": 1})
                continue
            x, y, w, h = (value * side for value, side in zip(values, (wide, high, wide, high), strict=False))
            points = [value * (wide, high, 1)[n % 3] for n, value in enumerate(values[4:])]
            points[2 + 3 * (index % 4)] = 1  # hidden
            points[3 * (3 - index % 4) : 3 * (3 - index % 4) + 3] = [0, 0, 0]  # not labelled
            rows.append({"bbox": [x - w / 2, y - h / 2, w, h], "keypoints": points, "category_id": 1})
        found.append((picture, rows))
    return found


def label_row(row: dict[str, Any], number: int, size: tuple[int, int]) -> str:
    """Return an annotation as a row of a label file, by plain division."""
    if "keypoints" in row:
        left, top, wide, high = row["bbox"]
        values = [(left + wide / 2) / size[0], (top + high / 2) / size[1], wide / size[0], high / size[1]]
        values += [value / (*size, 1)[n % 3] for n, value in enumerate(row["keypoints"])]
    else:
        values = [value / size[n % 2] for n, value in enumerate(row["segmentation"][0])]
    return " ".join([str(number), *(f"{value:.8f}" for value in values)]) + "\n"


@pytest.fixture(params=["segment", "pose", "obb"])
def twins(request: pytest.FixtureRequest, shared_file: Callable[[str], Path], tmp_path: Path) -> tuple[str, Path, Path]:
    """A task, and data YAMLs of the same real pictures: with COCO JSON, and with label files."""
    task = request.param
    sets = shared_file(f"datasets/{'coco128' if task == 'segment' else f'chessboard_{task}'}").parent
    found = polygons_of_coco128(sets) if task == "segment" else boards(sets, task)
    numbers = sorted({row["category_id"] for _, rows in found for row in rows})
    categories = [{"id": n, "name": f"c{n}", **({"keypoints": CORNERS} if task == "pose" else {})} for n in numbers]
    images, annotations = [], []
    for place in ("coco/pictures", "labels/images", "labels/labels"):
        (tmp_path / place).mkdir(parents=True)
    for index, (picture, rows) in enumerate(found):
        wide, high = Image.open(picture).size
        images.append({"id": index, "file_name": picture.name, "width": wide, "height": high})
        annotations += [{"bbox": None, **row, "image_id": index, "id": 100 * index + n} for n, row in enumerate(rows)]
        for place in ("coco/pictures", "labels/images"):
            os.symlink(picture, tmp_path / place / picture.name)
        text = "".join(label_row(row, numbers.index(row["category_id"]), (wide, high)) for row in rows)
        (tmp_path / "labels/labels" / f"{picture.stem}.txt").write_text(text, encoding="utf-8")
    unseen = {"id": 9999, "image_id": 0, "category_id": numbers[0], "bbox": [1, 1, 9, 9], "keypoints": [0] * 12}
    annotations += [unseen, {**unseen, "id": 9998, "iscrowd": 1}]  # neither is in the label files
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "coco/all.json").write_text(json.dumps(content), encoding="utf-8")
    both = {"train": "pictures", "val": "pictures", "annotations": {"train": "all.json", "val": "all.json"}}
    names = {"train": "images", "val": "images", "names": [f"c{n}" for n in numbers]}
    names |= {"kpt_shape": [4, 3], "flip_idx": [1, 0, 3, 2]} if task == "pose" else {}
    files = tmp_path / "coco/my.yaml", tmp_path / "labels/my.yaml"
    for file, data in zip(files, (both, names), strict=True):
        file.write_text(yaml.safe_dump(data), encoding="utf-8")
    return task, *files


def test_items_are_those_of_label_files(twins: tuple[str, Path, Path]) -> None:
    task, *files = twins
    datas = [check_det_dataset(resolve_data(file, task=task)) for file in files]
    one, other = (YOLODataset(data["train"], imgsz=64, augment=False, data=data, task=task) for data in datas)
    assert [datas[0].get(key) for key in ("names", "kpt_shape", "flip_idx")] == [
        datas[1].get(key) for key in ("names", "kpt_shape", "flip_idx")
    ]
    assert len(one) == len(other) == 8
    for number in range(8):
        item, expected = one[number], other[number]
        assert item.keys() == expected.keys()
        assert len(item["cls"]) > 0
        for key, value in expected.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(item[key], value), (number, key)


@pytest.mark.slow
@pytest.mark.parametrize("twins", ["segment", "pose"], indirect=True)
def test_losses_are_those_of_label_files(
    twins: tuple[str, Path, Path], shrink_yaml: Callable[..., Any], quick: dict[str, Any], tmp_path: Path
) -> None:
    task, *files = twins
    cfg = shrink_yaml(model_yaml(f"yolo11n-vanillanet-5{TASKS[task].suffix}"), [16, 16, 24, 32])
    (tmp_path / "small.yaml").write_text(dump_yaml(cfg), encoding="utf-8")
    tables = []
    for name, file in zip(("coco", "labels"), files, strict=True):
        settings = {**quick, "data": str(file), "project": str(tmp_path / "runs"), "name": name, "workers": 0}
        model = VanillaYOLO(tmp_path / "small.yaml")
        model.train(epochs=1, val=False, **settings)
        (row,) = csv.DictReader((Path(model.trainer.save_dir) / "results.csv").open())
        tables.append({key: value for key, value in row.items() if key != "time"})
    assert tables[0] == tables[1]
    assert float(tables[0]["train/box_loss"]) > 0
