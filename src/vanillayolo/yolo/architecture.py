"""From a model name to a model YAML, made of the tables in ``families.py``.

The YAML is Ultralytics' own format with two composite rows where VanillaNet stands, three keys of ours at the top
(``family``, ``neck``, ``deep_training``; ``series_init``, ``pair_init``, ``lean_training`` and ``head_stages``, how
much of the head's branches is stages, where they are not the usual) and everything spelled out, so that people can
edit it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import timm
import yaml
from ultralytics.utils.ops import make_divisible

from vanillayolo.errors import ModelNameError, VanillaYOLOError, closest
from vanillayolo.nn import VARIANTS, Variant
from vanillayolo.values import shown

from .families import (
    BACKBONES,
    COMPACT,
    DESIGN_HEAD,
    DESIGN_NECK,
    DESIGNS,
    FAMILIES,
    FAMILY_KEYS,
    FAMILY_NECK,
    GENERATIONS,
    MOST_LAYERS,
    NECKS,
    Row,
    Yaml,
    with_head,
)
from .tasks import TASK_OF_HEAD, TASKS
from .timm_rows import timm_backbone
from .yaml_check import check_yaml
from .yaml_file import read_yaml

SHORT_NAMES = [f"yolo11{letter}-vanillanet" for letter in COMPACT]
NAME = re.compile(
    rf"yolo(?P<generation>{'|'.join(GENERATIONS)})(?P<letter>[nslmx])-vanillanet(?:-(?P<variant>\d+(?:_x1_5)?(?:_ada_pool)?|{'|'.join(DESIGNS)}))?(?P<paper>-paper)?"
    rf"(?P<task>{'|'.join(t.suffix for t in TASKS.values() if t.finds_boxes and t.suffix)})?"
)
#: Any network of timm's under YOLO11's neck of that letter, for comparison.
TIMM_NAME = re.compile(r"yolo11(?P<letter>[nslmx])-timm-(?P<network>\w+)")
#: Rows that collapse after training.
COLLAPSING = {"VanillaBackbone", "VanillaStage"}

#: A classifier: the paper's own network, at a share of its width where the data is small (``vanillanet-6-w0.125-cls``).
CLASSIFIER_NAME = re.compile(r"vanillanet-(?P<variant>\d+(?:_x1_5)?(?:_ada_pool)?)(?:-w(?P<width>\d*\.?\d+))?-cls")
CLASSIFIER_WIDTHS = (1 / 64, 4.0)


def model_names(task: str = "detect") -> list[str]:
    """Return the name of every network of a task that finds boxes, letters first."""
    variants = [*DESIGNS, *VARIANTS, *(f"{v}-paper" for v in VARIANTS)]
    stems = [*SHORT_NAMES, *(f"{s}-{v}" for v in variants for s in SHORT_NAMES)]
    newer = [name.replace("yolo11", "yolo26") for name in SHORT_NAMES]
    return [f"{stem}{TASKS[task].suffix}" for stem in (*stems, *newer)]


def name_for_task(model: str, task: str | None) -> str:
    """Return a model's name, or the one of its task's network where it names a detector and the task is another."""
    row = TASKS.get(task or "")
    return model + row.suffix if row and row.finds_boxes and model in model_names() else model


def classifier_names() -> list[str]:
    """Return every classifier's name at the paper's width."""
    return [f"vanillanet-{variant}-cls" for variant in VARIANTS]


def is_model_name(name: str) -> bool:
    """Return whether ``name``, with or without ``.yaml``, names one of our networks."""
    stem = re.sub(r"\.ya?ml$", "", name)
    if timm_match := TIMM_NAME.fullmatch(stem):
        return bool(timm.is_model(timm_match["network"]))
    if match := CLASSIFIER_NAME.fullmatch(stem):
        return match["variant"] in VARIANTS
    match = NAME.fullmatch(stem)
    if match is None:
        return False
    return match["variant"] in (None, *VARIANTS) or (match["variant"] in DESIGNS and not match["paper"])


def near(stem: str) -> str:
    """Return a hint at the names nearest to a wrong one."""
    found = [name for task, row in TASKS.items() if row.finds_boxes for name in model_names(task)]
    return closest(stem, [*found, *classifier_names()], otherwise=f"names are like {', '.join(SHORT_NAMES)}")


def backbone_rows(variant: Variant, width: float) -> list[Row]:
    """Return the backbone's row and the three rows that take its maps apart."""
    dims = variant.scaled(width)
    arguments = {
        "dims": list(dims),
        "strides": list(variant.strides),
        "act_num": variant.act_num if isinstance(variant.act_num, int) else list(variant.act_num),
        "adaptive_pool": variant.adaptive_pool,
        **({"pool_first": True} if variant.pool_first else {}),
    }
    halvings = [i for i, stride in enumerate(variant.strides) if stride == 2]
    ends = [*(i - 1 for i in halvings[1:]), len(variant.strides) - 1]  # the last stage of each of the three resolutions
    index = [[0, 1, "Index", [dims[end + 1], level]] for level, end in enumerate(ends)]
    return [[-1, 1, "VanillaBackbone", [arguments]], *index]


