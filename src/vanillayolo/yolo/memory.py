"""What training a detector keeps in memory for its backward pass: counted, and predicted for any image size."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.utils import DEFAULT_CFG


def saved_bytes(model: nn.Module, run: Callable[[], object]) -> int:
    """Count what ``run`` keeps for a backward pass: bytes of distinct storages, without the model's own tensors.

    Free of noise: torch hands every tensor it keeps to a hook.

    Args:
        model: whose parameters and buffers do not count.
        run: a forward pass.
    """
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}  # holds the tensors too: an address counts once only while it is taken

    def pack(x: Tensor) -> Tensor:
        if (address := x.untyped_storage().data_ptr()) not in own:
            kept[address] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = run()  # noqa: F841  # the graph has to live until all is counted
    return sum(x.untyped_storage().nbytes() for x in kept.values())


def sample_batch(imgsz: int, batch: int, boxes: int = 1, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Return a batch of random images with random boxes, as Ultralytics' trainer hands it to ``loss``."""
    generator = torch.Generator().manual_seed(0)
    count = batch * boxes
    sample = {
        "img": torch.rand(batch, 3, imgsz, imgsz, generator=generator),
        "batch_idx": torch.arange(batch).repeat_interleave(boxes).float(),
        "cls": torch.zeros(count, 1),
        "bboxes": torch.rand(count, 4, generator=generator) * 0.4 + 0.3,
    }
    return {key: value.to(device) for key, value in sample.items()}


def activation_bytes(model: Any, imgsz: int = 640, batch: int = 1) -> int:
    """Predict what one training step keeps for its backward pass.

    The maps grow with the image's area, attention with its square, cast weights not at all; so counting at three
    small sizes gives the figure at every size, without the memory that the size itself would take.

    Args:
        model: a detector of ours or of Ultralytics in training form; it is not changed.
        imgsz: side of the image, pixels; rounded up to a multiple of the largest stride as in training.
        batch: images.

    Returns:
        Bytes, without parameters, gradients and optimizer.
    """
    probe = copy.deepcopy(model).float().train()
    if not hasattr(getattr(probe, "args", None), "box"):  # the loss asks for its weights
        probe.args = DEFAULT_CFG
    device = next(probe.parameters()).device
    for p in probe.parameters():
        p.requires_grad_(p.is_floating_point())
    stride = int(probe.stride.max())
    channels = probe.yaml.get("channels", 3)
    areas, counted = [], []
    for cells in (2, 3, 4):
        sample = sample_batch(cells * stride, 1, device=device)
        sample["img"] = sample["img"].mean(1, keepdim=True).repeat(1, channels, 1, 1)
        areas.append(cells**2)
        counted.append(saved_bytes(probe, lambda sample=sample: probe.loss(sample)))  # type: ignore[misc]
    constant, linear, square = np.linalg.solve([[1, a, a * a] for a in areas], counted)
    area = (-(-imgsz // stride)) ** 2
    return round(constant + batch * (linear * area + square * area**2))
