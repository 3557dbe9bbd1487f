from __future__ import annotations

import copy
import re
from collections.abc import Callable

import pytest
import torch
from golden_cases import Golden
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from small import slow_but
from vanillayolo.errors import MergeError, UsageError
from vanillayolo.nn import (
    VARIANTS,
    DeepPair,
    SeriesActivation,
    VanillaNet,
    get_negative_slope,
    is_merged,
    randomize_batchnorm,
    reparameterize,
    set_negative_slope,
    vanillanet_variant,
)
from vanillayolo.nn.reparameterize import FOLD, fold, fold_pair, join_pairs, replace_modules

few = settings(max_examples=20, deadline=None)
variants = pytest.mark.parametrize("variant", slow_but(("5", "9", "13_x1_5_ada_pool"), VARIANTS))


def network(variant: str = "7", **kwargs: object) -> VanillaNet:
    """Return a narrow variant with randomised batch normalisation, in evaluation mode.

    The weights are widened from the authors' 0.02: at these widths the maps would shrink to the biases alone, and hide
    a wrong weight behind them.
    """
    torch.manual_seed(0)
    net = vanillanet_variant(variant, 1 / 32, num_classes=5, **kwargs)
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, nn.Conv2d):
                m.weight.mul_(10)
                if m.bias is not None:
                    m.bias.uniform_(-0.5, 0.5)
    return randomize_batchnorm(net).eval()


def state_of(net: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in net.state_dict().items()}


