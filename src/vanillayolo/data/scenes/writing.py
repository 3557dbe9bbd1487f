"""Scenes as files: the layouts of YOLO and COCO for every task, with a record of what made them."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from vanillayolo.atomic import write_whole
from vanillayolo.data.paths import staged_folder
from vanillayolo.data.scenes.labels import FLIP, KEYPOINTS, Labels
from vanillayolo.data.scenes.scene import Scenes
from vanillayolo.data.scenes.settings import GENERATOR_VERSION, LICENCE, SceneSettings
from vanillayolo.data.scenes.shapes import class_name
from vanillayolo.errors import UsageError, closest
from vanillayolo.places import check_folder
from vanillayolo.valid_json import read_json
from vanillayolo.values import KINDS, check_value

FORMATS = ("yolo", "coco")
RECORD = "scenes.json"
JPEG_QUALITY = 95
_Written = tuple[int, list[dict[str, Any]]]
CHUNK = 32  # pictures that a process is given at a time


def write_scenes(
    folder: str | Path, settings: SceneSettings | None = None, format: str = "yolo", workers: int = 1
) -> Path:
    """Write a set of scenes, or find it there already.

    The files appear all at once. Their bytes depend on the settings alone, not on the number of processes.

    Args:
        folder: folder to make. One that holds the same set is left as it is, any other content is refused.
        settings: of the set.
        format: ``yolo``, label files (for classify: one folder a class), or ``coco``, one JSON file a split.
        workers: number of processes that draw.

    Returns:
        What to give to a training as ``data=``: the path of ``scenes.yaml``, or for classify the folder; absolute.

    Raises:
        UsageError: if the settings do not go together, or nothing can be written there.
        DataError: if the folder holds other files.
        WriteError: if it cannot be written.
    """
    settings = settings or SceneSettings()
    _check(settings, format, workers)
    check_value("folder", folder, KINDS["folder"])
    root = Path(folder).expanduser().absolute()
    data = root if settings.task == "classify" else root / "scenes.yaml"
    made_by = {"generator_version": GENERATOR_VERSION, "format": format, **asdict(settings)}
    if _stored(root) == made_by:
        if data != root:  # its absolute path is out of date in a folder that was moved
            write_whole(data, _yaml_text(root, settings, format))
        return data
    check_folder("folder", root)
    with staged_folder(root, ()) as stage:
        written = _write_pictures(stage, settings, format, workers)
        if format == "coco":
            for split, rows in _coco(settings, [rows for _, rows in written]).items():
                (stage / f"instances_{split}.json").write_text(json.dumps(rows), encoding="utf-8", newline="\n")
        if data != root:
            text = _yaml_text(root, settings, format)
            (stage / data.name).write_text(text, encoding="utf-8", newline="\n")
        record = {"licence": LICENCE, "objects": sum(count for count, _ in written), "settings": made_by}
        (stage / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8", newline="\n")
    return data


def _check(settings: SceneSettings, format: str, workers: int) -> None:
    if format not in FORMATS:
        raise UsageError(f"scenes: format={format}: {closest(str(format), FORMATS)}")
    check_value("workers", workers, KINDS["workers"])
    needed = settings.val_every
    if settings.task == "classify":
        if format == "coco":
            raise UsageError("scenes: task=classify has no format=coco; format=yolo writes one folder a class.")
        needed *= settings.classes  # every class in both splits: readers number the classes by the folders they find
    if settings.pictures < needed:
        raise UsageError(
            f"scenes: pictures={settings.pictures} leaves validation without pictures or classes; give "
            f"pictures={needed} or more, or a smaller val_every."
        )


def _stored(root: Path) -> object:
    try:  # an earlier version knew fewer settings, whose defaults draw as it did
        return {**asdict(SceneSettings()), **read_json(root / RECORD)["settings"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _yaml_text(root: Path, settings: SceneSettings, format: str) -> str:
    data: dict[str, Any] = {"path": str(root), "train": "images/train", "val": "images/val"}
    if format == "coco":
        data["annotations"] = {split: f"instances_{split}.json" for split in ("train", "val")}
    data["names"] = {number: class_name(number) for number in range(settings.classes)}
    if settings.task == "pose":
        data.update(kpt_shape=[len(KEYPOINTS), 3], flip_idx=list(FLIP))
    return yaml.safe_dump(data, sort_keys=False)


def _write_pictures(stage: Path, settings: SceneSettings, format: str, workers: int) -> list[_Written]:
    """Write pictures and label files; return of every picture the number of objects and the COCO annotations."""
    for split in ("train", "val"):
        names = [class_name(kind) for kind in range(settings.classes)]
        below = [f"{split}/{name}" for name in names] if settings.task == "classify" else [f"images/{split}"]
        for place in below if format == "coco" or settings.task == "classify" else [*below, f"labels/{split}"]:
            (stage / place).mkdir(parents=True)
    writer = _Writer(stage, Scenes(settings), format)
    if workers == 1:
        return [writer(index) for index in range(settings.pictures)]
    with ProcessPoolExecutor(workers, initializer=_start, initargs=(writer,)) as pool:
        return list(pool.map(_write_next, range(settings.pictures), chunksize=CHUNK))


class _Writer:
    """Draws and writes one picture after the other; a copy of it lies in each process."""

    def __init__(self, stage: Path, scenes: Scenes, format: str) -> None:
        self.stage, self.scenes, self.format = stage, scenes, format

    def __call__(self, index: int) -> _Written:
        settings = self.scenes.settings
        picture, labels = self.scenes[index]
        name, split = f"{index:07d}", "val" if settings.is_val(index) else "train"
        if labels.picture_class is not None:
            place = self.stage / split / class_name(labels.picture_class)
        else:
            place = self.stage / "images" / split
        # encoded in memory: cv2.imwrite cannot open paths with letters outside the code page on Windows
        _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (place / f"{name}.jpg").write_bytes(jpeg.tobytes())
        if self.format == "yolo" and settings.task != "classify":
            rows = "".join(f"{row}\n" for row in label_rows(labels, settings.size))
            (self.stage / "labels" / split / f"{name}.txt").write_text(rows, encoding="utf-8", newline="\n")
        return len(labels.classes), _annotations(labels) if self.format == "coco" else []


_writers: list[_Writer] = []  # of this process alone, if it is one of a pool


def _start(writer: _Writer) -> None:
    _writers.append(writer)


def _write_next(index: int) -> _Written:
    return _writers[0](index)


def label_rows(labels: Labels, size: int) -> list[str]:
    """Return the rows of a YOLO label file, for the task that the labels are of.

    A class, then a box, an outline, a box with key points, or four corners; all as shares of the picture's side.
    """
    boxes = labels.boxes / size
    places = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
    numbers = list(places)
    if labels.outlines is not None:
        numbers = [points.ravel() / size for points in labels.outlines]
    elif labels.corners is not None:
        numbers = list(labels.corners.reshape(-1, 8) / size)
    elif labels.keypoints is not None:
        points = (labels.keypoints / [size, size, 1]).reshape(-1, 3 * len(KEYPOINTS))
        numbers = list(np.concatenate([places, points], axis=1))
    return [
        " ".join([str(kind), *(f"{value:.6g}" for value in row)])
        for kind, row in zip(labels.classes, numbers, strict=True)
    ]


def _annotations(labels: Labels) -> list[dict[str, Any]]:
    """Return the annotations of a picture as COCO has them, without the numbers that they get in a file."""
    areas = np.bincount(labels.owner.ravel() + 1, minlength=len(labels.classes) + 1)[1:]
    rows: list[dict[str, Any]] = []
    for index, (left, top, right, bottom) in enumerate(labels.boxes.tolist()):
        row = {"category_id": int(labels.classes[index]) + 1, "bbox": [left, top, right - left, bottom - top]}
        row.update(area=int(areas[index]), iscrowd=0)
        for outlines in (labels.outlines, labels.corners):
            if outlines is not None:
                row["segmentation"] = [np.round(outlines[index], 2).ravel().tolist()]
        if labels.keypoints is not None:
            points = np.round(labels.keypoints[index], 2)
            row.update(keypoints=points.ravel().tolist(), num_keypoints=int((points[:, 2] > 0).sum()))
        rows.append(row)
    return rows


def _coco(settings: SceneSettings, annotations: list[list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return the content of the JSON file of each split."""
    categories = [{"id": kind + 1, "name": class_name(kind)} for kind in range(settings.classes)]
    if settings.task == "pose":
        categories = [{**category, "keypoints": list(KEYPOINTS), "skeleton": []} for category in categories]
    files: dict[str, dict[str, Any]] = {}
    for split, val in (("train", False), ("val", True)):
        indices = [index for index in range(settings.pictures) if settings.is_val(index) == val]
        images = [
            {"id": i, "file_name": f"{i:07d}.jpg", "width": settings.size, "height": settings.size} for i in indices
        ]
        rows = [{"image_id": i, **row} for i in indices for row in annotations[i]]
        numbered = [{"id": number, **row} for number, row in enumerate(rows, 1)]
        files[split] = {"images": images, "annotations": numbered, "categories": categories}
    return files


def summary(data: Path) -> str:
    """Return one line about a written set: what it holds, and its licence."""
    record = json.loads(((data if data.is_dir() else data.parent) / RECORD).read_text(encoding="utf-8"))
    made_by = record["settings"]
    val = made_by["pictures"] // made_by["val_every"]
    return (
        f"{data}: {made_by['pictures'] - val:,} pictures for training, {val:,} for validation, "
        f"{record['objects']:,} objects of {made_by['classes']} classes, licence {record['licence']}"
    )
