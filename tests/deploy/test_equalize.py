from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from vanillayolo.errors import UsageError
from vanillayolo.nn import VARIANTS, randomize_batchnorm
from vanillayolo.nn.equalize import LARGEST_SCALE, METHODS, bounded, equalize, find_links, map_ranges
from vanillayolo.yolo import VanillaDetectionModel, model_yaml
from vanillayolo.yolo.inference import raw_output
from vanillayolo.yolo.stock import to_stock

SHRUNK = {512: 16, 768: 24, 1024: 24, 1536: 24, 2048: 32, 3072: 32, 4096: 40, 6144: 40}


@pytest.fixture(scope="module")
def merged(shrink_yaml: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """``merged(variant, seed=0, **keys)``: a narrow merged detector of a variant, with random BN, in float64."""

    @functools.lru_cache
    def built(variant: str, seed: int, keys: tuple[tuple[str, Any], ...]) -> Any:
        cfg = shrink_yaml(model_yaml(f"yolo11n-vanillanet-{variant}"), [SHRUNK[d] for d in VARIANTS[variant].dims])
        cfg |= dict(keys)
        torch.manual_seed(seed)
        network = randomize_batchnorm(VanillaDetectionModel(cfg, verbose=False), seed)
        return network.eval().fuse(verbose=False).double()

    return lambda variant, seed=0, **keys: copy.deepcopy(built(variant, seed, tuple(keys.items())))


def images(seed: int = 0, size: int = 96) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("variant", ["5", *(pytest.param(v, marks=pytest.mark.slow) for v in ("7", "13_x1_5"))])
def test_the_function_stays(merged: Any, variant: str, method: str) -> None:
    network, seed = merged(variant), 0
    before, x = copy.deepcopy(network), images(seed)
    links = equalize(network, x[:1], method, [x])
    assert len(links) >= 2 * len(VARIANTS[variant].dims)  # in every stage, and behind it
    for size in (64, 96):
        a, b = raw_output(before, images(seed + 1, size)), raw_output(network, images(seed + 1, size))
        assert float((a - b).abs().max() / a.abs().max()) < 1e-12  # float64 rounds at 1e-16
    assert not torch.equal(before.model[0].stem.pair.weight, network.model[0].stem.pair.weight)


@pytest.mark.slow
def test_links_reach_through_pool_and_concatenation_into_neck_and_head(merged: Any) -> None:
    network = merged("5", head_stages=None)
    links = {link.writer: link for link in find_links(network, images()[:1])}
    inside = links["model.0.stages.1.pair"]
    assert [(r.name, r.first) for r in inside.readers] == [("model.0.stages.1.act.1", 0)]
    assert inside.relu
    tap = links["model.0.stages.0.act.1"]
    assert not tap.relu
    assert {r.name for r in tap.readers} == {"model.0.stages.1.pair", "model.11.pair"}
    neck_first = network.model[11].pair.in_channels - network.model[0].out_channels[0]
    assert {r.first for r in tap.readers} == {0, neck_first}
    assert all("cv3" not in name for name in links)  # behind SiLU no scale moves


@pytest.mark.slow  # at full width
@pytest.mark.parametrize(
    ("name", "stages", "readers"), [("yolo11s-vanillanet-6", 0, 0), ("yolo11n-vanillanet-6", 12, 24)]
)
def test_plain_neck_heads_and_stock_form_have_the_links_too(name: str, stages: int, readers: int) -> None:
    network: Any = randomize_batchnorm(VanillaDetectionModel(name, verbose=False)).eval().fuse(verbose=False)
    x = torch.rand(1, 3, 64, 64)
    ours, stock = find_links(network, x), find_links(to_stock(network), x)
    assert [(len(a.readers), a.relu) for a in ours] == [(len(b.readers), b.relu) for b in stock]
    assert sum(link.relu for link in ours) == 5 + 7 + stages  # every stage of backbone, neck and head
    head = f"model.{len(network.model) - 1}."
    found = [reader.name for link in ours for reader in link.readers if reader.name.startswith(head)]
    assert len(found) == 6 + readers  # two branches a level


@pytest.mark.slow
def test_ranges_of_maps_behind_relu_become_equal(merged: Any) -> None:
    """All but those of channels that are all but dead: such a one stays below the others."""
    network = merged("6")
    x = images()
    behind_relu = [link for link in find_links(network, x[:1]) if link.relu]
    before = map_ranges(network, behind_relu, [x])
    equalize(network, x[:1], "activations", [x])
    after = map_ranges(network, behind_relu, [x])
    compared = there = 0
    for name, ranges in before.items():
        alive = ranges > 0
        share = ranges / ranges[alive].log().mean().exp()
        inside = alive & (share < LARGEST_SCALE) & (share > 1 / LARGEST_SCALE)
        equal = after[name][inside]
        compared, there = compared + int(inside.sum()), there + int(alive.sum())
        assert float(equal.max() / equal.min()) < 1 + 1e-9
        assert (after[name][share <= 1 / LARGEST_SCALE] <= equal.max()).all()
    assert compared > 0.9 * there


@pytest.mark.slow
def test_weights_on_both_sides_meet(merged: Any) -> None:
    """Equation 11 of the paper: both sides of a link have the same range in every channel."""
    network = merged("5")
    pair, depthwise = network.model[0].stages[0].pair, network.model[0].stages[0].act[1]
    equalize(network, images()[:1], "weights", passes=60)  # neighbours move each other: it converges
    ratio = pair.weight.abs().flatten(1).amax(1) / depthwise.weight.abs().flatten(1).amax(1)
    assert float(ratio.max() / ratio.min()) < 1.05


def test_dead_channels_and_outliers_stay_in_bounds() -> None:
    assert bounded(torch.zeros(3)).tolist() == [1, 1, 1]
    scale = bounded(torch.tensor([0.0, 1e-9, 1.0, 1e9, float("inf")]))
    assert scale[0] == scale[4] == 1
    assert 1 / LARGEST_SCALE <= float(scale.min()) < float(scale.max()) <= LARGEST_SCALE
    # NNCF gives no row of a weight a scale below a hundredth of the largest: a dead channel must not take the others'
    assert LARGEST_SCALE < 100


class Branches(nn.Module):
    """A map that is read where no scale may go: an addition, and the output."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 1) for _ in range(3))
        self.grouped = nn.Conv2d(4, 4, 1, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        x = x + self.b(x)
        return self.c(self.grouped(self.c(x)))


def test_nothing_moves_where_a_reader_cannot_take_it() -> None:
    assert find_links(Branches().eval(), torch.rand(1, 4, 8, 8)) == []


def test_bad_settings(merged: Any) -> None:
    network = merged("5")
    with pytest.raises(UsageError, match="weights"):
        equalize(network, images()[:1], "weight")
    with pytest.raises(UsageError, match="calibration"):
        equalize(network, images()[:1], "activations")
    assert equalize(network, images()[:1], "off") == []