def classifier_yaml(variant: str, width: float = 1.0, act_num: int = 3) -> Yaml:
    """Return the YAML of the paper's own network, backbone and classifier, at a share of its widths.

    Raises:
        ModelNameError: for a width that is none.
    """
    low, high = CLASSIFIER_WIDTHS
    if not low <= width <= high:
        raise ModelNameError(f"width {width:g} of vanillanet-{variant}: give a number from {low:g} to {high:g}.")
    row = VARIANTS[variant]
    dims = row.scaled(width)
    arguments = {"dims": list(dims), "strides": list(row.strides), "act_num": act_num}
    return {
        "task": "classify",
        "nc": 1000,
        "family": {"name": "classifier", "variant": variant, "width": width},
        "deep_training": {"decay": round(1 / 3, 6), "decay_shape": "linear"},
        **({} if width == 1 else copy.deepcopy(FAMILY_KEYS["classifier"])),
        "backbone": [[-1, 1, "VanillaFeatures", [{**arguments, "adaptive_pool": row.adaptive_pool}]]],
        "head": [[-1, 1, "VanillaClassify", [dims[-1], "nc"]]],
    }


def task_of(cfg: Yaml) -> str:
    """Return the task of a checked model YAML."""
    return TASK_OF_HEAD[cfg["head"][-1][2]]


def model_yaml(name: str, neck: str | None = None) -> Yaml:
    """Return the YAML of a model name, with or without ``.yaml``, under the family's neck or the one given.

    Raises:
        ModelNameError: for a name, or a neck, that is none of ours.
    """
    stem = re.sub(r"\.ya?ml$", "", name)
    if timm_match := TIMM_NAME.fullmatch(stem):
        return timm_yaml(timm_match["letter"], timm_match["network"])
    classifier = CLASSIFIER_NAME.fullmatch(stem)
    if classifier and is_model_name(stem):
        return classifier_yaml(classifier["variant"], float(classifier["width"] or 1.0))
    match = NAME.fullmatch(stem)
    if not match or not is_model_name(stem):
        raise ModelNameError(
            f"model {name!r} is neither a file nor a model name: {near(stem)} "
            "(a .yaml, .pt or exported file does as well; 'vanillayolo info' lists all names)."
        )
    family = "paper" if match["paper"] else "compact"
    letter = match["letter"]
    scale = FAMILIES[family][letter]
    variant = match["variant"] or scale.variant
    own = DESIGN_NECK.get(variant, FAMILY_NECK[family])
    neck = neck or own
    if neck not in NECKS:
        raise ModelNameError(f"neck {neck!r}: {closest(neck, NECKS)}")
    backbone = backbone_rows(BACKBONES[variant], scale.width)
    stages = DESIGN_HEAD if variant in DESIGNS else scale.head_stages
    task = next(name for name, row in TASKS.items() if row.suffix == (match["task"] or ""))
    head = copy.deepcopy(TASKS[task].keys)
    # Rows of another neck are there to be compared with: YOLO11's head stays under them.
    if stages and neck == own:
        head["head_stages"] = {**dict.fromkeys(TASKS[task].branches, MOST_LAYERS), **stages}
    return {
        "nc": 80,
        "scale": letter,
        "scales": {letter: list(scale.neck)},
        "family": {"name": family, "variant": variant, "width": scale.width},
        "neck": neck,
        "deep_training": {"decay": round(1 / 3, 6), "decay_shape": "linear"},
        **copy.deepcopy(FAMILY_KEYS[family]),
        **head,
        **GENERATIONS[match["generation"]],
        "backbone": backbone,
        "head": with_head(neck, task, match["generation"]),
    }


