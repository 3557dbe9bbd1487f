from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vanillayolo.nn.reparameterize import join_pairs
from vanillayolo.study.cost import both_forms, cost
from vanillayolo.yolo import VanillaDetectionModel


def test_every_multiply_add_counts_two() -> None:
    conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert cost(conv, 32).gflops == 2 * 3 * 8 * 9 * 32 * 32 / 1e9
    assert cost(conv, 32).parameters == 3 * 8 * 9


def test_merging_saves_and_leaves_the_network_alone(tiny_cfg: dict[str, Any]) -> None:
    model = VanillaDetectionModel(tiny_cfg, verbose=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    forms = both_forms(model, 64)
    assert forms["merged"].parameters < forms["training form"].parameters
    assert forms["merged"].gflops < forms["training form"].gflops
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.slow
def test_a_joined_networks_training_form_is_that_which_it_began_in(tiny_cfg: dict[str, Any]) -> None:
    model = VanillaDetectionModel(tiny_cfg, nc=3, verbose=False)
    before = both_forms(model, 64)
    assert both_forms(join_pairs(model), 64) == before


def test_a_merged_network_has_one_form(tiny_cfg: dict[str, Any]) -> None:
    assert list(both_forms(VanillaDetectionModel(tiny_cfg, verbose=False).fuse(verbose=False), 64)) == ["merged"]


def test_a_network_of_one_channel_is_given_one(tiny_cfg: dict[str, Any]) -> None:
    grey, colour = (VanillaDetectionModel(tiny_cfg, ch=channels, verbose=False) for channels in (1, 3))
    assert 0 < cost(grey, 64).gflops < cost(colour, 64).gflops
