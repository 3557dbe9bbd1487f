"""Checks of a user's dataset before any training starts: each mistake is one line."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml

from vanillayolo.atomic import write_whole
from vanillayolo.errors import DataError, closest
from vanillayolo.values import shown

from .coco_json import convert_coco
from .data_yaml import (
    SPLIT_KEYS,
    DataYaml,
    check_keypoints,
    check_keys,
    class_names,
    find_root,
    find_yaml,
    locate,
    read_yaml,
    split_entries,
)
from .label_files import LabelRules, check_labels, check_readable, list_images
from .paths import CACHE_HINT, cache_dir

LOGGER = logging.getLogger(__name__)
NOT_FETCHED = (
    "its images are not here and its download is not run (ULTRALYTICS_SAFE_LOAD is set); "
    "read what it does, fetch them by hand, or unset ULTRALYTICS_SAFE_LOAD if you trust it"
)


def check_data(
    data: str | Path,
    splits: Sequence[str] = ("train", "val"),
    *,
    datasets_dir: Path | None = None,
    background: bool = False,
    may_fetch: bool = True,
    task: str = "detect",
) -> Path:
    """Check a dataset and return a data YAML that Ultralytics can use from any current folder.

    The user's dataset is only read. Images without a label file are background. A YAML with ``annotations`` (COCO JSON)
    is converted first; one with ``download`` whose images are not there yet is returned unchecked.

    Args:
        data: Path of a data YAML, or of a folder that holds exactly one.
        splits: Splits whose images and labels are checked. Ultralytics needs the keys train and val in any case.
        datasets_dir: Ultralytics' own folder of datasets; a relative ``path`` is also tried there.
        background: Whether a split may have no label file at all: it is validated without metrics, which is said.
        may_fetch: Whether Ultralytics may do what ``download`` says.
        task: What is trained, which decides what a label row has to be.

    Returns:
        The path of the user's own YAML where Ultralytics resolves it alike, else of a copy with absolute paths.

    Raises:
        DataError: For the first mistake found: a file, key, name, path or label row that is missing or malformed.
    """
    if unknown := [split for split in splits if split not in SPLIT_KEYS]:
        raise DataError(f"split {shown(unknown[0])} does not exist; {closest(str(unknown[0]), SPLIT_KEYS)}")
    source = read_yaml(find_yaml(data))
    check_keys(source)
    if source.data.get("annotations") is not None:
        source = read_yaml(convert_coco(source.file, task=task))
    names = class_names(source)
    if twins := [name for name, count in Counter(names).items() if count > 1]:
        LOGGER.warning("%s: names lists '%s' more than once; each is a class of its own", source.file, twins[0])
    entries = {split: split_entries(source, split) for split in dict.fromkeys(("train", "val", *splits))}
    if source.data.get("download") and not _all_there(source, entries, datasets_dir):
        if not may_fetch:
            raise DataError(f"{source.file}: {NOT_FETCHED}")
        return source.file
    root = find_root(source, list(entries), datasets_dir)
    points, numbers = source.data.get("kpt_shape") or (0, 0)  # its form is checked
    if task == "pose":
        check_keypoints(source, points, numbers)
    rules = LabelRules(len(names), (points, numbers), task)
    for split in splits:
        _check_split(f"{source.file.name}: {split}", root, entries[split], rules, background)
    return source.file if _resolves_alike(source, root) else _resolved_copy(source, root)


def _check_split(owner: str, root: Path, entries: Sequence[str], rules: LabelRules, background: bool) -> None:
    places = [_existing(root, entry, owner) for entry in entries]
    images = [image for place in places for image in list_images(place, owner)]
    check_labels(images, rules, owner, background=background)
    check_readable(images, owner)


def _all_there(source: DataYaml, entries: dict[str, list[str]], datasets_dir: Path | None) -> bool:
    try:
        root = find_root(source, list(entries), datasets_dir)
    except DataError:
        return False
    return all(locate(root, entry).exists() for listed in entries.values() for entry in listed)


def _existing(root: Path, entry: str, owner: str) -> Path:
    place = locate(root, entry)
    if place.exists():
        return place
    parent = place.parent
    siblings = sorted(e.name for e in parent.iterdir() if not e.name.startswith(".")) if parent.is_dir() else []
    hint = closest(place.name, siblings) if siblings else "correct the path"
    # a folder of thousands of images is no help as a list of allowed names
    hint = hint if len(hint) < 300 else "correct the path"
    raise DataError(f"{owner}: '{entry}' leads to {place}, which does not exist; {hint}")


def _resolves_alike(source: DataYaml, root: Path) -> bool:
    """Tell whether Ultralytics finds the same places by itself, whatever the current folder.

    It takes a relative ``path`` as relative to the current folder or to its own folder of datasets, never to the
    YAML's; only an absolute or a missing one is safe. It corrects a leading ``../`` in single entries, not in lists.
    """
    given = source.data.get("path")
    if given and not Path(given).is_absolute():
        return False
    for split in SPLIT_KEYS:
        value = source.data.get(split)
        listed = value if isinstance(value, list) else []
        texts = [value] if isinstance(value, str) else listed
        if any(text.startswith("~") for text in texts):
            return False
        # after ./ the dots are taken literally, as Ultralytics takes them in a list
        if any(locate(root, text) != locate(root, f"./{text}") for text in listed):
            return False
    return True


def _resolved_copy(source: DataYaml, root: Path) -> Path:
    data = dict(source.data)
    data["path"] = str(root)
    for split in SPLIT_KEYS:
        if data.get(split):
            places = [str(locate(root, entry)) for entry in split_entries(source, split)]
            data[split] = places if isinstance(data[split], list) else places[0]
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    copy = cache_dir() / "data" / digest / source.file.name
    if not copy.is_file() or copy.read_text(encoding="utf-8") != text:
        write_whole(copy, text, CACHE_HINT)
    return copy
