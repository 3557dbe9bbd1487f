"""Fine-tuning as the authors do it: a learning rate for every stage of the backbone, stages held by their names.

Ultralytics has one learning rate for everything. Here its parameter groups are split, so that its warm-up, schedule
and resume go on working: each of the new groups keeps the old one's name, weight decay and momentum.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from ultralytics.utils import LOGGER, colorstr

from vanillayolo.errors import UsageError, closest
from vanillayolo.settings import Settings
from vanillayolo.values import PATH, Kind, number

#: The backbone's row in every model of ours.
BACKBONE = "model.0."


@dataclass(frozen=True)
class FineTuning(Settings):
    """The settings of fine-tuning.

    Attributes:
        weights: file of official weights that the network starts from.
        layer_decay: factor of the learning rate from each stage to the one before (the authors: 0.6 in detection).
        backbone_lr: factor of the learning rate of the whole backbone.

    Raises:
        UsageError: for a factor that is none.
    """

    SECTION = "fine_tuning"
    KINDS: ClassVar[dict[str, Kind]] = {
        "weights": PATH,
        "layer_decay": number(0, 1, above=True),
        "backbone_lr": number(0, 10, above=True),
    }
    weights: str | Path | None = None
    layer_decay: float = 1.0
    backbone_lr: float = 1.0

    def scale(self, depth: int, stages: int) -> float:
        """Return the factor of the stem (``depth`` 0) or of stage ``depth - 1``, in a backbone of so many stages.

        What stands after the backbone has factor 1, the last stage one decay, the stem the most, as in timm.
        """
        return float(self.backbone_lr * self.layer_decay ** (stages + 1 - depth))


def stage_names(model: Any) -> list[str]:
    """Return the names of a model's stages: ``stem``, ``stages.0``, ...; none where the backbone is one of timm's."""
    stages = getattr(model.model[0], "stages", None)
    return [] if stages is None else ["stem", *(f"stages.{i}" for i in range(len(stages)))]


def freeze_entries(freeze: Any, stages: Any) -> Any:
    """Return Ultralytics' ``freeze`` with the stages named, as entries of its list (``0.stem``: in row 0, the stem).

    Args:
        freeze: number of rows, or list of them.
        stages: names, in a list or separated by commas.

    Raises:
        UsageError: for a name that cannot be a stage's.
    """
    if stages is None or stages == []:
        return freeze
    names = [n.strip() for n in stages.split(",")] if isinstance(stages, str) else list(stages)
    for name in names:
        head, dot, number = str(name).partition(".")
        if name != "stem" and not (head == "stages" and dot and number.isdigit()):
            raise UsageError(f"freeze_stages={name!r}: give names like stem, stages.0, stages.1 (separated by commas).")
    rows = list(range(freeze)) if isinstance(freeze, int) else list(freeze or [])
    return [*rows, *(f"0.{name}" for name in names if f"0.{name}" not in rows)]


def check_stages(freeze: Any, model: Any) -> None:
    """Raise UsageError when ``freeze`` names a stage that the model has not."""
    known = stage_names(model)
    for entry in freeze if isinstance(freeze, (list, tuple)) else ():
        name = str(entry).removeprefix("0.")
        if str(entry).startswith("0.") and name not in known:
            hint = closest(name, known) if known else "the backbone is one of timm's; freeze=1 holds all of it."
            raise UsageError(f"freeze_stages: {name!r}: {hint}")


def freezes_backbone(freeze: Any) -> bool:
    """Return whether Ultralytics' ``freeze`` holds the backbone (row 0) or a stage of it."""
    entries = range(freeze) if isinstance(freeze, int) else freeze or []
    return any(entry == 0 or str(entry).startswith("0.") for entry in entries)


def scale_groups(optimizer: torch.optim.Optimizer, model: nn.Module, tuning: FineTuning) -> None:
    """Split an optimizer's groups by stage of the backbone, each with its own learning rate, and say which.

    Args:
        optimizer: Ultralytics', before its scheduler is made.
        model: one of our models; its backbone is row 0.
        tuning: the factors; at 1 nothing is changed.
    """
    if tuning.layer_decay == 1 and tuning.backbone_lr == 1:
        return
    names = stage_names(model)
    depth_of: dict[int, int] = {}
    for name, parameter in model.named_parameters():
        for depth, stage in enumerate(names):
            if name.startswith(f"{BACKBONE}{stage}."):
                depth_of[id(parameter)] = depth
    groups = []
    for group in optimizer.param_groups:
        parts: dict[int, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            parts.setdefault(depth_of.get(id(parameter), len(names)), []).append(parameter)
        for depth, parameters in sorted(parts.items()):
            factor = 1.0 if depth == len(names) else tuning.scale(depth, len(names) - 1)
            groups.append({**group, "params": parameters, "lr": group["lr"] * factor})

    optimizer.param_groups[:] = groups
    factors = {name: tuning.scale(depth, len(names) - 1) for depth, name in enumerate(names)}
    told = ", ".join(f"{name} {factor:.3g}" for name, factor in factors.items())
    LOGGER.info(f"{colorstr('learning rates:')} {told}, the rest 1 (times the schedule's), in {len(groups)} groups")
