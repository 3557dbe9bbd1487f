"""In eager PyTorch a merged network has fewer operations than its training form, its weights the layout asked for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vanillayolo.nn import randomize_batchnorm
from vanillayolo.yolo import VanillaDetectionModel
from vanillayolo.yolo.model import fold_stock

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.fixture(scope="module")
def both() -> tuple[Any, Any]:
    """Training form (its neck folded) and merged form of the smallest network."""
    network = randomize_batchnorm(VanillaDetectionModel("yolo11n-vanillanet-6", verbose=False)).eval()
    return fold_stock(copy.deepcopy(network)), network.fuse(verbose=False)


def test_merged_has_fewer_operations(both: tuple[Any, Any]) -> None:
    counts = []
    for network in both:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(torch.zeros(1, 3, 160, 160))
        counts.append(counter.get_total_flops())
    assert counts[1] < counts[0]


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_weights_of_a_merged_network_take_either_layout_whole(both: tuple[Any, Any], layout: str) -> None:
    """A 1x1 weight is contiguous in both senses; its strides decide which kernel eager mode takes."""
    merged = copy.deepcopy(both[1]).to(memory_format=LAYOUTS[layout])
    for m in merged.modules():
        if isinstance(m, nn.Conv2d):
            fresh = torch.empty(m.weight.shape).to(memory_format=LAYOUTS[layout])
            assert m.weight.stride() == fresh.stride()
