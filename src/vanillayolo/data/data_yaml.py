"""Reading a data YAML: the file itself, its class names, and where its splits are."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vanillayolo.errors import DataError, closest, one_line
from vanillayolo.values import is_path, shown

YAML_SUFFIXES = (".yaml", ".yml")
SPLIT_KEYS = ("train", "val", "test", "minival")  # the keys whose paths Ultralytics resolves
#: More classes, or a longer name of one, than any dataset means.
MOST_CLASSES, LONGEST_NAME = 100_000, 200


@dataclass(frozen=True)
class DataYaml:
    """A data YAML as read.

    Attributes:
        file: Absolute path of the file.
        data: Its mapping, with ``validation`` renamed to ``val`` as Ultralytics does.
    """

    file: Path
    data: dict[str, Any]


def path_of(text: object, owner: str) -> Path:
    """Return the path that a text names, with the home folder for ``~``.

    Raises:
        DataError: if it is no text, or none that a file system takes.
    """
    if not isinstance(text, (str, Path)):
        raise DataError(f"{owner} is {shown(text)}; give a path as text")
    name = str(text)
    if name.strip() and not is_path(name):
        raise DataError(f"{owner} is {shown(name)}, which is no path of a file system; correct it")
    return Path(os.path.expanduser(name))


def find_yaml(given: str | Path) -> Path:
    """Return the data YAML a user means: the file itself, or the only YAML in the folder given.

    Raises:
        DataError: If there is no such file, or none or several in the folder.
    """
    path = path_of(given, "data").absolute()
    if path.is_dir():
        found = _yamls_in(path)
        if len(found) == 1:
            return path / found[0]
        if not found:
            raise DataError(f"folder {path} holds no data YAML (*.yaml, *.yml); give the path of one")
        raise DataError(f"folder {path} holds {len(found)} YAML files; give one of them: {', '.join(found)}")
    if not path.is_file():
        there = _yamls_in(path.parent) if path.parent.is_dir() else []
        nothing = f"there is no YAML file in {path.parent}; give the path of a data YAML"
        hint = closest(path.name, there) if there else nothing
        raise DataError(f"data file {given} does not exist; {hint}")
    if path.suffix.lower() not in YAML_SUFFIXES:
        raise DataError(f"data file {path} is no YAML; give a data YAML (*.yaml, *.yml) or a folder that holds one")
    return path


def _yamls_in(folder: Path) -> list[str]:
    return sorted(e.name for e in folder.iterdir() if e.suffix.lower() in YAML_SUFFIXES and e.is_file())


def read_yaml(file: Path) -> DataYaml:
    """Read a data YAML.

    Raises:
        DataError: If the file is no YAML, naming the line, or no mapping.
    """
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else "unknown line"
        raise DataError(f"{file}, {line}: not valid YAML ({error.problem}); mend that line") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: no UTF-8, no such date
        raise DataError(f"{file} cannot be read as UTF-8 YAML text ({one_line(error)}); write it anew") from error
    if not isinstance(data, dict):
        held = "nothing" if data is None else f"a {type(data).__name__}"
        raise DataError(f"{file} holds {held} where a mapping with the keys train, val and names is expected")
    if "val" not in data and "validation" in data:
        data["val"] = data.pop("validation")
    return DataYaml(file, data)


def check_keys(source: DataYaml) -> None:
    """Check the types of what Ultralytics reads beside ``names`` and ``nc``.

    Raises:
        DataError: for a key that no training would get along with.
    """
    data = source.data
    for split in SPLIT_KEYS:
        if data.get(split) not in (None, "", []):
            split_entries(source, split)
    shape = data.get("kpt_shape", [0, 0])
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(n) is int and 0 <= n < 10_000 for n in shape):
        raise DataError(f"{source.file}: kpt_shape is {shown(shape)}; give [points, 2 or 3], or leave it out")
    if not isinstance(data.get("flip_idx", []), (list, type(None))):
        raise DataError(f"{source.file}: flip_idx is {shown(data['flip_idx'])}; give a list of points, or leave it out")
    channels = data.get("channels", 3)
    if type(channels) is not int or not 1 <= channels <= 1000:
        raise DataError(f"{source.file}: channels is {shown(channels)}; give how many an image has, such as 1 or 3")
    if data.get("bg_class_idx"):
        raise DataError(f"{source.file}: bg_class_idx is of semantic segmentation; leave it out")
    if not isinstance(data.get("download") or "", str):
        raise DataError(f"{source.file}: download is {shown(data['download'])}; give a URL as text, or leave it out")


def check_keypoints(source: DataYaml, points: int, numbers: int) -> None:
    """Check what Ultralytics reads of key points, for a dataset of so many points with so many numbers each.

    Raises:
        DataError: for a key that no training would get along with.
    """
    file, data = source.file, source.data
    if not points or numbers not in (2, 3):
        given = f"is {shown(data['kpt_shape'])}" if data.get("kpt_shape") else "is missing"
        raise DataError(f"{file}: the key 'kpt_shape' {given}; give [points, 2 or 3] for task=pose")
    flip = data.get("flip_idx") or []
    if flip and (not all(type(n) is int for n in flip) or sorted(flip) != list(range(points))):
        raise DataError(
            f"{file}: flip_idx is {shown(flip)}; give for each of the {points} key points the one that it becomes in a "
            f"mirror image (0 to {points - 1}, each once), or leave it out"
        )
    sigmas = data.get("kpt_oks_sigmas") or [1] * points
    right = isinstance(sigmas, list) and all(type(s) in (int, float) and 0 < s < math.inf for s in sigmas)
    if not right or len(sigmas) != points:
        raise DataError(
            f"{file}: kpt_oks_sigmas is {shown(sigmas)}; give a number above 0 for each of the {points} key points, "
            "such as 0.05, or leave it out"
        )


def class_names(source: DataYaml) -> list[str]:
    """Return the class names in the order of their numbers.

    Raises:
        DataError: If there is neither ``names`` nor ``nc``, ``names`` is no list or mapping from 0..n-1, or does not
            fit ``nc``.
    """
    file, names, nc = source.file, source.data.get("names"), _class_count(source)
    if names is None and nc is None:
        raise DataError(f"{file}: neither names nor nc is given; list the class names under the key names")
    if names is None:
        return [f"class_{i}" for i in range(nc or 0)]
    if not isinstance(names, list | dict) or not names:
        raise DataError(
            f"{file}: names is {shown(names)}; give a list of class names or a mapping from 0..n-1 to names"
        )
    if isinstance(names, dict):
        try:
            numbered = {int(key): name for key, name in names.items()}
        except (TypeError, ValueError, OverflowError):
            numbered = {}
        if sorted(numbered) != list(range(len(names))):
            raise DataError(
                f"{file}: the keys of names are {', '.join(str(key)[:80] for key in list(names)[:8])}; "
                f"{len(names)} classes are numbered 0..{len(names) - 1} without gaps"
            )
        names = [numbered[i] for i in range(len(names))]
    if nc is not None and nc != len(names):
        raise DataError(f"{file}: nc is {nc} but names lists {len(names)} classes; correct one or leave nc out")
    for number, name in enumerate(names):
        plain = isinstance(name, (str, int)) or (isinstance(name, float) and math.isfinite(name))
        if not plain or not str(name).isprintable() or not 0 < len(str(name).strip()) <= LONGEST_NAME:
            raise DataError(
                f"{file}: the name of class {number} is {shown(name)}; "
                f"give a printable text of 1 to {LONGEST_NAME} characters"
            )
    return [str(name) for name in names]


def _class_count(source: DataYaml) -> int | None:
    given = source.data.get("nc", "")
    if given == "":
        return None
    try:
        count = 0.0 if isinstance(given, bool) else float(given)  # Ultralytics too takes 10.0 and '10'
    except (TypeError, ValueError, OverflowError):
        count = 0.0
    if not 1 <= count <= MOST_CLASSES or count != int(count):  # also true of nan
        raise DataError(
            f"{source.file}: nc is {shown(given)}; give the number of classes, an integer from 1 to {MOST_CLASSES}"
        )
    return int(count)


def split_entries(source: DataYaml, split: str) -> list[str]:
    """Return what a split key names, as a list of path texts.

    Raises:
        DataError: If the key is missing, empty, or neither a path nor a list of paths.
    """
    value = source.data.get(split)
    if value is None or value == [] or value == "":
        others = [str(key) for key in source.data if key not in ("path", "names", "nc", *SPLIT_KEYS)]
        hint = closest(split, others, otherwise="")
        raise DataError(
            f"{source.file}: the key '{split}' is missing; give the folder of its images{hint and f'; {hint}'}"
        )
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) for entry in entries):
        raise DataError(
            f"{source.file}: {split} is {shown(value)}; give a folder, a .txt list of images, or a list of those"
        )
    for entry in entries:
        path_of(entry, f"{source.file}: {split}")
    return entries


def find_root(source: DataYaml, splits: Sequence[str], datasets_dir: Path | None = None) -> Path:
    """Return the folder that the split paths of a data YAML are relative to, absolute.

    An absolute ``path`` is taken as it is. A relative one is tried against the YAML's folder, the current folder and
    ``datasets_dir``: the first under which a split exists wins, else the first that exists. Without ``path`` it is the
    YAML's folder.

    Args:
        source: The data YAML.
        splits: The split keys that are wanted.
        datasets_dir: Ultralytics' own folder of datasets, if it is to be tried.

    Raises:
        DataError: If ``path`` is no text or leads to no folder.
    """
    given = source.data.get("path")
    given = "" if given is None else given
    if not isinstance(given, str):
        raise DataError(f"{source.file}: path is {shown(given)}; give the dataset's folder as text, or leave it out")
    folder = path_of(given, f"{source.file}: path")
    bases = [source.file.parent, Path.cwd(), *([datasets_dir] if datasets_dir else [])]
    tried = [base / folder for base in bases] if given else bases[:1]
    there = [root for root in tried if root.is_dir()]
    if not there:
        places = ", ".join(dict.fromkeys(map(str, tried)))
        raise DataError(
            f"{source.file}: path '{given}' leads to no folder (tried {places}); correct it or leave it out"
        )
    entries = [entry for split in splits if source.data.get(split) for entry in split_entries(source, split)]
    return next((root for root in there if any(locate(root, e).exists() for e in entries)), there[0])


def locate(root: Path, entry: str) -> Path:
    """Return the absolute path of a split's entry, whether it exists or not.

    As in Ultralytics, ``../x`` that does not exist means ``x``: exported datasets of some label tools need that.
    """
    # links are followed as Ultralytics follows them: the labels stand beside where a linked folder really is
    direct = Path(os.path.realpath(root / os.path.expanduser(entry)))
    if not direct.exists() and entry.startswith("../"):
        inside = Path(os.path.realpath(root / entry[3:]))
        if inside.exists():
            return inside
    return direct
