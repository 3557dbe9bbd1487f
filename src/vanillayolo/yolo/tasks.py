"""The table of tasks: what tells one from another, a row each. The classes that serve them are in ``engines.py``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        verb: what its networks do, for messages.
        head: class of a network's last row.
        arguments: of that row, after the classes: what the model's YAML says, by the attribute of the head.
        keys: keys of the YAML that it has beside those of all tasks, with what they are where nobody says.
        branches: attributes of the head that hold a branch for each level, by their name in ``head_stages``.
        extra: what follows boxes and scores in the first output (a proof gives key points in pixels, angles in
            degrees); nothing where empty.
        maps: names of the outputs after the first.
        metric: attribute of Ultralytics' metrics that a network is judged by.
        letter: of that metric in the names of the columns of Ultralytics' ``results.csv``.
        judged: what that metric is of, in words.
        suffix: what names of its networks end in.
        imgsz: side of the image where nobody says, pixels.
        taken: how an image becomes an input, in words.
        gives: the outputs, in words.
    """

    verb: str
    head: str
    arguments: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    extra: str = ""
    maps: tuple[str, ...] = ()
    metric: str = "box"
    letter: str = "B"
    judged: str = "boxes"
    suffix: str = ""
    imgsz: int = 640
    taken: str = "letterboxed with grey 114"
    gives: str = "[batch, 4 + classes, anchors]: box centre x, y, width, height in pixels, then class scores"

    @property
    def finds_boxes(self) -> bool:
        """Whether its networks find boxes, in maps of several resolutions."""
        return bool(self.branches)

    @property
    def points(self) -> str:
        """Name of the output of key points; empty where there are none."""
        return self.extra if "kpt_shape" in self.keys else ""

    @property
    def turned(self) -> bool:
        """Whether its boxes are turned."""
        return self.extra == "angles"


BOXES = {"box": "cv2", "class": "cv3"}
#: What a head without suppression gives, in words.
ONE_TO_ONE = "[batch, boxes, 6]: x1, y1, x2, y2 in pixels, score, class; every object once, nothing to suppress"
_FOUND = "[batch, 4 + classes + {}, anchors]: box centre x, y, width, height in pixels, class scores, then {}"
TASKS = {
    "detect": Task("detect", "Detect", branches=BOXES),
    "segment": Task(
        "segment",
        "Segment",
        {"nm": 32, "npr": 256},
        branches={**BOXES, "mask": "cv4"},
        extra="mask coefficients",
        maps=("prototypes",),
        metric="seg",
        letter="M",
        judged="masks",
        suffix="-seg",
        gives=_FOUND.format(32, "mask coefficients")
        + "; [batch, 32, height / 4, width / 4]: prototypes, of which a mask is the sum by its coefficients",
    ),
    "pose": Task(
        "find key points",
        "Pose",
        {"kpt_shape": "kpt_shape"},
        keys={"kpt_shape": [17, 3]},
        branches={**BOXES, "keypoint": "cv4"},
        extra="key points",
        metric="pose",
        letter="P",
        judged="key points",
        suffix="-pose",
        gives=_FOUND.format("key point numbers", "x, y in pixels (and visibility, 0 to 1) of every key point"),
    ),
    "obb": Task(
        "find turned boxes",
        "OBB",
        {"ne": 1},
        branches={**BOXES, "angle": "cv4"},
        extra="angles",
        judged="turned boxes",
        suffix="-obb",
        gives=_FOUND.format(1, "the angle in radians by which the box is turned"),
    ),
    "classify": Task(
        "classify",
        "VanillaClassify",
        suffix="-cls",
        imgsz=224,
        taken="shorter side resized, centre cropped",
        gives="[batch, classes]: probabilities",
    ),
}
#: Classes of a network's last row by task: YOLO11's, then, where that is another one, YOLO26's.
HEADS = {name: (row.head, f"{row.head}26") if row.extra else (row.head,) for name, row in TASKS.items()}
#: Tasks whose networks find boxes.
FINDING = tuple(name for name, row in TASKS.items() if row.finds_boxes)
#: The task of the class of a network's last row.
TASK_OF_HEAD = {head: name for name, heads in HEADS.items() for head in heads}


def task_of_head(head: object) -> Task:
    """Return the task of a network's last row, ours or Ultralytics'; a classifier's where it is no other."""
    return TASKS[TASK_OF_HEAD.get(type(head).__name__, "classify")]


def task_name(network: Any) -> str:
    """Return the name of a network's task."""
    return TASK_OF_HEAD.get(type(network.model[-1]).__name__, "classify")
