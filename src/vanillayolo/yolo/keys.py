"""The keys of Ultralytics' command line and ours: which are flags, which belong to which verb, what a file holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ultralytics.cfg import TASKS, merge_equals_args
from ultralytics.utils import DEFAULT_CFG_DICT, DEFAULT_CFG_PATH

from vanillayolo.errors import UsageError, closest
from vanillayolo.nn import DeepTraining
from vanillayolo.values import check_value, meanings, shown

from .arguments import named_settings
from .fine_tuning import FineTuning
from .kinds import KINDS, METHOD_KEYS
from .lean_training import LeanTraining

TASK_WORDS = TASKS
KEYS = frozenset(DEFAULT_CFG_DICT)
#: Words that stand for themselves: "save" is save=True.
FLAGS = frozenset(key for key, value in DEFAULT_CFG_DICT.items() if isinstance(value, bool))
FLAGS |= {"half", "int8", "end2end", "nms", "bfloat16", "join"}
#: By verb: the sections of Ultralytics' file of defaults that are about it, and keys of other sections.
VERBS: dict[str, tuple[tuple[str, ...], str]] = {
    "train": (("Train", "Val/Test", "Hyperparameters"), "quantize cfg"),
    "val": (("Val/Test",), "data imgsz batch device workers project name exist_ok verbose rect cfg"),
    "predict": (
        ("Predict", "Visualize"),
        "imgsz batch device project name exist_ok save conf iou max_det quantize cfg",
    ),
    "track": (("Predict", "Visualize", "Tracker"), "imgsz device project name exist_ok save conf iou max_det cfg"),
    "export": (("Export",), "data imgsz batch device conf iou max_det nms quantize"),
}
#: Verbs that take their settings from a file too: those that take all of Ultralytics' keys.
WITH_FILE = ("train", "val", "predict", "track")
#: What Ultralytics writes beside a key that is for tasks that are not here.
ELSEWHERE = re.compile(r"\((?:segment|pose|obb|depth|semantic)[^)]*\)|segment/semantic")


def joined_words(words: Sequence[str]) -> list[str]:
    """Return words with the spaces around ``=`` and inside of lists taken away, as Ultralytics does."""
    try:
        return list(merge_equals_args(list(words)))
    except SyntaxError:
        return list(words)  # a bracket that does not close may be part of a name


def settings_file(file: object) -> dict[str, Any]:
    """Return the settings that a ``cfg=`` YAML gives, those that are empty left out.

    Raises:
        UsageError: when it is no file of settings, or holds a key or value that none of them has.
    """
    given = {k: v for k, v in named_settings({"cfg": file}).items() if k not in {"cfg", "mode", "save_dir"}}
    known, where = {*DEFAULT_CFG_DICT, *METHOD_KEYS, *KINDS}, f"cfg={shown(str(file), 200)}"
    for key, value in given.items():
        if key not in known:
            raise UsageError(f"{where}: has no key {shown(key)}: {closest(str(key), sorted(known))}")
        if key in KINDS:
            check_value(f"{where}: {key}", value, KINDS[key])
    if given.get("task") == DEFAULT_CFG_DICT["task"]:
        del given["task"]  # in a copy of the defaults, nobody's choice
    return given


def explained(verb: str) -> list[str]:
    """Return ``key=default  explanation`` of all keys of a verb: ours, then Ultralytics', in its words."""
    lines = []
    if verb == "train":
        own = [
            f for settings in (DeepTraining, LeanTraining, FineTuning) for f in fields(settings) if f.name != "start"
        ]
        words = {"decay": "0.333", "bfloat16": "auto"}
        says = {k: v for settings in (DeepTraining, LeanTraining, FineTuning) for k, v in meanings(settings).items()}
        lines = [f"{f.name}={words.get(f.name, f.default)}  {says[f.name]}" for f in own]
        lines += ["freeze_stages=None  stages of the backbone that keep their weights: stem, stages.0, ...", ""]
    sections, others = VERBS[verb]
    inside, found = False, []
    for line in DEFAULT_CFG_PATH.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"# (\S+).*---", line):
            inside = heading[1] in sections
        setting = re.match(r"(\w+): *([^#]*?) *# (.*)", line)
        if setting and (inside or setting[1] in others.split()) and not ELSEWHERE.search(setting[3]):
            found.append(f"{setting[1]}={setting[2]}  {setting[3]}")
    return lines + found
