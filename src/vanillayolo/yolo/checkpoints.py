"""What a checkpoint is good for: undamaged, to be trained on, to be resumed."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from vanillayolo.errors import CheckpointError
from vanillayolo.nn import is_merged

from .deep_trainer import student
from .merging import MergingMixin


def check_undamaged(path: Path) -> None:
    """Raise CheckpointError when bytes of a checkpoint changed since it was written: torch would load them silently."""
    if path.suffix == ".pt" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            try:
                damaged = archive.testzip()
            except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
                damaged = str(error)
        if damaged:
            raise CheckpointError(f"{path}: not a loadable checkpoint (damaged at {damaged}); copy or train it again.")


def check_finite(model: torch.nn.Module, name: str) -> None:
    """Raise CheckpointError, naming the tensor, where a network has a weight or statistic that is not finite."""
    for key, tensor in model.state_dict().items():
        bad = 0 if not tensor.is_floating_point() else int((~tensor.isfinite()).sum())
        if bad:
            raise CheckpointError(
                f"{name}: {key} holds {bad} of {tensor.numel()} values that are not finite (NaN or infinite); "
                "give an earlier checkpoint of the run (save_period keeps some), or train again."
            )


def can_resume(ckpt: dict[str, Any] | None) -> bool:
    """Return whether a checkpoint is of a training with epochs left."""
    ckpt = ckpt or {}
    epochs = (ckpt.get("train_args") or {}).get("epochs", 0)
    return ckpt.get("optimizer") is not None and 0 <= ckpt.get("epoch", -1) < epochs - 1


def check_weights(weights: Any, name: str) -> None:
    """Raise CheckpointError unless training can start from ``weights``: ours in training form, or stock ones."""
    if not isinstance(weights, torch.nn.Module):
        raise CheckpointError(f"{name}: give a checkpoint (.pt), not an exported file.")
    check_finite(weights, name)
    if isinstance(weights, MergingMixin):
        check_training_form(weights, name)


def check_training_form(model: Any, name: str) -> None:
    """Raise CheckpointError for a merged or folded network: its weights fit no network that trains."""
    model = student(model)
    if (is_merged(model) and getattr(model, "collapses", True)) or model.is_fused():
        raise CheckpointError(
            f"{name}: is merged; only the training form trains. Give the checkpoint from before "
            "(best.pt), or load it again where fuse() was called."
        )
