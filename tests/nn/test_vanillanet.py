from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden_cases import Golden
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from small import slow_but
from vanillayolo.errors import UsageError
from vanillayolo.nn import (
    VARIANTS,
    SeriesActivation,
    VanillaNet,
    get_negative_slope,
    make_stage,
    randomize_batchnorm,
    reparameterize,
    set_negative_slope,
    vanillanet_variant,
)
from vanillayolo.nn.vanillanet import Classifier
from vanillayolo.nn.weights import translate_keys

NARROW = 1 / 64
variants = pytest.mark.parametrize("variant", slow_but(("5", "9", "13_x1_5_ada_pool"), VARIANTS))
slopes = pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
trained_slopes = pytest.mark.parametrize("slope", [0.25, 1.0])  # those of the training steps in the files


# ---------------------------------------------------------------------------------------------------------------------
# The same network as the authors'


@slopes
def test_every_map_and_logit_is_the_authors(golden: Golden, slope: float, assert_near: Callable[..., None]) -> None:
    net, images = golden.network(slope), golden.tensors["input"]
    with torch.no_grad():
        maps = net.features(images, range(len(net.feature_info)))
        # float32: the same operations in another order of summation
        for i, got in enumerate(maps):
            assert_near(got, golden.tensors[f"feature_{i}.lambda_{slope}"], 1e-5, f"map {i}")
        assert_near(net(images), golden.tensors[f"logits.lambda_{slope}"], 1e-5, "logits")


def check_training_step(
    assert_near: Callable[..., None], golden: Golden, slope: float, dtype: torch.dtype, share: float
) -> None:
    """Assert that one training step has the authors' loss, gradients and statistics, to ``share`` of the largest."""
    net = golden.network(slope).to(dtype).train()
    loss = net(golden.tensors["input"].to(dtype)).square().mean()
    loss.backward()
    assert_near(loss.double(), golden.tensors[f"train.loss.lambda_{slope}"].double(), share, "loss")

    want = {k: v.double() for k, v in translate_keys(golden.part(f"train.grad.lambda_{slope}.")).items()}
    got = {name: p.grad.double() for name, p in net.named_parameters()}
    assert got.keys() == want.keys()
    largest = max(float(g.abs().max()) for g in want.values())
    for name, gradient in got.items():
        if name.endswith("bias") and gradient.abs().max() < 1e-4 * largest:
            # A bias that a later batch normalisation takes out has no gradient but the rounding of the others'.
            assert (gradient - want[name]).abs().max() <= share * largest, name
        else:
            assert_near(gradient, want[name], share, name)

    buffers, after = dict(net.named_buffers()), translate_keys(golden.part(f"train.buffer_after.lambda_{slope}."))
    assert {n for n in buffers if "running" in n} == {n for n in after if "running" in n}
    for name, buffer in after.items():
        # the statistics pass no ill-conditioned division: float32 rounding of a mean
        assert_near(buffers[name].double(), buffer.double(), 1e-5, name)


@trained_slopes
def test_a_training_step_is_the_authors(golden: Golden, slope: float, assert_near: Callable[..., None]) -> None:
    # The last batch normalisation has two samples to normalise, which magnifies rounding: the authors' float32
    # gradients are themselves up to 7e-4 off; ours are in float64 here, so the margin does not depend on the machine.
    check_training_step(assert_near, golden, slope, torch.float64, 1e-3)


@pytest.mark.slow
@trained_slopes
def test_a_training_step_is_the_authors_in_float32(
    golden: Golden, slope: float, assert_near: Callable[..., None]
) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)  # as when the files were made: the sums are then in the same order
        with torch.no_grad():
            same = torch.equal(golden.network(slope)(golden.tensors["input"]), golden.tensors[f"logits.lambda_{slope}"])
        if not same:
            pytest.skip("this machine sums in another order than the one that made the files; float64 is tested")
        check_training_step(assert_near, golden, slope, torch.float32, 1e-5)
    finally:
        torch.set_num_threads(threads)


# ---------------------------------------------------------------------------------------------------------------------
# The variants

WIDTHS = {  # the paper's table, written out
    "5": [512, 1024, 2048, 4096],
    "6": [512, 1024, 2048, 4096, 4096],
    "7": [512, 512, 1024, 2048, 4096, 4096],
    "8": [512, 512, 1024, 2048, 2048, 4096, 4096],
    "9": [512, 512, 1024, 2048, 2048, 2048, 4096, 4096],
    "10": [512, 512, 1024, *[2048] * 4, 4096, 4096],
    "11": [512, 512, 1024, *[2048] * 5, 4096, 4096],
    "12": [512, 512, 1024, *[2048] * 6, 4096, 4096],
    "13": [512, 512, 1024, *[2048] * 7, 4096, 4096],
    "13_x1_5": [768, 768, 1536, *[3072] * 7, 6144, 6144],
    "13_x1_5_ada_pool": [768, 768, 1536, *[3072] * 7, 6144, 6144],
}
STRIDES = {
    "5": "222",
    "6": "2221",
    "7": "12221",
    "8": "122121",
    "9": "1221121",
    "10": "12211121",
    "11": "122111121",
    "12": "1221111121",
    "13": "12211111121",
    "13_x1_5": "12211111121",
    "13_x1_5_ada_pool": "12211111121",
}


