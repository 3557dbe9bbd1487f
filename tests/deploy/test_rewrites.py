"""Every rewrite is the same function in float64, with random weights, at several sizes, and does what it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vanillayolo.deploy.rewrites import REWRITES, by_axis, by_threes, in_small_kernels, rewritten, split_stride
from vanillayolo.nn import randomize_batchnorm
from vanillayolo.yolo.inference import raw_output, stock_model
from vanillayolo.yolo.model import VanillaDetectionModel


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def image(height: int, width: int) -> Tensor:
    return torch.rand(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def randomized(network: Any) -> Any:
    """Give every parameter random values, so that no bias of 0 and no identity hides a fault."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 0.5 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return randomize_batchnorm(network).double().eval()


@pytest.fixture(scope="module")
def merged(small_yaml: Any) -> Any:
    return randomized(VanillaDetectionModel(str(small_yaml), verbose=False)).fuse(verbose=False)


def largest_difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max())


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (32, 160)])
@pytest.mark.parametrize("name", REWRITES)
def test_a_network_computes_the_same(merged: Any, name: str, size: tuple[int, int]) -> None:
    x = image(*size)
    changed = rewritten(merged, [name])
    assert str(changed) != str(merged), "nothing was rewritten"
    expected = raw_output(merged, x)
    assert float(expected.std()) > 0.1  # alive
    assert largest_difference(expected, raw_output(changed, x)) < 1e-12


@pytest.mark.slow
def test_all_together_and_on_stock_networks() -> None:
    network = randomized(stock_model("yolo11n")).fuse(verbose=False)
    x = image(64, 96)
    changed = rewritten(network, REWRITES)
    assert largest_difference(raw_output(network, x), raw_output(changed, x)) < 1e-12


def test_the_network_itself_stays_as_it_is(merged: Any) -> None:
    before = str(merged)
    rewritten(merged, REWRITES)
    assert str(merged) == before


@pytest.mark.parametrize("bias", [True, False])
def test_a_wide_depthwise_becomes_three_of_few_taps(bias: bool) -> None:
    conv = nn.Conv2d(5, 5, 7, 1, 3, groups=5, bias=bias).double()
    conv.requires_grad_(False).weight.data = noise(*conv.weight.shape)
    parts = [m for m in in_small_kernels(conv).modules() if isinstance(m, nn.Conv2d)]
    assert [m.weight[0].numel() for m in parts] == [25, 21, 15]
    for size in ((1, 1), (3, 9), (12, 8)):
        assert largest_difference(conv(noise(2, 5, *size)), in_small_kernels(conv)(noise(2, 5, *size))) < 1e-12
    for other in (nn.Conv2d(5, 5, 5, 1, 2, groups=5), nn.Conv2d(4, 4, 7, 1, 3), nn.Conv2d(5, 10, 7, 1, 3, groups=5)):
        assert in_small_kernels(other) is other


@pytest.mark.parametrize(("channels", "size"), [(1, 4), (3, 4), (5, 8), (2, 6), (3, 12)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_patch_convolution_becomes_several_of_smaller_stride(channels: int, size: int, bias: bool) -> None:
    conv = nn.Conv2d(channels, 7, size, size, bias=bias).double()
    conv.requires_grad_(False).weight.data = noise(*conv.weight.shape)
    split = split_stride(conv)
    strides = [m.stride[0] for m in split.modules() if isinstance(m, nn.Conv2d)]
    assert max(strides) <= 3
    for cells in ((1, 1), (3, 2)):
        x = noise(2, channels, size * cells[0], size * cells[1])
        assert largest_difference(conv(x), split(x)) < 1e-12


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 8, 3, 2, 1),  # no patches
        nn.Conv2d(3, 8, 2, 2),  # small enough
        nn.Conv2d(3, 8, 4, 3, 1),  # the stem of the adaptive-pool variants
        nn.Conv2d(4, 8, 4, 4, groups=2),
        nn.Conv2d(3, 8, 4, 4, padding=2),
        nn.Conv2d(3, 8, 5, 5),  # an odd stride has no half
    ],
)
def test_other_convolutions_stay(conv: nn.Conv2d) -> None:
    assert split_stride(conv) is conv


@pytest.mark.parametrize("window", [5, 7, 13])
@pytest.mark.parametrize("change", [by_axis, by_threes])
def test_a_max_pool_is_the_same_up_to_the_border(change: Any, window: int) -> None:
    pool = nn.MaxPool2d(window, 1, window // 2)
    for size in ((4, 3), (10, 17)):
        x = noise(2, 3, *size) - 5  # below 0: padding with zeros would be seen
        assert torch.equal(pool(x), change(pool)(x))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(5, 2, 2), nn.MaxPool2d(5, 1, 1)])
def test_other_pools_stay(pool: nn.MaxPool2d) -> None:
    assert by_axis(pool) is pool
    assert by_threes(pool) is pool
