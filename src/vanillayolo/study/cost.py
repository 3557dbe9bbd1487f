"""What a network costs to run: parameters and arithmetic, in training form and merged."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vanillayolo.nn import is_merged, set_negative_slope
from vanillayolo.nn.reparameterize import is_joined
from vanillayolo.yolo.merging import MergingMixin
from vanillayolo.yolo.model import fold_stock
from vanillayolo.yolo.pictures import channels_of


@dataclass(frozen=True)
class Cost:
    """Parameters, and arithmetic of one forward pass of one image in 10^9 operations (a multiply-add counts two)."""

    parameters: int
    gflops: float


def cost(model: nn.Module, imgsz: int = 640) -> Cost:
    """Count parameters and every multiply-add of one image ``[1, 3, imgsz, imgsz]`` with torch's own counter.

    Args:
        model: a network in evaluation mode.
        imgsz: side of the image, pixels.
    """
    weight = next(model.parameters())
    image = torch.zeros(1, channels_of(model), imgsz, imgsz, device=weight.device, dtype=weight.dtype)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(image)
    return Cost(sum(p.numel() for p in model.parameters()), counter.get_total_flops() / 1e9)


def both_forms(model: nn.Module, imgsz: int = 640) -> dict[str, Cost]:
    """Return the cost of a detector in training form (its neck folded, as it is published and run) and merged.

    A merged or stock detector has one form only. The training form of a joined one is that in which its training began.
    """
    network = copy.deepcopy(model).float().eval()
    if not isinstance(network, MergingMixin) or is_merged(network):
        return {"merged": cost(fold_stock(network), imgsz)}
    begun: Any = network
    if is_joined(network):
        begun = type(network)(copy.deepcopy(network.yaml), verbose=False).eval()
    set_negative_slope(begun, 1.0)  # the cost of a network is not a matter of its slope
    training = cost(fold_stock(begun), imgsz)
    network.fuse(verbose=False)
    return {"training form": training, "merged": cost(network, imgsz)}
