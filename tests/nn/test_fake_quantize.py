"""Convolutions that round: the values of int8, gradients straight through, and ordinary ones again."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vanillayolo.nn.bias import rounded
from vanillayolo.nn.fake_quantize import (
    RoundedConv2d,
    copy_ranges,
    measure_maps,
    round_convolutions,
    rounded_convolutions,
    trained_levels,
    unrounded,
)

IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0)) + 0.5


@pytest.fixture
def network() -> nn.Sequential:
    """A convolution, a ReLU, a depthwise and a last convolution, and one without bias, as the decode has."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.Conv2d(8, 4, 1)]
    return nn.Sequential(*layers, nn.Conv2d(4, 1, 1, bias=False)).eval()


def on_grid(x: Tensor, low: float, high: float) -> Tensor:
    """Return a map as unsigned integers of 8 bits represent it, 0 among them, whatever the operator that does it."""
    scale = (max(high, 0) - min(low, 0)) / 255
    zero = round(-min(low, 0) / scale)
    return ((x / scale).round() + zero).clamp(0, 255).sub(zero) * scale


def ends(x: Tensor) -> tuple[float, float]:
    return float(x.min()), float(x.max())


def test_it_computes_what_integers_compute(network: nn.Sequential, assert_near: Callable[..., None]) -> None:
    floats, x = [IMAGES], IMAGES
    for layer in network:
        floats.append(layer(floats[-1]).detach())
    for i, layer in enumerate(network[:4]):
        if i == 1:
            x = x.relu()
            continue
        weight = rounded(layer.weight, 127 if layer.groups > 1 else 64)
        x = F.conv2d(on_grid(x, *ends(floats[i])), weight, layer.bias, padding=layer.padding, groups=layer.groups)
        x = x if i == 0 else on_grid(x, *ends(floats[i + 1]))  # a ReLU follows the first
    want = network[4](x)
    round_convolutions(network, {"0"})
    measure_maps(network, IMAGES.split(2))
    got = network(IMAGES)
    assert_near(got, want, 1e-5, "rounded")  # float32, a few hundred terms
    assert (got - floats[-1]).abs().max() > 1e-3, "nothing was rounded"
    assert_near(network.train()(IMAGES), got, 1e-5, "in training")
    assert type(network[4]) is nn.Conv2d


def test_gradients_pass_as_if_nothing_were_rounded(network: nn.Sequential) -> None:
    round_convolutions(network, {"0"})
    measure_maps(network, [IMAGES])
    gradients = []
    for _ in range(2):
        network.zero_grad()
        network.train()(IMAGES).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
        with unrounded(network):
            network.zero_grad()
            network(IMAGES).square().mean().backward()
            plain = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    assert torch.equal(*gradients)
    assert F.cosine_similarity(gradients[0], plain, 0) > 0.99


def test_unrounded_it_is_an_ordinary_network(network: nn.Sequential) -> None:
    before, keys = network(IMAGES), list(network.state_dict())
    round_convolutions(network, {"0"})
    measure_maps(network, [IMAGES])
    after = network(IMAGES)
    with unrounded(network):
        assert torch.equal(network(IMAGES), before)
        content = io.BytesIO()
        torch.save(network, content)
    assert torch.equal(network(IMAGES), after)
    content.seek(0)
    opened: Any = torch.load(content, weights_only=False)
    assert list(opened.state_dict()) == keys == list(network.state_dict())
    for m in opened:
        assert type(m) in (nn.Conv2d, nn.ReLU)
        assert not {"taken", "given", "rectified"} & m.__dict__.keys()


def test_ranges_are_measured_in_float_and_copied(network: nn.Sequential) -> None:
    round_convolutions(network, {"0"})
    measure_maps(network, [IMAGES])
    first = {name: (conv.taken, conv.given) for name, conv in rounded_convolutions(network).items()}
    measure_maps(network, IMAGES.split(1))
    assert {name: (conv.taken, conv.given) for name, conv in rounded_convolutions(network).items()} == first
    assert [given is None for _, given in first.values()] == [True, False, False]
    other = RoundedConv2d(3, 8, 3)
    copy_ranges(network, nn.Sequential(other))
    assert other.taken == first["0"][0]
    assert [trained_levels(conv) for conv in rounded_convolutions(network).values()] == [64, 127, 64]
