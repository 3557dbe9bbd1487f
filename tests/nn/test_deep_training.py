from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vanillayolo.errors import UsageError
from vanillayolo.nn import (
    DeepPair,
    DeepTraining,
    SeriesActivation,
    get_negative_slope,
    reparameterize,
    set_negative_slope,
    vanillanet_variant,
)
from vanillayolo.nn.deep_training import DECAY_SHAPES

plans = st.builds(
    DeepTraining,
    decay=st.floats(0, 1),
    decay_shape=st.sampled_from(sorted(DECAY_SHAPES)),
    start=st.sampled_from([0.0, 0.3, 1.0]),
)


# ---------------------------------------------------------------------------------------------------------------------
# The slope as a function of the epoch


def test_linear_ramp_is_the_papers() -> None:
    # lambda = epoch / decay_epochs, held at 1: 100 of 300 epochs in the paper
    plan = DeepTraining(decay=1 / 3)
    assert plan.epoch_slope(0, 300) == 0.0
    assert plan.epoch_slope(50, 300) == 0.5
    assert plan.epoch_slope(99, 300) == 0.99
    assert plan.epoch_slope(100, 300) == 1.0
    assert plan.epoch_slope(299, 300) == 1.0
    assert plan.epoch_slope(1000, 300) == 1.0  # past the end, as in a run that was prolonged


def test_default_is_a_third_of_the_epochs() -> None:
    assert DeepTraining() == DeepTraining(decay=1 / 3, decay_shape="linear", start=0.0)
    assert DeepTraining().ramp_epochs(300) == 100


def test_cosine_ramp() -> None:
    plan = DeepTraining(decay=0.5, decay_shape="cosine")
    assert plan.epoch_slope(0, 40) == 0.0
    assert plan.epoch_slope(10, 40) == pytest.approx(0.5)
    assert plan.epoch_slope(5, 40) == pytest.approx(0.5 * (1 - math.cos(math.pi / 4)))
    assert plan.epoch_slope(20, 40) == 1.0


def test_start_is_where_the_ramp_begins() -> None:
    plan = DeepTraining(decay=0.5, start=0.4)
    assert plan.epoch_slope(0, 20) == 0.4
    assert plan.epoch_slope(5, 20) == pytest.approx(0.7)
    assert plan.epoch_slope(10, 20) == 1.0


def test_weights_of_slope_one_stay_there() -> None:
    plan = DeepTraining(decay=0.9, start=1.0)
    assert plan.ramp_epochs(50) == 0
    assert {plan.epoch_slope(epoch, 50) for epoch in range(50)} == {1.0}


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_decay_zero_turns_deep_training_off(start: float) -> None:
    assert {DeepTraining(decay=0, start=start).epoch_slope(e, 9) for e in range(9)} == {1.0}


@given(plans, st.integers(1, 400))
@settings(deadline=None)
def test_every_run_rises_and_ends_at_exactly_one(plan: DeepTraining, epochs: int) -> None:
    slopes = [plan.epoch_slope(epoch, epochs) for epoch in range(epochs)]
    assert slopes == sorted(slopes)
    assert all(plan.start <= slope <= 1 for slope in slopes)
    assert slopes[-1] == 1.0  # exactly: else the run could not be merged
    ramp = plan.ramp_epochs(epochs)
    assert all(slope == 1.0 for slope in slopes[ramp:])
    assert ramp <= max(epochs - 1, 0)
    if epochs == 1:
        assert slopes == [1.0]


@given(plans, st.floats(1e-6, 1e6), st.floats(-1e6, 1e6))
@settings(deadline=None)
def test_continuous_positions_stay_within_the_ramp(plan: DeepTraining, ramp: float, position: float) -> None:
    # runs limited by time give elapsed seconds instead of epochs
    slope = plan.slope(position, ramp)
    assert plan.start <= slope <= 1
    if position >= ramp:
        assert slope == 1.0
    if position <= 0:
        assert slope == plan.start


