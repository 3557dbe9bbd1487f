from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vanillayolo.nn import DeepPair, SeriesActivation, randomize_batchnorm
from vanillayolo.nn.layers import HalvingMaxPool2d, checkpointed, init_weights, start_at_fan_in, start_at_identity

few = settings(max_examples=25, deadline=None)


def evaluated(module: nn.Module, seed: int = 0) -> nn.Module:
    """Return the module in float64 and evaluation mode, with random weights and batch normalisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return randomize_batchnorm(module, seed).double().eval()


def normalised(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Batch normalisation in evaluation mode, spelled out."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, var, weight, bias = (
        t.view(1, -1, 1, 1) for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (var + norm.eps).sqrt() * weight + bias


# ---------------------------------------------------------------------------------------------------------------------
# Series activation


@given(n=st.integers(0, 4), height=st.integers(1, 9), width=st.integers(1, 9), channels=st.integers(1, 5))
@few
def test_series_activation_is_the_papers_sum(
    assert_near: Callable[..., None], n: int, height: int, width: int, channels: int
) -> None:
    # equation 6: the sum over the neighbourhood of a_ij * relu(x at h+i, w+j), zero outside the map
    act = evaluated(SeriesActivation(channels, n))
    x = torch.randn(2, channels, height, width, dtype=torch.float64)
    padded = F.pad(x.relu(), (n, n, n, n))
    total = torch.zeros_like(x)
    for i in range(2 * n + 1):
        for j in range(2 * n + 1):
            total += act.conv.weight[:, 0, i, j].view(1, -1, 1, 1) * padded[..., i : i + height, j : j + width]
    # float64 sums of at most 81 terms in another order
    assert_near(act(x), normalised(total, act.norm), 1e-12)


def test_batchnorm_is_the_authors() -> None:
    # weights trained at eps 1e-6 are another function at torch's 1e-5
    modules = [*SeriesActivation(8).modules(), *DeepPair(8, 8).modules()]
    assert {m.eps for m in modules if isinstance(m, nn.BatchNorm2d)} == {1e-6}


def test_kernels() -> None:
    assert SeriesActivation(4).conv.kernel_size == (7, 7)
    assert SeriesActivation(4, 0).conv.kernel_size == (1, 1)
    assert SeriesActivation(4, 4).conv.weight.shape == (4, 1, 9, 9)
    assert SeriesActivation(4).conv.bias is None


# ---------------------------------------------------------------------------------------------------------------------
# Deep pair


@given(slope=st.floats(0, 1), norm_last=st.booleans())
@few
def test_between_the_convolutions_is_the_papers_mixture(
    assert_near: Callable[..., None], slope: float, norm_last: bool
) -> None:
    # equation 1: A'(x) = (1 - lambda) * A(x) + lambda * x, with A the ReLU
    pair = evaluated(DeepPair(5, 7, norm_last=norm_last))
    pair.negative_slope = slope
    x = torch.randn(2, 5, 6, 4, dtype=torch.float64)
    inner = normalised(pair.conv1(x), pair.norm1)
    want = pair.conv2((1 - slope) * inner.relu() + slope * inner)
    assert_near(pair(x), normalised(want, pair.norm2) if norm_last else want, 1e-12)  # float64 rounding


def test_slope_one_is_a_linear_map_and_slope_zero_is_not(assert_near: Callable[..., None]) -> None:
    pair = evaluated(DeepPair(4, 6))
    a, b = torch.randn(2, 1, 4, 5, 5, dtype=torch.float64)
    zero = torch.zeros_like(a)

    def excess() -> Tensor:
        return pair(a + b) - pair(zero) - ((pair(a) - pair(zero)) + (pair(b) - pair(zero)))

    pair.negative_slope = 1.0
    assert excess().abs().max() < 1e-12  # float64 rounding of values around 1
    pair.negative_slope = 0.0
    assert excess().abs().max() > 1e-2


def test_geometry_of_a_pair() -> None:
    stem = DeepPair(3, 16, kernel_size=4, stride=3, padding=1, mid_channels=8)
    assert stem(torch.zeros(2, 3, 32, 35)).shape == (2, 16, 11, 12)
    assert stem.conv1.out_channels == stem.conv2.in_channels == 8
    classifier = DeepPair(16, 5, mid_channels=5, norm_last=False)
    assert classifier(torch.zeros(2, 16, 1, 1)).shape == (2, 5, 1, 1)
    assert isinstance(classifier.norm2, nn.Identity)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_slope_survives_copies_and_is_in_no_state_dict(copied: Callable[[DeepPair], DeepPair]) -> None:
    pair = DeepPair(4, 4)
    pair.negative_slope = 0.375
    assert copied(pair).negative_slope == 0.375
    assert not any("slope" in key for key in pair.state_dict())


def test_printed_modules_show_slope_and_act_num() -> None:
    pair = DeepPair(4, 4)
    pair.negative_slope = 0.25
    assert "negative_slope=0.25" in repr(pair)
    assert "act_num=4" in repr(SeriesActivation(4, act_num=4))


# ---------------------------------------------------------------------------------------------------------------------
# Halving


@given(height=st.integers(1, 65), width=st.integers(1, 65))
@settings(max_examples=60, deadline=None)
def test_halving_is_adaptive_pooling_bit_for_bit(height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width) - 3  # mostly negative: a padding of zeros instead of -inf would show
    want = F.adaptive_max_pool2d(x, (math.ceil(height / 2), math.ceil(width / 2)))
    assert torch.equal(HalvingMaxPool2d()(x), want)


# ---------------------------------------------------------------------------------------------------------------------
# Initialisation, random statistics, saving memory


def test_initialisation_is_the_authors() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(DeepPair(64, 256), SeriesActivation(256))
    evaluated(module)
    init_weights(module)
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            # 256 * 49 weights at least: the standard error of the deviation is below 1 %
            assert m.weight.detach().std().item() == pytest.approx(0.02, rel=0.05)
            assert m.bias is None or not m.bias.any()
        elif isinstance(m, nn.BatchNorm2d):
            assert torch.equal(m.weight, torch.ones_like(m.weight))
            assert not m.bias.any()
            assert not m.running_mean.any()


def test_scaled_to_fan_in_a_convolution_keeps_the_variance_of_its_input() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(DeepPair(3, 256, kernel_size=4, stride=4, mid_channels=256), SeriesActivation(256))
    init_weights(module)
    before = copy.deepcopy(module[1].state_dict())
    start_at_fan_in(module)
    with torch.no_grad():
        x = torch.randn(8, 3, 64, 64)
        for conv in (module[0].conv1, module[0].conv2):
            x = conv(x)
            # over 256 channels of 48 weights the deviation of the variance is 1.3 %; the second adds its own
            assert x.var().item() == pytest.approx(1.0, rel=0.06)
            assert not conv.bias.any()
    for key, value in before.items():
        assert torch.equal(module[1].state_dict()[key], value), f"{key} of a depthwise convolution has moved"


@pytest.mark.parametrize("act_num", [0, 2, 3])
def test_begun_at_the_identity_a_series_activation_is_near_relu(act_num: int) -> None:
    torch.manual_seed(0)
    module = SeriesActivation(16, act_num)
    init_weights(module)
    noise = module.conv.weight.detach().clone()
    start_at_identity(module)
    x = torch.randn(2, 16, 9, 9)
    # ReLU and what the noise alone would have given, to rounding
    expected = torch.relu(x) + F.conv2d(torch.relu(x), noise, padding=act_num, groups=16)
    torch.testing.assert_close(module.conv(torch.relu(x)), expected)


def test_random_statistics_are_reproducible_and_leave_convolutions_alone() -> None:
    torch.manual_seed(0)
    fresh = DeepPair(8, 8)
    a, b, c = (randomize_batchnorm(copy.deepcopy(fresh), seed).state_dict() for seed in (0, 0, 1))
    for key, value in fresh.state_dict().items():
        assert torch.equal(a[key], b[key]), key
        if "norm" in key and "num_batches" not in key:
            assert not torch.equal(a[key], value), key
            assert not torch.equal(a[key], c[key]), key
        else:
            assert torch.equal(a[key], value), key
    assert all(bool((v > 0).all()) for k, v in a.items() if k.endswith("running_var"))


def test_random_statistics_where_there_are_none() -> None:
    randomize_batchnorm(nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU()))


def test_checkpointing_is_an_ordinary_step() -> None:
    torch.manual_seed(0)
    plain = randomize_batchnorm(nn.Sequential(DeepPair(4, 6), SeriesActivation(6))).train()
    lean = copy.deepcopy(plain)
    x = torch.randn(2, 4, 8, 8)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    plain(inputs[0]).square().mean().backward()
    checkpointed(lean, inputs[1]).square().mean().backward()
    assert torch.equal(inputs[0].grad, inputs[1].grad)
    for ours, theirs in zip(lean.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    for ours, theirs in zip(lean.buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs)  # the second computation is not a second batch
    assert [m.momentum for m in lean.modules() if isinstance(m, nn.BatchNorm2d)] == [0.1] * 3
