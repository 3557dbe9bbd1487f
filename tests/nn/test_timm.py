"""VanillaNet as timm's users expect a model to behave."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from golden_cases import Golden
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from small import slow_but
from vanillayolo.errors import MergeError, UsageError
from vanillayolo.nn import (
    VARIANTS,
    VanillaNet,
    get_negative_slope,
    is_merged,
    load_official_weights,
    randomize_batchnorm,
    reparameterize,
    set_negative_slope,
)

NAMES = [f"vanillanet_{name}" for name in VARIANTS]
SMALL = ["vanillanet_5", "vanillanet_7", "vanillanet_13_x1_5_ada_pool"]
names, small = pytest.mark.parametrize("name", slow_but(SMALL, NAMES)), pytest.mark.parametrize("name", SMALL)


def create(name: str, **kwargs: Any) -> Any:
    """Return timm's model at 1/64 of its width, with randomised batch normalisation."""
    torch.manual_seed(0)
    dims = VARIANTS[name.removeprefix("vanillanet_")].scaled(1 / 64)
    return randomize_batchnorm(timm.create_model(name, **{"dims": dims, "num_classes": 6, **kwargs})).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------------------------------------------------------------
# The registry

MERGED_MILLIONS = dict(  # the authors' README, ImageNet-1k
    zip(NAMES, [15.5, 32.5, 32.8, 37.1, 41.4, 45.7, 50.0, 54.3, 58.6, 127.8, 127.8], strict=True)
)
GIGA_MULTIPLY_ADDS = dict(zip(NAMES, [5.2, 6.0, 6.9, 7.7, 8.6, 9.4, 10.3, 11.1, 11.9, 26.5, 48.9], strict=True))


@pytest.mark.slow
@names
def test_full_width_costs_are_the_authors(name: str) -> None:
    with torch.device("meta"):  # no memory
        net = timm.create_model(name, merged=True).eval()
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, 3, 224, 224))
    assert is_merged(net)
    # both are printed with one decimal
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(MERGED_MILLIONS[name], abs=0.1)
    assert counter.get_total_flops() / 2e9 == pytest.approx(GIGA_MULTIPLY_ADDS[name], abs=0.1)


def test_listed() -> None:
    assert set(timm.list_models("vanillanet_*")) == set(NAMES)
    assert all(timm.is_model(name) for name in NAMES)


@names
def test_create(name: str, images: torch.Tensor) -> None:
    net = create(name)
    assert isinstance(net, VanillaNet)
    with torch.no_grad():
        logits = net(images)
        maps = net.forward_features(images)
        assert logits.shape == (2, 6)
        assert maps.shape[1] == net.num_features == net.head_hidden_size
        pooled = net.forward_head(maps, pre_logits=True)
        assert pooled.shape == (2, net.head_hidden_size)
        assert torch.equal(net.forward_head(maps), logits)


@names
def test_default_cfg_names_what_is_there(name: str) -> None:
    net = create(name)
    cfg, state = net.default_cfg, net.state_dict()
    assert f"{cfg['first_conv']}.weight" in state
    assert state[f"{cfg['first_conv']}.weight"].shape[1] == 3
    for layer in cfg["classifier"]:
        assert f"{layer}.weight" in state
        assert state[f"{layer}.weight"].shape[0] == 6
    assert {k.rpartition(".")[0] for k in state if k.startswith("head.")} == set(cfg["classifier"])
    pool = net.forward_features(torch.zeros(1, *cfg["input_size"])).shape[-2:]
    assert tuple(pool) == cfg["pool_size"]
    config = timm.data.resolve_data_config({}, model=net)
    assert config["input_size"] == (3, 224, 224)


