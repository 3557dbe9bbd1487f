"""In eager PyTorch a merged network must not be slower than its training form."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vanillayolo.nn import randomize_batchnorm
from vanillayolo.study.latency import measure
from vanillayolo.yolo import VanillaDetectionModel
from vanillayolo.yolo.model import fold_stock

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.fixture(scope="module")
def both() -> tuple[Any, Any]:
    """Training form (its neck folded) and merged form of the smallest network."""
    network = randomize_batchnorm(VanillaDetectionModel("yolo11n-vanillanet-6", verbose=False)).eval()
    return fold_stock(copy.deepcopy(network)), network.fuse(verbose=False)


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_merged_is_not_slower_than_the_training_form(both: tuple[Any, Any], batch: int, layout: str) -> None:
    """The best of several rounds, in turns: a busy machine slows rounds, never speeds one up.

    The margin is for that machine; a merged weight left in a layout that eager mode converts costs more than it.
    """
    x = torch.rand(batch, 3, 160, 160).to(memory_format=LAYOUTS[layout])
    training, merged = (copy.deepcopy(m).to(memory_format=LAYOUTS[layout]) for m in both)
    with torch.inference_mode():
        timings = measure({"training": lambda: training(x), "merged": lambda: merged(x)}, rounds=8, warmup=2)
    best = {t.name: t.minimum for t in timings}
    assert best["merged"] < 1.1 * best["training"]


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
