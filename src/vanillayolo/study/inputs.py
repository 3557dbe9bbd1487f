"""What the runs of a folder are made of, as its protocol says it: figures of other inputs are not mixed with them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from vanillayolo.data.data_yaml import find_root, locate, read_yaml, split_entries
from vanillayolo.data.label_files import list_images
from vanillayolo.prove import digest_of

from .records import USUAL, Record


def pictures_of(data: str, split: str) -> list[str]:
    """Return the pictures of a split of a checked data YAML, in the order of their names."""
    source = read_yaml(Path(data))
    root = find_root(source, ("train",))
    return sorted(p for entry in split_entries(source, split) for p in list_images(locate(root, entry), data))


def files_of(*inputs: object) -> dict[str, str]:
    """Return the first digits of the SHA-256 of those inputs that are files: one that was edited is another."""
    files = [Path(name) for name in inputs if isinstance(name, (str, Path))]
    return {path.name: digest_of(path)[:12] for path in files if path.is_file()}


def about_inputs(data: str | Path, checked: str, task: str, *inputs: object) -> Record:
    """Return data, task and files as a protocol has them.

    Many datasets have a data YAML of one name, so it says classes and pictures too; those of the test split, which
    nothing is chosen by, are left out.

    Args:
        data: as the user gave it.
        checked: its checked data YAML.
        task: of the models.
        inputs: models and weights, files or not.
    """
    content, pictures = read_yaml(Path(checked)), [pictures_of(checked, split) for split in ("train", "val")]
    text = json.dumps([content.data.get("names"), [[Path(p).name for p in part] for part in pictures]])
    said = f"{len(pictures[0])} + {len(pictures[1])} pictures, {hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return {"data": Path(data).name, "dataset": said, "files": files_of(*inputs), **of_task(task)}


def of_task(task: str) -> dict[str, str]:
    """Return the task as a protocol has it: earlier versions, of detectors alone, did not name it."""
    return {} if task == USUAL else {"task": task}