@pytest.mark.parametrize(
    "kwargs", [{"num_classes": 9}, {"num_classes": 0}, {"in_chans": 1}, {}, {"features_only": True}]
)
def test_timms_own_loading(tmp_path: Any, kwargs: dict[str, Any]) -> None:
    # the first convolution is converted, a classifier of another size is left out
    source = create("vanillanet_5")
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    overlay = {"file": str(tmp_path / "weights.pth"), "num_classes": 6}
    net = timm.create_model(
        "vanillanet_5",
        pretrained=True,
        pretrained_cfg_overlay=overlay,
        **{"dims": VARIANTS["5"].scaled(1 / 64), "num_classes": 6, **kwargs},
    )
    loaded, state = net.state_dict(), source.state_dict()
    skipped = {"num_classes": "head.", "in_chans": "stem.pair.conv1.weight"}.get(next(iter(kwargs), ""), "nothing")
    for key, value in loaded.items():
        if not key.startswith(skipped):
            assert torch.equal(value, state[key.replace("stages_", "stages.")]), key


def test_timms_own_loading_of_the_authors_file(golden: Golden, tmp_path: Any) -> None:
    torch.save({"model_ema": golden.part("train_form.")}, tmp_path / "weights.pth")
    kwargs = {k: golden.settings[k] for k in ("dims", "strides", "act_num", "num_classes")}
    net = timm.create_model(
        "vanillanet_13_x1_5_ada_pool" if "ada_pool" in golden.settings else "vanillanet_5",
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "weights.pth"), "num_classes": kwargs["num_classes"]},
        **kwargs,
    ).eval()
    with torch.no_grad():
        assert torch.equal(net(golden.tensors["input"]), golden.network()(golden.tensors["input"]))


def test_weights_from_a_file_of_ours(tmp_path: Any, images: torch.Tensor) -> None:
    source = create("vanillanet_7")
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    net = timm.create_model(
        "vanillanet_7", dims=VARIANTS["7"].scaled(1 / 64), num_classes=6, checkpoint_path=str(tmp_path / "weights.pth")
    ).eval()
    with torch.no_grad():
        assert torch.equal(net(images), source(images))


# ---------------------------------------------------------------------------------------------------------------------
# Feature maps


@names
def test_features_only(name: str, images: torch.Tensor) -> None:
    backbone, net = create(name, features_only=True), create(name)
    with torch.no_grad():
        maps = backbone(images)
        want = net.features(images, range(1, len(net.feature_info)))
    assert len(maps) == len(net.stages)
    assert all(torch.equal(a, b) for a, b in zip(maps, want, strict=True))
    assert backbone.feature_info.channels() == [x.shape[1] for x in maps]
    assert backbone.feature_info.reduction() == [info["reduction"] for info in net.feature_info[1:]]


@small
@pytest.mark.parametrize("indices", [(0,), (1, 3), (0, 2, 3), (-1,), (-2, -1)])
def test_out_indices(name: str, indices: tuple[int, ...], images: torch.Tensor) -> None:
    backbone, net = create(name, features_only=True, out_indices=indices), create(name)
    with torch.no_grad():
        maps, every = backbone(images), net.features(images, range(len(net.feature_info)))
    assert len(maps) == len(indices)
    assert all(torch.equal(x, every[i]) for x, i in zip(maps, indices, strict=True))
    assert backbone.feature_info.channels() == [net.feature_info[i]["num_chs"] for i in indices]


@pytest.mark.parametrize("feature_cls", ["list", "dict", "hook", "getter"])
def test_every_way_of_timm_to_take_features(feature_cls: str, images: torch.Tensor) -> None:
    backbone, net = create("vanillanet_7", features_only=True, feature_cls=feature_cls, out_indices=(1, 3)), None
    net = create("vanillanet_7")
    with torch.no_grad():
        maps = backbone(images)
        maps = list(maps.values()) if isinstance(maps, dict) else maps
        want = net.features(images, (1, 3))
    assert all(torch.equal(a, b) for a, b in zip(maps, want, strict=True))


def test_features_only_state_loads(images: torch.Tensor) -> None:
    source = create("vanillanet_7", features_only=True, out_indices=(2, 4))
    other = timm.create_model(
        "vanillanet_7", features_only=True, out_indices=(2, 4), dims=VARIANTS["7"].scaled(1 / 64)
    ).eval()
    other.load_state_dict(source.state_dict())  # strict
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(other(images), source(images), strict=True))