def scaled_channels(cfg: Yaml, channels: int) -> int:
    """Return the channels of a row under the letter's width, as Ultralytics' parser scales those of its own modules."""
    _, width, most = cfg["scales"][cfg["scale"]]
    return int(make_divisible(min(channels, most) * width, 8))


def timm_yaml(letter: str, network: str) -> Yaml:
    """Return the YAML of one of timm's networks under YOLO11's neck of a letter.

    Raises:
        ModelNameError: when timm has no such network, or it cannot be a detector's backbone.
    """
    settings, channels = timm_backbone(network)
    index: list[Row] = [[0, 1, "Index", [c, level]] for level, c in enumerate(channels)]
    return {
        "nc": 80,
        "scale": letter,
        "scales": {letter: list(COMPACT[letter].neck)},
        "family": {"name": "timm", "variant": network},
        "neck": "yolo11",
        "deep_training": {"decay": 0.0},  # no pairs, no slope
        "backbone": [[-1, 1, "TimmBackbone", [dict(settings)]], *index],
        "head": with_head("yolo11"),
    }


def collapses(cfg: Yaml) -> bool:
    """Return whether a model YAML has rows that deep training and the merge are for."""
    return any(row[2] in COLLAPSING for row in (*cfg["backbone"], *cfg["head"]))


def load_yaml(path: str | Path) -> Yaml:
    """Read an edited model YAML; a ``neck`` name without a ``head`` is filled in from the table.

    Raises:
        ModelNameError: when the file is missing, malformed or describes no network of ours.
    """
    return check_yaml(read_yaml(Path(path)), str(path))


def dump_yaml(cfg: Yaml) -> str:
    """Return the YAML as text, one row a line, ready to be edited and given as ``model=FILE.yaml``."""
    lines = [
        "# A VanillaYOLO network; edit it and give it as model=FILE.yaml. Rows: [from, repeats, module, arguments]."
    ]
    for key, value in cfg.items():
        if key in ("backbone", "head"):
            rows = (yaml.safe_dump(row, default_flow_style=True, width=10_000).strip() for row in value)
            lines += [f"{key}:", *(f"  - {row}" for row in rows)]
        else:
            text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
            lines.append(f"{key}: {text.removesuffix('...' + chr(10)).strip()}")
    return "\n".join(lines) + "\n"


@contextmanager
def building(model: str | Path | Yaml, like: str) -> Iterator[None]:
    """Tell the user, in one line, where rows that are right each by itself do not make a network together.

    Args:
        model: what it is built from.
        like: a name whose YAML shows how.

    Raises:
        ModelNameError: for whatever torch and Ultralytics raise, but in a network of our own tables.
    """
    try:
        yield
    except VanillaYOLOError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError, AssertionError, ArithmeticError) as error:
        if isinstance(model, str) and not model.endswith((".yaml", ".yml")):
            raise
        reason = shown(" ".join(str(error).split()), 160) if str(error) else repr(error)
        name = "YAML" if isinstance(model, dict) else str(model)
        raise ModelNameError(
            f"model {name!r}: its rows do not fit each other ({reason}); compare with 'vanillayolo yaml model={like}'."
        ) from error


def resolve(model: str | Path | Yaml) -> Yaml:
    """Return the YAML of a name, of a YAML file, or of a dict already at hand (copied)."""
    if isinstance(model, dict):
        return check_yaml(model, "YAML")
    path = Path(model)
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        return load_yaml(path)
    return model_yaml(str(model))