def same_state(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ---------------------------------------------------------------------------------------------------------------------
# The merge is exact


def test_merge_of_the_authors_weights(golden: Golden, assert_near: Callable[..., None]) -> None:
    with torch.no_grad():
        got = reparameterize(golden.network())(golden.tensors["input"])
    # float32: two roundings where the authors' merged network has others
    assert_near(got, golden.tensors["logits.deploy"], 1e-5)


@variants
def test_error_in_float64(variant: str, assert_near: Callable[..., None]) -> None:
    net = network(variant).double()
    merged = reparameterize(net)
    images = torch.randn(2, 3, 96, 96, dtype=torch.float64)
    everything = range(len(net.feature_info))
    with torch.no_grad():
        for i, (got, want) in enumerate(
            zip(merged.features(images, everything), net.features(images, everything), strict=True)
        ):
            assert_near(got, want, 1e-12, f"map {i}")  # float64 rounding through up to 12 layers
        assert_near(merged(images), net(images), 1e-12, "logits")


@pytest.mark.parametrize("act_num", range(6))
def test_error_in_float32_at_every_act_num(act_num: int, assert_near: Callable[..., None]) -> None:
    net = network("6", act_num=act_num)
    images = torch.randn(2, 3, 65, 70)
    with torch.no_grad():
        assert_near(reparameterize(net)(images), net(images), 1e-5)  # float32 rounding through 5 layers


@given(
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.integers(0, 2),
    norm_last=st.booleans(),
    eps=st.sampled_from([1e-6, 1e-3, 0.1]),
    bias=st.booleans(),
)
@few
def test_any_pair(
    assert_near: Callable[..., None],
    channels: tuple[int, int, int],
    kernel: int,
    stride: int,
    padding: int,
    norm_last: bool,
    eps: float,
    bias: bool,
) -> None:
    cin, mid, cout = channels
    pair = randomize_batchnorm(DeepPair(cin, cout, kernel, stride, padding, mid, norm_last)).double().eval()
    pair.norm1.eps = eps  # a network from elsewhere has another eps: it is read, not assumed
    if not bias:
        pair.conv1.bias = pair.conv2.bias = None
    x = torch.randn(2, cin, 11, 12, dtype=torch.float64)
    merged = reparameterize(pair)
    assert isinstance(merged, nn.Conv2d)
    with torch.no_grad():
        assert_near(merged(x), pair(x), 1e-12)  # float64 rounding


@given(channels=st.integers(1, 9), act_num=st.integers(0, 5))
@few
def test_any_activation(assert_near: Callable[..., None], channels: int, act_num: int) -> None:
    act = randomize_batchnorm(SeriesActivation(channels, act_num)).double().eval()
    x = torch.randn(2, channels, 7, 6, dtype=torch.float64)
    merged = reparameterize(act)
    assert [type(m) for m in merged] == [nn.ReLU, nn.Conv2d]
    with torch.no_grad():
        assert_near(merged(x), act(x), 1e-12)  # float64 rounding


def test_tiny_variances_do_not_break_the_fold(assert_near: Callable[..., None]) -> None:
    # a dead channel: variance 0, so the scale is 1 / sqrt(1e-6)
    pair = randomize_batchnorm(DeepPair(4, 4)).double().eval()
    pair.norm1.running_var[0] = 0.0
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        assert_near(reparameterize(pair)(x), pair(x), 1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# What comes out


@variants
def test_merged_form(variant: str) -> None:
    net = network(variant)
    before = state_of(net)
    merged = reparameterize(net)
    assert is_merged(merged)
    assert not is_merged(net)
    assert same_state(state_of(net), before)  # the training form is still there
    assert get_negative_slope(merged) is None
    assert not any(re.search("running_|num_batches", key) for key in merged.state_dict())
    assert {type(m) for m in merged.modules() if not list(m.children())} <= {
        nn.Conv2d,
        nn.MaxPool2d,
        nn.ReLU,
        nn.Identity,
        nn.Dropout,
        type(net.stages[1].pool),
    }
    assert merged.feature_info == net.feature_info


@variants
def test_merged_weights_load_into_a_network_built_merged(variant: str) -> None:
    merged = reparameterize(network(variant))
    other = vanillanet_variant(variant, 1 / 32, num_classes=5, merged=True).eval()
    other.load_state_dict(merged.state_dict())  # strict
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(other(images), merged(images))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_merged_weights_have_ordinary_strides(memory_format: torch.memory_format) -> None:
    # a 1x1 weight with channels-last strides counts as contiguous, and slows every eager run
    merged = reparameterize(network().to(memory_format=memory_format))
    for name, p in merged.named_parameters():
        assert p.stride() == torch.empty(p.shape).stride(), name
        assert p.storage_offset() == 0, name
        assert p.untyped_storage().nbytes() == p.numel() * p.element_size(), name  # no view of a larger tensor


def test_twice_is_once() -> None:
    once = reparameterize(network("13_x1_5_ada_pool"))
    twice = reparameterize(once)
    assert twice is not once
    assert same_state(state_of(once), state_of(twice))
    images = torch.randn(1, 3, 48, 50)
    with torch.no_grad():
        assert torch.equal(once(images), twice(images))
    with torch.no_grad():
        next(twice.parameters()).zero_()
    assert next(once.parameters()).any()  # a copy, not the same tensors


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_mode_and_gradients_are_kept(dtype: torch.dtype) -> None:
    net = network("5").to(dtype)
    net.stages[0].requires_grad_(False)
    merged = reparameterize(net)
    assert {p.dtype for p in merged.parameters()} == {dtype}
    assert not merged.stages[0].pair.weight.requires_grad
    assert merged.stages[1].pair.weight.requires_grad
    assert not any(m.training for m in merged.modules())
    assert all(m.training for m in reparameterize(net.train()).modules())


def test_half_weights_are_folded_in_float64(assert_near: Callable[..., None]) -> None:
    net = network("5").half()
    want = reparameterize(copy.deepcopy(net).double())
    for (name, p), q in zip(reparameterize(net).named_parameters(), want.parameters(), strict=True):
        assert torch.equal(p, q.half()), name  # one rounding, at the end


def test_pairs_inside_other_networks() -> None:
    model = nn.ModuleDict({"a": nn.Sequential(DeepPair(3, 4), nn.BatchNorm2d(4)), "b": nn.Conv2d(3, 4, 1)})
    merged = reparameterize(model)
    assert isinstance(merged["a"][0], nn.Conv2d)
    assert isinstance(merged["a"][1], nn.BatchNorm2d)  # not VanillaNet's: left as it is
    assert merged["b"] is not model["b"]


# ---------------------------------------------------------------------------------------------------------------------
# Or refused


@pytest.mark.parametrize("slope", [0.0, 0.5, 1 - 1e-12])
def test_below_one_is_refused_and_nothing_changes(slope: float) -> None:
    net = network("5")
    net.stages[1].pair.negative_slope = slope  # one of five is enough
    before = state_of(net)
    with pytest.raises(MergeError) as raised:
        reparameterize(net)
    message = str(raised.value)
    assert message.startswith(f"stages.1.pair has slope {slope:g}")
    assert "Train on" in message
    assert "\n" not in message
    assert same_state(state_of(net), before)
    assert not is_merged(net)
    assert net.stages[1].pair.negative_slope == slope


def test_a_single_pair_is_refused_too() -> None:
    pair = DeepPair(4, 4)
    pair.negative_slope = 0.5
    with pytest.raises(MergeError, match=r"slope 0\.5"):
        reparameterize(pair)


def test_norms_without_running_statistics_do_not_fold() -> None:
    conv = nn.Conv2d(3, 4, 1)
    for norm in (nn.BatchNorm2d(4, track_running_stats=False), nn.GroupNorm(2, 4)):
        with pytest.raises(MergeError, match=type(norm).__name__):
            fold(conv, norm)


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_what_a_merge_regardless_of_slope_would_do(slope: float) -> None:
    # the reason for the refusal: it would be another network
    net = network("5")
    images = torch.randn(2, 3, 64, 64)
    merged = reparameterize(net)
    set_negative_slope(net, slope)
    with torch.no_grad():
        want = net(images)
        assert (merged(images) - want).abs().max() > 1e-3 * want.abs().max()


# ---------------------------------------------------------------------------------------------------------------------
# Folding batch normalisation alone, at any slope


@given(slope=st.floats(0, 1), affine=st.booleans())
@few
def test_folded_pair_is_the_same_function(assert_near: Callable[..., None], slope: float, affine: bool) -> None:
    pair = DeepPair(3, 6, kernel_size=4, stride=4, mid_channels=5)
    if not affine:
        pair.norm2 = nn.BatchNorm2d(6, eps=1e-4, affine=False)
        pair.norm2.running_mean.uniform_(-1, 1)
        pair.norm2.running_var.uniform_(0.5, 2)
    else:
        randomize_batchnorm(pair)
    pair.double().eval().negative_slope = slope
    folded = fold_pair(pair)
    assert folded.negative_slope == slope
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert isinstance(pair.norm1, nn.BatchNorm2d)  # the original has its own still
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        assert_near(folded(x), pair(x), 1e-12)  # float64 rounding


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_folded_network_is_the_same_function_and_merges_on(slope: float, assert_near: Callable[..., None]) -> None:
    net = network("7").double()
    set_negative_slope(net, slope)
    folded = replace_modules(copy.deepcopy(net), FOLD)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert_near(folded(images), net(images), 1e-12)  # float64 rounding
        if slope == 1:
            assert_near(reparameterize(folded)(images), net(images), 1e-12)
        else:
            with pytest.raises(MergeError):
                reparameterize(folded)


# ---------------------------------------------------------------------------------------------------------------------
# Joined: one convolution that trains on


def joined_network(variant: str = "7") -> VanillaNet:
    return join_pairs(copy.deepcopy(network(variant).double()))  # type: ignore[return-value]


def test_joined_is_the_same_function_and_merges_to_the_same(assert_near: Callable[..., None]) -> None:
    net, joined = network("7").double(), joined_network()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert get_negative_slope(joined) == 1
    assert not is_merged(joined)
    assert sum(p.numel() for p in joined.parameters()) < sum(p.numel() for p in net.parameters())
    with torch.no_grad():
        assert_near(joined(images), net(images), 1e-12)  # float64 rounding
        assert_near(reparameterize(joined)(images), net(images), 1e-12)
        assert_near(replace_modules(copy.deepcopy(joined), FOLD)(images), net(images), 1e-12)
        assert_near(reparameterize(replace_modules(copy.deepcopy(joined), FOLD))(images), net(images), 1e-12)
    merged, want = reparameterize(joined).state_dict(), reparameterize(net).state_dict()
    assert merged.keys() == want.keys()


def test_joining_twice_is_joining_once() -> None:
    once = joined_network()
    assert same_state(state_of(join_pairs(copy.deepcopy(once))), state_of(once))


def test_a_joined_network_trains_and_then_merges(assert_near: Callable[..., None]) -> None:
    joined = joined_network().train()
    optimizer = torch.optim.SGD(joined.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        joined(torch.randn(2, 3, 64, 64, dtype=torch.float64)).square().mean().backward()
        assert all(p.grad is not None for p in joined.parameters())
        optimizer.step()
    joined.eval()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert_near(reparameterize(joined)(images), joined(images), 1e-12)


def test_only_slope_one_joins_and_a_joined_pair_stays_there() -> None:
    net = network("5")
    net.stages[1].pair.negative_slope = 0.5
    before = state_of(net)
    with pytest.raises(MergeError, match=r"stages\.1\.pair has slope 0\.5"):
        join_pairs(net)
    assert same_state(state_of(net), before)
    joined = joined_network()
    with pytest.raises(UsageError, match="only slope 1 is left"):
        set_negative_slope(joined, 0.5)
    set_negative_slope(joined, 1.0)


@pytest.mark.slow
def test_a_joined_network_scripts() -> None:
    joined = joined_network().float()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(torch.jit.script(joined)(images), joined(images))