@small
def test_forward_intermediates(name: str, images: torch.Tensor) -> None:
    net = create(name)
    with torch.no_grad():
        last, maps = net.forward_intermediates(images)
        every = net.features(images, range(len(net.feature_info)))
        assert torch.equal(last, net.forward_features(images))
        assert len(maps) == len(every)
        assert all(torch.equal(a, b) for a, b in zip(maps, every, strict=True))

        last, (one, three) = net.forward_intermediates(images, indices=[1, 3])
        assert torch.equal(last, every[-1])
        assert torch.equal(one, every[1])
        assert torch.equal(three, every[3])

        stopped, _ = net.forward_intermediates(images, indices=[0, 2], stop_early=True)
        assert torch.equal(stopped, every[2])
        final_two = net.forward_intermediates(images, indices=2, intermediates_only=True)
        assert all(torch.equal(a, b) for a, b in zip(final_two, every[-2:], strict=True))


def test_forward_intermediates_has_one_layout(images: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="NHWC"):
        create("vanillanet_5").forward_intermediates(images, output_fmt="NHWC")


def test_prune_intermediate_layers(images: torch.Tensor) -> None:
    net = create("vanillanet_7")
    with torch.no_grad():
        every = net.features(images, range(len(net.feature_info)))
        assert net.prune_intermediate_layers([1, 3]) == [1, 3]
        assert len(net.stages) == 3
        last, maps = net.forward_intermediates(images, indices=[1, 3])
        assert torch.equal(last, every[3])
        assert torch.equal(maps[0], every[1])
        assert torch.equal(net.forward_features(images), every[3])
    assert not any(p.numel() for p in net.head.parameters())


# ---------------------------------------------------------------------------------------------------------------------
# The classifier


@small
@pytest.mark.parametrize("form", [lambda net: net, reparameterize], ids=["training", "merged"])
def test_reset_classifier(name: str, form: Callable[[nn.Module], Any], images: torch.Tensor) -> None:
    net = form(create(name))
    with torch.no_grad():
        maps = net.forward_features(images)
        net.reset_classifier(11)
        assert net.num_classes == 11
        assert net(images).shape == (2, 11)
        net.reset_classifier(0)
        torch.testing.assert_close(net(images), maps.mean((2, 3)))
        net.reset_classifier(0, "")
        assert torch.equal(net(images), maps)
        net.reset_classifier(4, "avg")
        assert net(images).shape == (2, 4)
        net.reset_classifier(4, "")
        assert net(images).shape == (2, 4, *maps.shape[-2:])
    assert is_merged(net) == (form is reparameterize)


@small
def test_timms_own_verb_merges_or_refuses(name: str, images: torch.Tensor) -> None:
    net = create(name).double()
    merged = timm.models.reparameterize_model(net)
    assert is_merged(merged)
    assert not is_merged(net)
    assert merged.state_dict().keys() == reparameterize(net).state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(merged(images.double()), net(images.double()), rtol=0, atol=1e-12)
    set_negative_slope(net, 0.5)
    with pytest.raises(MergeError, match=r"slope 0\.5"):
        timm.models.reparameterize_model(net)


def test_reset_classifier_keeps_slope_dtype_and_mode() -> None:
    net = create("vanillanet_5").double().train()
    set_negative_slope(net, 0.25)
    net.reset_classifier(3)
    assert net.head.pair.negative_slope == get_negative_slope(net) == 0.25
    assert {p.dtype for p in net.head.parameters()} == {torch.float64}
    assert all(m.training for m in net.head.modules())
    assert net.get_classifier() is net.head.pair


def test_no_classifier(images: torch.Tensor) -> None:
    net = create("vanillanet_5", num_classes=0)
    with torch.no_grad():
        assert torch.equal(net(images), net.forward_head(net.forward_features(images), pre_logits=True))
    assert not [k for k in net.state_dict() if k.startswith("head.")]


def test_official_weights_after_create(images: torch.Tensor) -> None:
    source, net = create("vanillanet_5"), create("vanillanet_5", act_num=3)
    load_official_weights(net, source.state_dict())
    with torch.no_grad():
        assert torch.equal(net(images), source(images))


