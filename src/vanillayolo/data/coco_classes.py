"""The classes that the categories of COCO files become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from vanillayolo.errors import DataError, closest
from vanillayolo.values import shown

from .coco_file import CocoFile
from .coco_keypoints import flip_order
from .data_yaml import DataYaml, check_keypoints, class_names


def coco_classes(source: DataYaml, files: Sequence[CocoFile]) -> tuple[list[str], list[dict[int, int]], list[str]]:
    """Return the class names, for each file the class number of its category ids, and what to say of them."""
    if source.data.get("names") is not None:
        names = class_names(source) or []
        if len(set(names)) < len(names):
            raise DataError(f"{source.file}: names lists a class twice; categories are matched by name, so each once")
        return names, [_numbers_by_name(coco, names) for coco in files], []
    categories: dict[int, str] = {}
    for coco in files:
        for number, name in coco.categories.items():
            if categories.setdefault(number, name) != name:
                raise DataError(
                    f"{coco.file}: category {number} is '{name}' here and '{categories[number]}' in another split; "
                    "list the class names under the key names and categories are matched by name"
                )
    parents = {number: parent for coco in files for number, parent in coco.parents.items()}
    used = {box.category for coco in files for box in coco.boxes}
    labels, said = _labels(categories, parents, used)
    names = list(dict.fromkeys(labels[number] for number in sorted(labels)))
    if source.data.get("nc") not in (None, len(names)) or not names:
        raise DataError(
            f"{files[0].file}: there are {len(names)} categories in all splits and nc is "
            f"{shown(source.data.get('nc', 'not given'))}; leave nc out or list the classes under the key names"
        )
    classes = {number: names.index(label) for number, label in labels.items()}
    return names, [classes for _ in files], [f"{files[0].file}: {line}" for line in said]


def _labels(categories: dict[int, str], parents: dict[int, str], used: set[int]) -> tuple[dict[int, str], list[str]]:
    """Return the class name of every category id that is a class, and what to say of the others.

    A category without boxes that others name as their supercategory is their heading, as Roboflow writes it, not a
    class. Categories of one name are one class, unless their supercategories tell them apart.
    """
    headings = {
        number: name
        for number, name in categories.items()
        if number not in used and any(parent == name for other, parent in parents.items() if other != number)
    }
    labels = {number: name for number, name in categories.items() if number not in headings}
    said = [f"category {n} ('{name}') has no boxes and heads others; it is no class" for n, name in headings.items()]
    for name, count in Counter(labels.values()).items():
        numbers = [number for number, label in labels.items() if label == name]
        apart = len({parents.get(number) for number in numbers}) == count > 1
        if apart:
            labels.update({number: f"{name} ({parents.get(number, 'no supercategory')})" for number in numbers})
        if count > 1:
            taken = "classes told apart by their supercategories" if apart else "one class"
            said.append(f"the categories {', '.join(map(str, numbers))} have one name, '{name}'; they are {taken}")
    return labels, said


def _numbers_by_name(coco: CocoFile, names: Sequence[str]) -> dict[int, int]:
    """Return the class number of each category id. Categories that no box uses may be absent from ``names``."""
    used = {box.category for box in coco.boxes}
    for number, name in coco.categories.items():
        if number in used and name not in names:
            raise DataError(
                f"{coco.file}: category '{name}' is not among names in the data YAML; {closest(name, names)}"
            )
    return {number: names.index(name) for number, name in coco.categories.items() if name in names}


def keypoint_keys(source: DataYaml, files: Sequence[CocoFile], classes: int) -> dict[str, Any]:
    """Return ``kpt_shape``, ``kpt_names`` and ``flip_idx`` of objects with key points, as the data YAML or files say.

    Raises:
        DataError: if not all objects have as many key points, or as many as the data YAML says.
    """
    objects = [(coco, box, [len(box.points), 3]) for coco in files for box in coco.boxes if box.points is not None]
    if not objects:
        return {}
    given = source.data.get("kpt_shape")
    shape = given or objects[0][2]
    if other := next((o for o in objects if o[2] != shape), None):
        first = f"{source.file}: kpt_shape" if given else f"that of annotation {objects[0][1].number}"
        raise DataError(
            f"{other[0].file}: annotation {other[1].number} has key points of the shape {other[2]}, and {first} is "
            f"{shown(shape)}; a dataset has one number of key points, each with x, y, visibility: correct one of both"
        )
    check_keypoints(source, *shape)
    keys: dict[str, Any] = {"kpt_shape": shape}
    named = {names for coco in files for names in coco.keypoints.values() if len(names) == shape[0]}
    if len(named) == 1:  # else they are of another order in every class
        (names,) = named
        keys["kpt_names"] = {number: list(names) for number in range(classes)}
        keys |= {"flip_idx": order} if (order := flip_order(names)) else {}
    return {key: source.data.get(key, value) for key, value in keys.items()}
