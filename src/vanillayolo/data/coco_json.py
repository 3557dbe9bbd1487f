"""COCO JSON as input: a view of the user's images with the label files that Ultralytics reads.

The view holds links to the images and label files of its own, for one task; nothing is written beside the user's files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from vanillayolo.errors import DataError, closest
from vanillayolo.valid_json import read_json
from vanillayolo.values import shown

from .coco_classes import coco_classes, keypoint_keys
from .coco_file import WITHOUT, CocoFile, read_coco
from .coco_pictures import box_frames, find_pictures
from .coco_rows import is_labelled, label_numbers
from .coco_shapes import Size
from .data_yaml import SPLIT_KEYS, DataYaml, find_root, locate, path_of, read_yaml, split_entries
from .paths import cache_dir, label_path, staged_folder

LOGGER = logging.getLogger(__name__)
VIEW_VERSION = 3  # raise it when the layout or the labels change, so that older views are written again
#: What to do where no object is left to train on: of a group, or of what a task needs.
HINTS = {
    "crowd": "a crowd is a group that is no single object: write iscrowd 0 where a box is around one object",
    "detect": "task=detect needs a bbox",
    "segment": "task=segment needs polygons or a mask in RLE as segmentation; of boxes alone, train task=detect",
    "obb": "task=obb needs the four corners of each turned box as a polygon in segmentation: a bbox is not turned",
    "pose": "task=pose needs keypoints, x, y and visibility (1 or 2 where it is labelled) of each",
}
CONTENTS = ("images", "labels", "data.yaml", "conversion.json")


def convert_coco(yaml_path: Path, out: Path | None = None, task: str = "detect") -> Path:
    """Turn a dataset with COCO JSON annotations into one that Ultralytics trains on.

    The data YAML has the usual keys ``path``, ``train``, ``val`` (folders of images) and ``annotations``, a mapping
    from split to JSON file. ``names`` may be left out: the categories then become the classes, sorted by id. When it is
    given, categories are matched by name. Images are those of the JSON, in links (hard links or copies where the system
    allows no links); an image without boxes becomes background. Crowd boxes are left out, and so are boxes with no area
    inside the image, annotations without a box and images that do not exist: a warning counts them, whenever the view
    is used, and so does ``conversion.json`` in it. Boxes are read by the size of the picture where the JSON states
    another (:func:`vanillayolo.data.coco_pictures.box_frames`). A split without annotations other than train and val is
    passed on as it is.

    Args:
        yaml_path: The user's data YAML.
        out: Folder to write; by default one in the cache whose name depends on the YAML and on the size and time of the
            JSON files, so that it is found again until one of them changes.
        task: What the labels are for: ``detect`` (boxes), ``segment`` and ``obb`` (outlines of the masks) or ``pose``
            (boxes and key points, with ``kpt_shape``, ``flip_idx`` and ``kpt_names``).

    Returns:
        The absolute path of ``data.yaml`` in the view.

    Raises:
        DataError: If the YAML or a JSON file is malformed, all images are missing, their sizes fit no reading of the
            boxes, no box is left to train on, a category is not among ``names``, or ``out`` holds other files.
    """
    source = read_yaml(Path(yaml_path).expanduser().absolute())
    annotations = _annotation_entries(source)
    root = find_root(source, list(annotations))
    folders = {split: _image_folder(source, root, split) for split in annotations}
    files = {split: _annotation_file(source, root, split, entry) for split, entry in annotations.items()}
    digest = _fingerprint(source, root, folders, files, task)
    final = out.expanduser().absolute() if out else cache_dir() / "coco" / f"{source.file.stem}-{digest}"
    report = _stored_report(final, digest)
    if report is None:
        report = _write_view(source, root, folders, files, final, {"digest": digest, "task": task})
        LOGGER.info("converted %s to %s", source.file, final)
    for line in report["said"]:
        LOGGER.warning(line)
    return final / "data.yaml"


def _write_view(
    source: DataYaml,
    root: Path,
    folders: dict[str, Path],
    files: dict[str, Path],
    final: Path,
    made_by: dict[str, str],
) -> dict[str, Any]:
    """Write the view and return what its ``conversion.json`` says, with ``made_by`` (digest and task)."""
    task = made_by["task"]
    loaded = {file: read_coco(file, task) for file in dict.fromkeys(files.values())}
    names, numbers, said = coco_classes(source, list(loaded.values()))
    classes = dict(zip(loaded, numbers, strict=True))
    keys = keypoint_keys(source, list(loaded.values()), len(names))
    dropped: Counter[str] = Counter()
    missing = 0
    with staged_folder(final, CONTENTS) as stage:
        for split, file in files.items():
            coco = loaded[file]
            pictures = find_pictures(coco, folders[split])
            frames, note = box_frames(coco, pictures)
            left_out = coco.left_out + _write_split(stage, split, coco, pictures, frames, classes[file], task)
            absent = len(coco.images) - len(pictures)
            said += [note, *_left_out_lines(split, coco, left_out, absent, task), _outside_line(split, coco, frames)]
            dropped, missing = dropped + left_out, missing + absent
        _write_yaml(stage, final, source, root, names, list(files), keys)
        report = {**made_by, "dropped": dropped, "missing": missing, "said": [s for s in said if s]}
        report["annotations"] = {s: str(f) for s, f in files.items()}
        (stage / "conversion.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _left_out_lines(split: str, coco: CocoFile, left_out: Counter[str], absent: int, task: str) -> list[str]:
    """Return what to say of the annotations and images of a split that are left out.

    Raises:
        DataError: if no object is left to train on.
    """
    total = len(coco.boxes) + coco.left_out.total()
    lines = []
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        lines = [f"{coco.file}: {left_out.total()} of {total} annotations of {split} are left out ({reasons})"]
        if split == "train" and left_out.total() == total:
            hint = HINTS[task if left_out[WITHOUT[task]] else "crowd"]
            raise DataError(f"{lines[0]}, so that it would train on background alone; {hint}")
    if absent:
        lines.append(f"{coco.file}: {absent} of {len(coco.images)} images of {split} do not exist and are left out")
    return lines


def _outside_line(split: str, coco: CocoFile, frames: dict[int, Size]) -> str:
    """Return what to say of the key points outside their pictures; nothing where there are none."""
    labelled = [(box.points, frames[box.image]) for box in coco.boxes if box.points is not None]
    count = sum(int((points[:, 2] > 0).sum() - is_labelled(points, frame).sum()) for points, frame in labelled)
    text = f"{coco.file}: {count} key points of {split} lie outside their pictures and are taken as not labelled"
    return text if count else ""


def _annotation_entries(source: DataYaml) -> dict[str, str]:
    """Return the JSON path of each split as written, after checking that the mapping makes sense."""
    given = source.data.get("annotations")
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise DataError(
            f"{source.file}: annotations is {shown(given)}; give a mapping such as {{train: train.json, val: val.json}}"
        )
    for split in given:
        if split not in SPLIT_KEYS:
            raise DataError(f"{source.file}: annotations has the key {shown(split)}; {closest(str(split), SPLIT_KEYS)}")
        path_of(given[split], f"{source.file}: annotations: {split}")
    for split in ("train", "val"):
        if split not in given:
            raise DataError(f"{source.file}: annotations has no key '{split}'; give the JSON file of that split")
    return dict(given)


def _image_folder(source: DataYaml, root: Path, split: str) -> Path:
    entries = split_entries(source, split)
    folder = locate(root, entries[0])
    if len(entries) != 1 or not folder.is_dir():
        raise DataError(
            f"{source.file}: {split} is {shown(source.data[split])}, which is not one existing folder of images "
            f"(looked in {root}); COCO annotations need that"
        )
    return folder


def _annotation_file(source: DataYaml, root: Path, split: str, entry: str) -> Path:
    file = locate(root, entry)
    if file.is_file():
        return file
    there = sorted(e.name for e in file.parent.glob("*.json")) if file.parent.is_dir() else []
    hint = closest(file.name, there) if there else f"there is no JSON file in {file.parent}; correct the path"
    raise DataError(f"{source.file}: the annotations of {split}, {file}, do not exist; {hint}")


def _fingerprint(source: DataYaml, root: Path, folders: dict[str, Path], files: dict[str, Path], task: str) -> str:
    """Return a short hash that changes with the task, the YAML, the JSON files or which files the folders hold."""
    stats = {split: (file.stat(), folders[split].stat()) for split, file in files.items()}
    facts = [
        [split, str(files[split]), js.st_size, js.st_mtime_ns, str(folders[split]), folder.st_mtime_ns]
        for split, (js, folder) in stats.items()
    ]
    text = json.dumps([VIEW_VERSION, task, str(source.file), str(root), facts]).encode() + source.file.read_bytes()
    return hashlib.sha256(text).hexdigest()[:12]


def _stored_report(folder: Path, digest: str) -> dict[str, Any] | None:
    """Return the report of a view that can be used as it is; None where there is none, or images may have come."""
    try:
        stored = read_json(folder / "conversion.json")
        # a view that was moved would point to where it was
        written = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))["path"] == str(folder)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
    whole = written and isinstance(stored, dict) and stored.get("digest") == digest and not stored.get("missing")
    return stored if whole else None


def _view_names(coco: CocoFile) -> dict[int, PurePosixPath]:
    """Return a path inside the view for every image id; no two share a label file, whatever the file system.

    Subfolders are kept. Parts that lead out of the folder are dropped, and images whose paths differ only in suffix or
    case get their id appended.
    """
    names: dict[int, PurePosixPath] = {}
    taken: set[str] = set()
    for number, image in coco.images.items():
        parts = image.file_name.replace("\\", "/").split("/")
        # a colon marks a drive; a hidden folder or file would be skipped by Ultralytics' search
        kept = [part.lstrip(".").replace(":", "_") for part in parts if part.strip(".")]
        name = PurePosixPath(*kept)
        if not name.suffix:  # nothing but dots and a suffix
            name = PurePosixPath(f"{number}.{parts[-1].rpartition('.')[-1]}")
        while str(name.with_suffix("")).casefold() in taken:
            name = name.with_name(f"{name.stem}-{number}{name.suffix}")
        taken.add(str(name.with_suffix("")).casefold())
        names[number] = name
    return names


def _write_split(
    stage: Path,
    split: str,
    coco: CocoFile,
    pictures: dict[int, Path],
    frames: dict[int, Size],
    classes: dict[int, int],
    task: str,
) -> Counter[str]:
    """Link the images of a split and write their labels; return how many objects were left out and why."""
    dropped: Counter[str] = Counter()
    rows: dict[int, list[str]] = {number: [] for number in coco.images}
    for box in coco.boxes:
        if box.image not in pictures or box.crowd:
            dropped["crowd" if box.crowd else "of missing images"] += 1
            continue
        numbers, reason = label_numbers(box, frames[box.image], coco.images[box.image].size, task)
        if reason:
            dropped[reason] += 1
            continue
        rows[box.image].append(" ".join([str(classes[box.category]), *(f"{number:.8f}" for number in numbers)]))
    for number, name in _view_names(coco).items():
        if number not in pictures:
            continue
        picture = stage / "images" / split / name
        label = _label_in(stage, picture)
        picture.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(parents=True, exist_ok=True)
        _link(pictures[number], picture)
        label.write_text("".join(f"{row}\n" for row in rows[number]), encoding="utf-8", newline="\n")
    return dropped


def _label_in(stage: Path, picture: Path) -> Path:
    # relative to the view: a folder called images above it must not be the one that is replaced
    return stage / label_path(os.sep + str(picture.relative_to(stage))).relative_to(os.sep)


def _link(target: Path, link: Path) -> None:
    for make in (os.symlink, os.link):
        try:
            make(target, link)
        except (OSError, NotImplementedError):  # not allowed, or another file system
            continue
        return
    shutil.copy2(target, link)


def _write_yaml(
    stage: Path,
    final: Path,
    source: DataYaml,
    root: Path,
    names: Sequence[str],
    converted: Sequence[str],
    keys: dict[str, Any],
) -> None:
    ours = {"path", "annotations", "names", "nc", "download", *SPLIT_KEYS}
    data: dict[str, Any] = {"path": str(final), **{split: f"images/{split}" for split in converted}}
    for split in SPLIT_KEYS:
        if split not in data and source.data.get(split):
            data[split] = [str(locate(root, entry)) for entry in split_entries(source, split)]
    data["names"] = dict(enumerate(names))
    data.update({key: value for key, value in source.data.items() if key not in ours})
    data.update(keys)
    (stage / "data.yaml").write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
