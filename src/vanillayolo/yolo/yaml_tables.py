"""What a model's YAML may say: a closed set of keys and modules, and for each of their values a type and a range."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vanillayolo import values
from vanillayolo.values import FLAG, NONE, Kind

from .families import FAMILIES, INITS, MOST_ACT_NUM, MOST_LAYERS, NECKS
from .tasks import HEADS, TASKS

#: A row's 8.0 is no whole number, unlike a setting's.
whole = functools.partial(values.whole, exact=True)


def number(high: float) -> Kind:
    """Return the kind of numbers above 0, at most ``high``."""
    return Kind(f"a number above 0, at most {high:g}", lambda x: type(x) in (int, float) and 0 < x <= high)


def word(*allowed: Any) -> Kind:
    """Return the kind of a few values; 1 is not true here."""
    words = tuple(map(str, allowed))
    says = f"one of {', '.join(words)}" if len(allowed) > 1 else words[0]
    return Kind(says, lambda x: any(type(x) is type(a) and x == a for a in allowed), words)


def several(kind: Kind) -> Kind:
    """Return the kind of lists of a kind, at most 1000 long."""
    return Kind(f"a list, each {kind.says}", lambda x: is_list(x) and 0 < len(x) <= 1000 and all(map(kind.fits, x)))


def has_fields(value: Any, kinds: Mapping[str, Kind]) -> bool:
    """Return whether a value is a table of exactly these keys, each of its kind."""
    return isinstance(value, dict) and value.keys() == kinds.keys() and all(kinds[k].fits(x) for k, x in value.items())


def is_list(value: Any) -> bool:
    """Return whether a value is a list; one made in Python may be a tuple."""
    return isinstance(value, (list, tuple))


def is_scales(value: Any) -> bool:
    """Return whether a value is Ultralytics' table of depth, width and largest channels by letter."""
    names = ("depth", "width", "most")
    kinds = dict(zip(names, (number(10), number(10), whole(1, 1_000_000)), strict=True))
    named = isinstance(value, dict) and bool(value) and all(isinstance(letter, str) for letter in value)
    rows: list[Any] = list(value.values()) if named else [None]
    return all(is_list(row) and len(row) == 3 and has_fields(dict(zip(names, row, strict=True)), kinds) for row in rows)


POINTS = whole(1, 1000)
TEXT = Kind("a text", lambda x: isinstance(x, str))  # an empty one too
TABLE = Kind("keys with values, like {key: value}", lambda x: isinstance(x, dict))
ROWS = Kind("a list of rows, [from, repeats, module, arguments]", lambda x: is_list(x) and len(x) > 0)
CHANNELS, KERNEL, STRIDE, GROUPS, SHARE = whole(1, 8192), whole(1, 31), whole(1, 8), whole(1, 8192), number(4)
ACT_NUM = whole(0, MOST_ACT_NUM)
IMAGE_CHANNELS = whole(1, 1024)

#: Activations of Ultralytics' own layers. Its parser evaluates whatever text stands there.
ACTIVATIONS = ("ReLU", "ReLU6", "LeakyReLU", "SiLU", "GELU", "ELU", "Mish", "Hardswish")
ACTIVATION = re.compile(rf"(torch\.)?nn\.({'|'.join(ACTIVATIONS)})\((inplace=(True|False)|0?\.\d+)?\)")

#: The top-level keys: ours, and of Ultralytics' those that mean something here.
KEYS: dict[str, Kind] = {
    "task": word(*TASKS),
    "nc": whole(1, 100_000),
    "channels": IMAGE_CHANNELS,
    "scale": TEXT,
    "scales": Kind("depth, width and largest channels by letter, like {n: [0.5, 0.25, 1024]}", is_scales),
    "activation": Kind(
        f"nn.NAME(), its name one of {', '.join(ACTIVATIONS)}",
        lambda x: isinstance(x, str) and bool(ACTIVATION.fullmatch(x)),
    ),
    "end2end": FLAG | NONE,
    "reg_max": whole(1, 64),
    "family": TABLE,
    "neck": word(*NECKS),
    **{key: word(*allowed) for key, allowed in INITS.items()},
    "head_stages": Kind("", lambda x: True),  # by task: see head_stages
    "kpt_shape": Kind(
        "[points, 2 or 3]", lambda x: is_list(x) and len(x) == 2 and x[1] in (2, 3) and POINTS.fits(x[0])
    ),
    **dict.fromkeys(("deep_training", "lean_training", "fine_tuning", "recipe"), TABLE),
    "yaml_file": TEXT,
    "backbone": ROWS,
    "head": ROWS,
}
#: Keys that mean nothing to other tasks.
ONLY = {
    name: (
        *(("scale", "scales", "neck", "head_stages") if task.finds_boxes else ("recipe",)),
        *(("end2end", "reg_max") if task.finds_boxes else ()),
        *task.keys,
    )
    for name, task in TASKS.items()
}
FAMILY = {"name": word(*FAMILIES, "classifier", "timm"), "variant": TEXT, "width": number(64)}
#: The settings of a ``VanillaBackbone`` or ``VanillaFeatures`` row.
BACKBONE = {
    "dims": several(CHANNELS),
    "strides": several(word(1, 2)),
    "act_num": ACT_NUM | several(ACT_NUM),
    "adaptive_pool": FLAG,
    "pool_first": FLAG,
    "in_chans": IMAGE_CHANNELS,
}