@variants
def test_table(variant: str) -> None:
    row = VARIANTS[variant]
    assert list(row.dims) == WIDTHS[variant]
    assert "".join(map(str, row.strides)) == STRIDES[variant]
    assert len(row.strides) == int(variant.split("_")[0]) - 2  # stem and classifier make up the rest of the name
    assert row.adaptive_pool == variant.endswith("ada_pool")
    assert list(VARIANTS) == list(WIDTHS)


def test_widths_are_multiples_of_eight() -> None:
    assert VARIANTS["5"].scaled(1.0) == VARIANTS["5"].dims
    assert VARIANTS["5"].scaled(1 / 8) == (64, 128, 256, 512)
    assert VARIANTS["5"].scaled(1e-6) == (8, 8, 8, 8)
    assert all(d % 8 == 0 for d in VARIANTS["13_x1_5"].scaled(0.3))


@variants
@pytest.mark.parametrize("merged", [False, True])
def test_feature_info_is_what_comes_out(variant: str, merged: bool) -> None:
    net = vanillanet_variant(variant, NARROW, merged=merged).eval()
    height, width = (
        96,
        144,
    )  # divisible by 32 and by 24, the largest stride of the adaptive-pool variant, so both divide
    height, width = (96, 192) if not net.adaptive_pool else (height, width)
    with torch.no_grad():
        maps = net.features(torch.zeros(1, 3, height, width), range(len(net.feature_info)))
    assert len(maps) == len(VARIANTS[variant].dims)
    for info, x in zip(net.feature_info, maps, strict=True):
        stride = info["reduction"]
        assert tuple(x.shape) == (1, info["num_chs"], height // stride, width // stride), info
        net.get_submodule(info["module"])  # names a module
    assert [info["num_chs"] for info in net.feature_info] == list(VARIANTS[variant].scaled(NARROW))
    assert net.num_features == net.feature_info[-1]["num_chs"]


@given(
    variant=st.sampled_from(list(VARIANTS)),
    act_num=st.integers(0, 5),
    size=st.tuples(st.integers(40, 110), st.integers(40, 110)),
    num_classes=st.integers(0, 6),
    global_pool=st.sampled_from(["avg", ""]),
    in_chans=st.integers(1, 4),
    merged=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_any_size_act_num_and_classifier(
    variant: str,
    act_num: int,
    size: tuple[int, int],
    num_classes: int,
    global_pool: str,
    in_chans: int,
    merged: bool,
) -> None:
    net = vanillanet_variant(
        variant,
        NARROW,
        act_num=act_num,
        num_classes=num_classes,
        global_pool=global_pool,
        in_chans=in_chans,
        merged=merged,
    ).eval()
    with torch.no_grad():
        out = net(torch.randn(2, in_chans, *size))
        last = net.forward_features(torch.zeros(1, in_chans, *size))
    channels = num_classes or net.num_features
    if global_pool == "avg":
        assert tuple(out.shape) == (2, channels)
    else:
        assert tuple(out.shape) == (2, channels, *last.shape[-2:])
    assert out.isfinite().all()


def test_adaptive_pool_variant_has_the_authors_maps_at_224() -> None:
    with torch.device("meta"):  # full width, no memory
        net = vanillanet_variant("13_x1_5_ada_pool").eval()
        maps = net.features(torch.empty(1, 3, 224, 224), range(len(net.feature_info)))
    assert [x.shape[-1] for x in maps] == [75, 75, 38, *[19] * 7, 10, 10]
    assert [info["reduction"] for info in net.feature_info] == [3, 3, 6, *[12] * 7, 24, 24]


@variants
def test_no_pooling_depends_on_the_image_size(variant: str) -> None:
    adaptive = (nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)  # these stop exports at sizes that do not divide
    assert not any(isinstance(m, adaptive) for m in vanillanet_variant(variant, NARROW).modules())


@given(st.integers(24, 130), st.integers(24, 130))
@settings(max_examples=10, deadline=None)
def test_adaptive_pool_variant_halves_upwards(height: int, width: int) -> None:
    net = vanillanet_variant("13_x1_5_ada_pool", NARROW, num_classes=0).eval()
    with torch.no_grad():
        maps = net.features(torch.zeros(1, 3, height, width), [1, 2, 3, 10])
    for fine, coarse in itertools.pairwise(maps):
        assert tuple(coarse.shape[-2:]) == tuple(-(-size // 2) for size in fine.shape[-2:])


# ---------------------------------------------------------------------------------------------------------------------
# The constructor


def test_defaults_are_vanillanet_5() -> None:
    with torch.device("meta"):
        net, named = VanillaNet(), vanillanet_variant("5")
    assert {k: v.shape for k, v in net.state_dict().items()} == {k: v.shape for k, v in named.state_dict().items()}
    assert net.state_dict()["stages.0.act.conv.weight"].shape == (1024, 1, 7, 7)
    assert get_negative_slope(net) == 1.0


@pytest.mark.parametrize("first", [False, True])
def test_every_stage_may_have_its_own_series_and_merges(first: bool) -> None:
    net = VanillaNet((8, 8, 16), (1, 2), act_num=[0, 1, 3], num_classes=2, pool_first=first).double()
    assert [m.conv.kernel_size[0] for m in net.modules() if isinstance(m, SeriesActivation)] == [1, 3, 7]
    randomize_batchnorm(net.eval())
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    # float64: the merge reorders sums of some hundred terms
    torch.testing.assert_close(reparameterize(net)(x), net(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: VanillaNet(dims=(8, 8), strides=(2, 2)), "2 widths for 2 strides"),
        (lambda: VanillaNet(dims=(8, 8), strides=(2,), act_num=(1, 2, 3)), "3 numbers for 2 widths"),
        (lambda: VanillaNet(dims=(8, 8), strides=(3,)), "stride 3"),
        (lambda: VanillaNet(dims=(8, 8), strides=(2,), negative_slope=1.5), "1.5"),
        (lambda: VanillaNet(dims=(8, 8), strides=(2,), global_pool="max"), "'max'"),
        (lambda: make_stage(8, 8, 4, 3), "stride 4"),
        (lambda: Classifier(8, 8, "fast"), "'fast'"),
        (lambda: vanillanet_variant("14"), "'14'"),
    ],
)
def test_bad_arguments_are_named(make: Callable[[], Any], named: str) -> None:
    with pytest.raises(UsageError) as raised:
        make()
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)


def test_slope_of_the_constructor() -> None:
    assert get_negative_slope(vanillanet_variant("5", NARROW, negative_slope=0.25)) == 0.25


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_keep_slope_and_function(copied: Callable[[VanillaNet], VanillaNet]) -> None:
    net = randomize_batchnorm(vanillanet_variant("7", NARROW, num_classes=3, negative_slope=0.3)).eval()
    twin, images = copied(net), torch.randn(1, 3, 64, 64)
    assert get_negative_slope(twin) == 0.3
    with torch.no_grad():
        assert torch.equal(twin(images), net(images))
    set_negative_slope(twin, 1.0)
    assert get_negative_slope(net) == 0.3


def test_building_runs_no_forward() -> None:
    # a forward inside the constructor would leave batch normalisation with statistics of noise
    norms = [m for m in vanillanet_variant("6", NARROW).modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(int(m.num_batches_tracked) == 0 and not m.running_mean.any() for m in norms)


def test_dropout_is_only_for_training() -> None:
    net = randomize_batchnorm(vanillanet_variant("5", NARROW, num_classes=4, drop_rate=0.5)).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(images), net(images))
    pooled = torch.ones(2, net.num_features, 1, 1)
    assert not torch.equal(net.head.train().drop(pooled), pooled)


# ---------------------------------------------------------------------------------------------------------------------
# Feature maps


def test_features_in_the_order_asked_for_and_no_further() -> None:
    net = vanillanet_variant("7", NARROW).eval()
    run: list[int] = []
    for i, stage in enumerate(net.stages):
        stage.register_forward_hook(lambda *_, i=i: run.append(i))
    with torch.no_grad():
        third, stem = net.features(torch.zeros(1, 3, 64, 64), [3, 0])
    assert (third.shape[1], stem.shape[1]) == tuple(net.feature_info[i]["num_chs"] for i in (3, 0))
    assert run == [0, 1, 2]


@pytest.mark.parametrize("variant", ["7", "13_x1_5_ada_pool"])
@pytest.mark.parametrize("slope", [0.25, 1.0])
def test_grad_checkpointing_changes_nothing_but_memory(variant: str, slope: float) -> None:
    torch.manual_seed(0)
    plain = randomize_batchnorm(vanillanet_variant(variant, NARROW, num_classes=4, negative_slope=slope)).train()
    lean = copy.deepcopy(plain)
    lean.set_grad_checkpointing()
    images = torch.randn(2, 3, 64, 64)
    kept: dict[str, int] = {}
    outputs: dict[str, Tensor] = {}
    for name, net in (("plain", plain), ("lean", lean)):
        sizes: list[int] = []

        def pack(t: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(t.numel())
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            outputs[name] = net(images)
        kept[name] = sum(sizes)
        outputs[name].square().mean().backward()
    assert torch.equal(outputs["plain"], outputs["lean"])
    for (name, ours), theirs in zip(lean.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), name
    for (name, ours), theirs in zip(lean.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs), name
    assert kept["lean"] < 0.5 * kept["plain"]


def test_grad_checkpointing_can_be_turned_off_and_serves_features_too() -> None:
    net = vanillanet_variant("5", NARROW).train()
    net.set_grad_checkpointing()
    net.features(torch.randn(2, 3, 64, 64), [1, 3])[1].mean().backward()
    assert net.stem.pair.conv1.weight.grad is not None
    net.set_grad_checkpointing(False)
    assert not net.grad_checkpointing
