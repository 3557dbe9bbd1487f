"""The classes that the categories of COCO files become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vanillayolo.errors import DataError, closest
from vanillayolo.values import shown

from .coco_file import CocoFile
from .data_yaml import DataYaml, class_names


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