@dataclass(frozen=True)
class Module:
    """What the rows of one module look like.

    Attributes:
        arguments: name and kind of each; ``stride`` and ``scale`` change the stride, ``channels`` are those given.
        needed: how many of them have to be there.
        scaled: whether the letter's width acts on ``channels``.
        repeats: whether the module can be repeated.
        many: whether it reads a list of rows.
    """

    arguments: dict[str, Kind]
    needed: int = 1
    scaled: bool = False
    repeats: bool = False
    many: bool = False


CONV = {"channels": CHANNELS, "kernel": KERNEL, "stride": STRIDE}
CSP = {"channels": CHANNELS, "shortcut": FLAG, "groups": GROUPS, "expansion": SHARE}
C3K2 = {"channels": CHANNELS, "c3k": FLAG, "expansion": SHARE, "attention": FLAG, "groups": GROUPS, "shortcut": FLAG}
PADDING = NONE | whole(0, 31)
CLASSES = word("nc")
#: Our modules, and of Ultralytics' and torch's those of the necks and of collapsed detectors.
MODULES: dict[str, Module] = {
    **dict.fromkeys(("VanillaBackbone", "TimmBackbone", "VanillaFeatures"), Module({"settings": TABLE})),
    "VanillaStage": Module(
        {"channels": CHANNELS, "stride": word(1, 2), "act_num": ACT_NUM, "pool_first": FLAG}, scaled=True
    ),
    "Index": Module({"channels": CHANNELS, "level": whole(0, 2)}, needed=2),
    "Conv": Module({**CONV, "padding": PADDING, "groups": GROUPS, "dilation": KERNEL, "act": FLAG}, scaled=True),
    "DWConv": Module({**CONV, "dilation": KERNEL, "act": FLAG}, scaled=True),
    "SPPF": Module({"channels": CHANNELS, "kernel": KERNEL, "pools": whole(1, 9), "shortcut": FLAG}, scaled=True),
    "C2PSA": Module({"channels": CHANNELS, "expansion": SHARE}, scaled=True, repeats=True),
    "C3k2": Module(C3K2, scaled=True, repeats=True),
    "C2f": Module(CSP, scaled=True, repeats=True),
    "C3": Module(CSP, scaled=True, repeats=True),
    "nn.Upsample": Module({"size": NONE, "scale": STRIDE, "mode": word("nearest", "bilinear")}, needed=2),
    "nn.MaxPool2d": Module({"stride": STRIDE}),
    "nn.ReLU": Module({}, needed=0),
    "Concat": Module({"dimension": word(1)}, many=True),
    "Detect": Module({"classes": CLASSES}, many=True),
    **dict.fromkeys(
        HEADS["segment"], Module({"classes": CLASSES, "nm": whole(1, 1024), "npr": CHANNELS}, needed=3, many=True)
    ),
    **dict.fromkeys(HEADS["pose"], Module({"classes": CLASSES, "kpt_shape": word("kpt_shape")}, needed=2, many=True)),
    **dict.fromkeys(HEADS["obb"], Module({"classes": CLASSES, "ne": word(1)}, needed=2, many=True)),
    "VanillaClassify": Module({"features": CHANNELS, "classes": CLASSES}, needed=2),
}
#: What collapsed classifiers are made of besides.
STOCK: dict[str, Module] = {
    "nn.AdaptiveAvgPool2d": Module({"size": word(1)}),
    "nn.Conv2d": Module({"features": CHANNELS, "channels": whole(1, 100_000), "kernel": word(1)}, needed=3),
    "nn.Flatten": Module({"dimension": word(1)}),
    "nn.Softmax": Module({"dimension": word(1)}),
}
#: First and last row of each task's networks.
BACKBONES = {
    name: ("VanillaBackbone", "TimmBackbone") if task.finds_boxes else ("VanillaFeatures",)
    for name, task in TASKS.items()
}


def head_stages(task: str) -> Kind:
    """Return the kind of ``head_stages`` of a task: a count for each branch of its head."""
    kinds = {**dict.fromkeys(TASKS[task].branches, whole(0, MOST_LAYERS)), "act_num": ACT_NUM}
    example = ", ".join(f"{key}: 2" for key in kinds)
    says = f"whole numbers for {', '.join(kinds)}, from 0 to {MOST_LAYERS}, the last at most {MOST_ACT_NUM}, as in "
    return NONE | Kind(f"{says}{{{example}}}", lambda x: has_fields(x, kinds))
