"""The families in tables: widths, necks, heads and series of every letter. Networks are generated from them alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

from vanillayolo.nn import VARIANTS, Variant

from .tasks import HEADS, TASKS

Yaml = dict[str, Any]
Row = list[Any]  # [from, repeats, module, arguments]
#: By branch of the head (``box``, ``class`` ...): how many of its two layers, from the first on; ``act_num``: the
#: paper's n.
HeadStages = dict[str, int]
MOST_LAYERS, MOST_ACT_NUM = 2, 15


@dataclass(frozen=True)
class Scale:
    """One letter of a family.

    Attributes:
        variant: the family's choice where the name gives none.
        width: share of the paper's backbone width.
        neck: depth, width and largest channels of the neck, as in Ultralytics' ``scales``.
        head_stages: stages in the head's branches; None for YOLO11's own branches.
    """

    variant: str
    width: float
    neck: tuple[float, float, int]
    head_stages: HeadStages | None = None


#: Backbones of our own, at the paper's scale of widths: ``slim`` is made for the compilers and runtimes that charge for
#: wide depthwise kernels and for large maps (benchmarks/method/family_search.json).
DESIGNS = {
    "slim": Variant(
        dims=(384, 512, 1024, 1536, 1536, 1536, 1536, 3072, 3072),
        strides=(1, 2, 2, 1, 1, 1, 2, 1),
        act_num=2,
        pool_first=True,
    )
}
#: Smaller kernels still where maps are largest: Ethos-U and a browser's WASM charge most there
#: (benchmarks/time/vela.json).
DESIGNS["npu"] = replace(DESIGNS["slim"], act_num=(1, 1, 2, 2, 2, 2, 2, 2, 2))
#: Every backbone that a name can stand for.
BACKBONES: dict[str, Variant] = {**VARIANTS, **DESIGNS}
#: The compact family: at every letter the merged detector is no slower than YOLO11 and YOLO26 of that letter
#: (benchmarks/time/family_latency.json, with n's variant 10).
COMPACT = {
    "n": Scale("slim", 1 / 8, (0.50, 0.25, 1024), head_stages={"box": 2, "class": 2, "act_num": 2}),
    "s": Scale("8", 1 / 4, (0.50, 0.50, 1024)),
    "m": Scale("8", 1 / 2, (0.50, 1.00, 512)),
    "l": Scale("10", 1 / 2, (1.00, 1.00, 512)),
    "x": Scale("10", 5 / 8, (1.00, 1.50, 512)),
}
#: The paper's widths under the neck of the published model, whose C3k2 have twice YOLO11n's repeats.
PAPER = {
    "n": Scale("5", 1.0, (1.00, 0.25, 1024)),
    "s": Scale("5", 1.0, (1.00, 0.50, 1024)),
    "m": Scale("5", 1.0, (1.00, 1.00, 512)),
    "l": Scale("5", 1.0, (2.00, 1.00, 512)),
    "x": Scale("5", 1.0, (2.00, 1.50, 512)),
}
FAMILIES = {"compact": COMPACT, "paper": PAPER}

# Layer 0 is the backbone, 1 to 3 are its maps P3, P4, P5; a neck's rows go on from there, and a head follows them.
NECKS: dict[str, list[Row]] = {
    "yolo11": [
        [-1, 1, "SPPF", [1024, 5]],  # 4
        [-1, 2, "C2PSA", [1024]],  # 5
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 2], 1, "Concat", [1]],
        [-1, 2, "C3k2", [512, False]],  # 8
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 1], 1, "Concat", [1]],
        [-1, 2, "C3k2", [256, False]],  # 11, P3 out
        [-1, 1, "Conv", [256, 3, 2]],
        [[-1, 8], 1, "Concat", [1]],
        [-1, 2, "C3k2", [512, False]],  # 14, P4 out
        [-1, 1, "Conv", [512, 3, 2]],
        [[-1, 5], 1, "Concat", [1]],
        [-1, 2, "C3k2", [1024, True]],  # 17, P5 out
    ],
}
# The published model: one C2PSA block and no C3k block, so that only repeats tell it from YOLO11's neck.
NECKS["published"] = copy.deepcopy(NECKS["yolo11"])
NECKS["published"][1][1] = 1
NECKS["published"][13][3] = [1024, False]


# YOLO11's paths, but every block one of the backbone's own stages: all but the head collapses. A stage's arguments are
# channels (scaled by the letter as those of Conv are), stride and the paper's n.
NECKS["plain"] = [
    [-1, 1, "SPPF", [1024, 5]],  # 4
    [-1, 1, "VanillaStage", [1024, 1, 2]],  # 5
    [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
    [[-1, 2], 1, "Concat", [1]],
    [-1, 1, "VanillaStage", [512, 1, 2]],  # 8
    [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
    [[-1, 1], 1, "Concat", [1]],
    [-1, 1, "VanillaStage", [384, 1, 2]],  # 11, P3 out
    [-1, 1, "VanillaStage", [384, 2, 2]],
    [[-1, 8], 1, "Concat", [1]],
    [-1, 1, "VanillaStage", [512, 1, 2]],  # 14, P4 out
    [-1, 1, "VanillaStage", [512, 2, 2]],
    [[-1, 5], 1, "Concat", [1]],
    [-1, 1, "VanillaStage", [1024, 1, 2]],  # 17, P5 out
]

# The same for the chips: a stage in the place of three 5x5 pools, and pooling before the convolution that it is for.
NECKS["slim"] = copy.deepcopy(NECKS["plain"])
NECKS["slim"][0] = [-1, 1, "VanillaStage", [1024, 1, 2]]
for _row in NECKS["slim"][8], NECKS["slim"][11]:
    _row[3] = [*_row[3], True]

#: Rows of a neck whose maps a head reads.
NECK_MAPS = [11, 14, 17]


def with_head(neck: str, task: str = "detect", generation: str = "11") -> list[Row]:
    """Return the rows of a neck and of a task's head, as a model YAML has them under ``head``."""
    head = HEADS[task][-1 if generation == "26" else 0]
    return [*copy.deepcopy(NECKS[neck]), [list(NECK_MAPS), 1, head, ["nc", *TASKS[task].arguments.values()]]]


