"""The optimizer of a training: Ultralytics' or LAMB, and what it takes over of an interrupted one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from ultralytics.utils import LOGGER, colorstr

from vanillayolo.errors import CheckpointError, one_line
from vanillayolo.values import is_number, shown

from .fine_tuning import FineTuning, scale_groups
from .merging import student

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer as _Trainer
else:
    _Trainer = object  # the trainer of the task is the mixin's neighbour, not its base


def build_lamb(like: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return timm's LAMB over the groups of an Adam of Ultralytics, with their learning rates and weight decays."""
    from timm.optim import Lamb

    kept = ("params", "lr", "betas", "weight_decay", "param_group")
    groups = [{key: group[key] for key in kept if key in group} for group in like.param_groups if group["params"]]
    optimizer: torch.optim.Optimizer = Lamb(groups, lr=groups[0]["lr"])
    LOGGER.info(f"{colorstr('optimizer:')} LAMB (timm) in place of AdamW, over the same parameter groups")
    return optimizer


def check_like(key: str, value: Any, like: Any) -> None:
    """Raise ValueError unless an optimizer's value has the type of its like; a map its shape, a flag its value."""
    if isinstance(value, torch.Tensor) and isinstance(like, torch.Tensor):
        fits = value.shape == like.shape
    elif isinstance(like, bool):
        fits = value in (like, None)
    else:
        numbers = is_number(like) and (is_number(value) or isinstance(value, torch.Tensor))
        fits = numbers or None in (value, like) or isinstance(value, type(like))
    if not fits:
        raise ValueError(f"{key}={shown(getattr(value, 'shape', value))}")


class OptimizerMixin(_Trainer):
    """How a trainer of ours builds its optimizer and restores it; it stands before Ultralytics' trainer."""

    model: Any
    args: Any
    optimizer: Any

    def build_optimizer(self, model: Any, name: str = "auto", **settings: Any) -> torch.optim.Optimizer:
        """Build Ultralytics' optimizer, or LAMB, with a learning rate of its own for every stage of the backbone."""
        network, lamb = student(self.model), str(name).lower() == "lamb"
        optimizer: torch.optim.Optimizer = super().build_optimizer(model, "AdamW" if lamb else name, **settings)
        optimizer = build_lamb(optimizer) if lamb else optimizer
        scale_groups(optimizer, network, FineTuning.from_dict(network.yaml.get("fine_tuning")))
        return optimizer

    def _load_checkpoint_state(self, ckpt: dict[str, Any]) -> None:
        """Take over the state of a training; one of another network, or edited, raises a CheckpointError."""
        groups = (ckpt.get("optimizer") or {}).get("param_groups", [])
        try:
            for saved, group in zip(groups, self.optimizer.param_groups, strict=False):
                for key, value in {**group, "fused": None}.items():  # that is the device's matter
                    check_like(key, saved.get(key, value), value)
            super()._load_checkpoint_state(ckpt)
            for parameter, state in self.optimizer.state.items():
                for key, value in state.items():
                    like = parameter if isinstance(value, torch.Tensor) and value.dim() else 0
                    check_like(key, value, like)
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f"{self.args.resume}: its optimizer is of another network ({one_line(error)}); resume from another "
                "checkpoint of the run, or start a new training from this one's weights (omit resume)."
            ) from error
