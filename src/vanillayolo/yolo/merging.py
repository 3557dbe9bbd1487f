"""What our models add to Ultralytics', whatever the task: a fuse() that merges or refuses, slopes that travel."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import unwrap_model

from vanillayolo.nn import get_negative_slope, set_lean, set_negative_slope
from vanillayolo.nn.layers import BN_EPS, DeepPair, SeriesActivation, start_at_fan_in, start_at_identity
from vanillayolo.nn.reparameterize import FOLD, MERGE, is_joined, join_pairs, replace_modules

from .families import starts
from .lean_training import BFLOAT16, LeanTraining

if TYPE_CHECKING:
    from ultralytics.nn.tasks import BaseModel as _Model
else:
    _Model = object  # the model class of the task is the mixin's neighbour, not its base


def vanilla_batchnorms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """Return the batch normalisations inside pairs and series activations, not those of neck and head."""
    ours = (m for m in model.modules() if isinstance(m, (DeepPair, SeriesActivation)))
    return [m for block in ours for m in block.children() if isinstance(m, nn.BatchNorm2d)]


def to_float(preds: Any) -> Any:
    """Return a network's output with every floating tensor in it as float32."""
    if isinstance(preds, torch.Tensor):
        return preds.float() if preds.is_floating_point() else preds
    if isinstance(preds, dict):
        return {key: to_float(value) for key, value in preds.items()}
    return type(preds)(to_float(value) for value in preds) if isinstance(preds, (list, tuple)) else preds


def student(model: Any) -> Any:
    """Return the trained network inside wrappers for several processes, compilation and distillation."""
    model = unwrap_model(model)
    return getattr(model, "student_model", model)


class MergingMixin(_Model):
    """Merging, loading and the type of training; it stands before Ultralytics' class of the task.

    Attributes:
        bfloat16: whether training on CPUs runs in bfloat16; None: where the CPU has instructions for it.
        lean: how much training keeps for the backward pass; set it with :func:`vanillayolo.nn.set_lean`.
    """

    # Of checkpoints older than these attributes: their stages are "off" too.
    bfloat16: bool | None = BFLOAT16
    lean: str = "off"
    #: By it Ultralytics names a network in its summaries, and the file of one that was never saved.
    yaml_file: str = "vanillayolo.yaml"

    model: Any

    def _set_up(self, cfg: dict[str, Any], momentum: float) -> None:
        """Finish what the parser has built, as the model YAML says; ``momentum`` is that of our normalisations."""
        begun = starts(cfg)
        if begun["series_init"] == "identity":
            start_at_identity(self)
        for m in self.modules():
            if begun["pair_init"] == "fan_in" and isinstance(m, DeepPair):
                start_at_fan_in(m)
        for bn in vanilla_batchnorms(self):
            # Ultralytics sets 1e-3 everywhere: weights made with 1e-6 would be another function.
            bn.eps, bn.momentum = BN_EPS, momentum
        self.set_lean_training(cfg.get("lean_training"))

    def set_lean_training(self, settings: dict[str, Any] | None) -> None:
        """Take the type and the memory of training from settings as a model YAML's ``lean_training`` holds them.

        Raises:
            UsageError: for a key or value that does not exist.
        """
        training = LeanTraining.from_dict(settings)
        self.bfloat16 = training.bfloat16
        set_lean(self, training.lean)

    @property
    def negative_slope(self) -> float | None:
        """The smallest slope of all pairs; None once merged."""
        return get_negative_slope(self)

    def is_fused(self) -> bool:
        """Return whether fuse() has nothing left to do."""
        return bool(super().is_fused()) and not vanilla_batchnorms(self)

    def fuse(self, verbose: bool = True, imgsz: int = 640) -> MergingMixin:
        """Merge in place, exactly, where every slope is 1; else fold only BN, which is the same function, and say why.

        Args:
            verbose: print the summary.
            imgsz: image size of the summary's GFLOPs, pixels.
        """
        if vanilla_batchnorms(self):
            mergeable = self.negative_slope == 1.0
            if not mergeable:
                LOGGER.warning(
                    f"slope {self.negative_slope:g}: not merged, only BN folded (the same function). "
                    "Deep training has to reach slope 1 before the pairs collapse exactly."
                )
            replace_modules(self.model, MERGE if mergeable else FOLD)
        self.requires_grad_(False)  # as Ultralytics' own folding leaves it
        super().fuse(verbose=verbose, imgsz=imgsz)
        return self

    def loss(self, batch: dict[str, Any], preds: Any = None) -> Any:
        """Return the loss and its parts; in training the network runs in bfloat16 where :attr:`bfloat16` says so.

        Parameters, their gradients and the loss stay float32, so no gradient scaler is needed.

        Args:
            batch: Ultralytics' batch; ``img`` is ``[batch, channels, height, width]``.
            preds: the network's output, where it is already there.
        """
        img = batch["img"]
        if preds is None and self.training and img.device.type == "cpu":
            precision = torch.autocast("cpu", torch.bfloat16) if self.uses_bfloat16(img) else nullcontext()
            with precision:  # channels_last is the faster layout in float32 too
                preds = self.forward(img.contiguous(memory_format=torch.channels_last))
            preds = to_float(preds)
        return super().loss(batch, preds)

    def uses_bfloat16(self, img: torch.Tensor) -> bool:
        """Return whether training on images of this device and type runs in bfloat16."""
        wanted = LeanTraining(bfloat16=self.bfloat16).wants_bfloat16
        return wanted and img.device.type == "cpu" and img.dtype == next(self.parameters()).dtype == torch.float32

    def load(self, weights: Any, verbose: bool = True) -> None:
        """Load weights as Ultralytics does, and with them the form, the slope and the BN settings they belong to.

        Args:
            weights: checkpoint dict or model.
            verbose: print how many tensors were transferred.
        """
        source = (weights.get("ema") or weights["model"]) if isinstance(weights, dict) else weights
        if is_joined(source):
            join_pairs(self)
        super().load(weights, verbose)
        slope = get_negative_slope(source)
        if slope is not None:
            set_negative_slope(self, slope)
            for ours, theirs in zip(vanilla_batchnorms(self), vanilla_batchnorms(source), strict=False):
                ours.eps = theirs.eps