# ---------------------------------------------------------------------------------------------------------------------
# Bad settings


@pytest.mark.parametrize(
    ("given_settings", "named"),
    [
        ({"decay": -0.1}, "decay=-0.1"),
        ({"decay": 1.5}, "decay=1.5"),
        ({"decay": "half"}, "decay='half'"),
        ({"decay": True}, "decay=True"),
        ({"decay": float("nan")}, "decay=nan"),
        ({"decay": None}, "decay=None"),
        ({"start": 2}, "start=2"),
        ({"start": -1e-9}, "start=-1e-09"),
        ({"decay_shape": "square"}, "decay_shape='square'"),
        ({"decay_shape": None}, "decay_shape=None"),
        ({"decay_epochs": 100}, "decay_epochs"),
    ],
)
def test_bad_settings_are_named(given_settings: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as raised:
        DeepTraining.from_dict(given_settings)
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)


def test_bad_shape_lists_the_allowed_ones() -> None:
    with pytest.raises(UsageError, match="linear, cosine"):
        DeepTraining(decay_shape="square")


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_settings_are_the_defaults(nothing: dict[str, Any] | None) -> None:
    assert DeepTraining.from_dict(nothing) == DeepTraining()


def test_settings_from_a_yaml() -> None:
    plan = DeepTraining.from_dict({"decay": 0.25, "decay_shape": "cosine", "start": 0.5})
    assert plan == DeepTraining(0.25, "cosine", 0.5)


# ---------------------------------------------------------------------------------------------------------------------
# Applying it


def test_slope_reaches_every_pair_and_changes_nothing_else() -> None:
    net = vanillanet_variant("7", 1 / 64, num_classes=4)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    set_negative_slope(net, 0.25)
    pairs = [m for m in net.modules() if isinstance(m, DeepPair)]
    assert len(pairs) == 1 + 5 + 1  # stem, stages, classifier
    assert {pair.negative_slope for pair in pairs} == {0.25}
    assert get_negative_slope(net) == 0.25
    assert before.keys() == net.state_dict().keys()  # the slope is in no state dict: nothing averages it
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_the_smallest_slope_speaks_for_the_network() -> None:
    net = vanillanet_variant("5", 1 / 64, num_classes=4)
    net.stages[1].pair.negative_slope = 0.75
    assert get_negative_slope(net) == 0.75


def test_no_pair_no_slope() -> None:
    assert get_negative_slope(SeriesActivation(8)) is None
    assert get_negative_slope(reparameterize(vanillanet_variant("5", 1 / 64))) is None
    set_negative_slope(SeriesActivation(8), 0.5)  # nothing to set is no error


def test_whole_numbers_become_floats() -> None:
    pair = DeepPair(8, 8)
    set_negative_slope(pair, 1)
    assert type(pair.negative_slope) is float


@pytest.mark.parametrize("slope", [-0.01, 1.01, float("nan"), float("inf")])
def test_bad_slopes_are_refused(slope: float) -> None:
    net = vanillanet_variant("5", 1 / 64, negative_slope=0.5)
    with pytest.raises(UsageError, match="from 0"):
        set_negative_slope(net, slope)
    assert get_negative_slope(net) == 0.5


@pytest.mark.slow
def test_a_ramp_trains_and_the_result_merges() -> None:
    torch.manual_seed(0)
    net = vanillanet_variant("5", 1 / 32, num_classes=3).train()
    images, classes = torch.randn(12, 3, 32, 32), torch.arange(12) % 3
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    plan, epochs, losses = DeepTraining(decay=0.5), 60, []
    for epoch in range(epochs):
        set_negative_slope(net, plan.epoch_slope(epoch, epochs))
        loss = torch.nn.functional.cross_entropy(net(images), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(reparameterize(net)(images), net(images), rtol=1e-4, atol=1e-4)