# ---------------------------------------------------------------------------------------------------------------------
# Training


@names
def test_every_parameter_gets_a_gradient(name: str, images: torch.Tensor) -> None:
    net = create(name, negative_slope=0.5).train()
    net(images).square().mean().backward()
    for key, p in net.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key


@small
def test_grad_checkpointing_by_timms_switch(name: str, images: torch.Tensor) -> None:
    plain = create(name, negative_slope=0.5).train()
    lean = copy.deepcopy(plain)
    lean.set_grad_checkpointing(True)
    for net in (plain, lean):
        net(images).square().mean().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(lean.parameters(), plain.parameters(), strict=True))


@names
def test_layer_groups(name: str) -> None:
    net = create(name)
    groups = group_parameters(net, net.group_matcher(coarse=False))
    named = [key for keys in groups.values() for key in keys]
    assert sorted(named) == sorted(key for key, _ in net.named_parameters())
    of = {key: group for group, keys in groups.items() for key in keys}
    stems = {of[key] for key in named if key.startswith("stem.")}
    stages = [{of[key] for key in named if key.startswith(f"stages.{i}.")} for i in range(len(net.stages))]
    assert all(len(group) == 1 for group in (stems, *stages))  # a pair and its activation share a rate
    order = [next(iter(group)) for group in (stems, *stages)]
    assert order == sorted(order)
    assert len(set(order)) == len(order)
    assert all(of[key] >= order[-1] for key in named if key.startswith("head."))


def test_layer_decay_falls_towards_the_stem() -> None:
    net = create("vanillanet_7")
    groups = param_groups_layer_decay(
        net, weight_decay=0.05, layer_decay=0.5, no_weight_decay_list=net.no_weight_decay()
    )
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    blocks = (net.stem, *net.stages)
    rates = [scale[id(block.pair.conv1.weight)] for block in blocks]
    assert all(b == pytest.approx(2 * a) for a, b in itertools.pairwise(rates))
    assert scale[id(net.head.pair.conv2.weight)] == 1.0
    for key, p in net.named_parameters():
        assert decay[id(p)] == (0.05 if p.ndim > 1 else 0.0), key
    optimizer = timm.optim.create_optimizer_v2(net, opt="adamw", lr=1e-3, layer_decay=0.6)
    net(torch.randn(2, 3, 64, 64)).mean().backward()
    optimizer.step()


# ---------------------------------------------------------------------------------------------------------------------
# Other forms of the same network


@small
@pytest.mark.parametrize(
    ("form", "slope"),
    [(nn.Module.eval, 0.3), (nn.Module.eval, 1.0), (reparameterize, 1.0)],
    ids=["slope_0.3", "slope_1", "merged"],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")  # torch announces the removal; timm still scripts
@pytest.mark.slow
def test_torchscript(name: str, form: Callable[[nn.Module], Any], slope: float, images: torch.Tensor) -> None:
    net = form(create(name, negative_slope=slope))
    scripted = torch.jit.script(net)
    with torch.no_grad():
        for x in (images, images[..., :65, :70]):  # any size, not only the first one seen
            torch.testing.assert_close(scripted(x), net(x), rtol=1e-5, atol=1e-6)  # fused float32 operations
    torch.testing.assert_close(torch.jit.trace(net, images)(images), net(images), rtol=1e-5, atol=1e-6)


@small
@pytest.mark.parametrize("form", [lambda net: net, reparameterize], ids=["training", "merged"])
@pytest.mark.slow
def test_torch_export(name: str, form: Callable[[nn.Module], Any], images: torch.Tensor) -> None:
    net = form(create(name, negative_slope=1.0))
    program = torch.export.export(net, (images,), strict=False)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), net(images), rtol=1e-5, atol=1e-6)  # float32 rounding


def test_channels_last(images: torch.Tensor) -> None:
    net = create("vanillanet_7")
    with torch.no_grad():
        want = net(images)
        got = net.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)  # float32 sums in another order
