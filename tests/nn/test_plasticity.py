"""Shorter weights before a normalisation: the same function, of which a step of the optimizer turns more."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vanillayolo.nn import make_stage, set_negative_slope
from vanillayolo.nn.layers import randomize_batchnorm
from vanillayolo.nn.plasticity import LONGEST, shorten, shorten_joined
from vanillayolo.nn.reparameterize import join_pairs


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3]), st.floats(0.05, 2), st.booleans())
def test_it_is_the_same_function(inputs: int, outputs: int, kernel: int, longest: float, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(inputs, outputs, kernel, bias=bias), nn.BatchNorm2d(outputs, eps=1e-6)).double()
    randomize_batchnorm(layer)
    short, x = copy.deepcopy(layer), torch.randn(2, inputs, 5, 5, dtype=torch.float64)
    factor = shorten(short[0], short[1], longest)
    assert 0 < factor <= 1
    torch.testing.assert_close(short[0].weight, factor * layer[0].weight)
    assert short[0].weight.square().mean().sqrt() <= longest * (1 + 1e-9) or factor == 1
    # the rest is rounding; what eps would change is taken back in the normalisation's weight
    torch.testing.assert_close(short.eval()(x), layer.eval()(x), rtol=1e-10, atol=1e-12)
    short[1].eps = layer[1].eps = 1e-15  # a batch's variance may be as small as it: of one weight that is all but 0
    torch.testing.assert_close(short.train()(x), layer.train()(x), rtol=1e-2, atol=1e-3)


def test_no_weights_stay_no_weights() -> None:
    layer, norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
    nn.init.zeros_(layer.weight)
    assert shorten(layer, norm) == 1


def test_a_step_of_adam_turns_it_further() -> None:
    torch.manual_seed(0)
    stage = make_stage(8, 16, 2, 1)
    set_negative_slope(stage, 1.0)
    join_pairs(stage)
    randomize_batchnorm(stage)
    with torch.no_grad():
        stage.pair.conv1.weight.mul_(50)
    short, x = copy.deepcopy(stage), torch.randn(4, 8, 8, 8)
    (factor,) = shorten_joined(short)
    assert factor == pytest.approx(LONGEST / float(stage.pair.conv1.weight.square().mean().sqrt()))
    turned = []
    for network in (stage, short):
        weight = network.pair.conv1.weight
        before = weight.detach().clone()
        optimizer = torch.optim.AdamW([weight], lr=1e-3, weight_decay=0)
        network.train()(x).square().mean().backward()
        optimizer.step()
        turned.append(1 - torch.cosine_similarity(before.flatten(), weight.detach().flatten(), 0))
    assert turned[1] > 2 * turned[0]