#: What the head of each generation adds to a model YAML: YOLO26's has no distribution of box sides, and a second set of
#: branches that finds every object once.
GENERATIONS: dict[str, Yaml] = {"11": {}, "26": {"end2end": True, "reg_max": 1}}
FAMILY_NECK = {"compact": "plain", "paper": "published"}
#: Of designs, with the head that belongs to them at every letter.
DESIGN_NECK = dict.fromkeys(DESIGNS, "slim")
DESIGN_HEAD: HeadStages = {"box": 2, "class": 2, "act_num": 2}
#: How training begins, the authors' way first: series activations as noise, or as the ReLU that they generalise; pairs
#: as noise of 0.02 at any width, or of 1 / sqrt(fan-in).
INITS = {"series_init": ("noise", "identity"), "pair_init": ("noise", "fan_in")}
#: What a family has of its own. Networks narrower than the paper's start their series activations at the identity:
#: small objects and small data need it; classifiers among them their pairs at fan_in (docs/method_details.md). Beside a
#: backbone of the paper's width, computing neck and head twice costs next to nothing.
FAMILY_KEYS: dict[str, Yaml] = {
    "compact": {"series_init": "identity"},
    "classifier": {"series_init": "identity", "pair_init": "fan_in"},
    "paper": {"lean_training": {"lean": "max"}},
}


def starts(cfg: Yaml) -> dict[str, str]:
    """Return what a model YAML says for each of :data:`INITS`; where it says nothing, the authors' way."""
    return {key: cfg.get(key, allowed[0]) for key, allowed in INITS.items()}
