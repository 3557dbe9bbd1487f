"""What a comparison would have seen: faults planted in a live network are, those in a dead one are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vanillayolo import VanillaYOLO
from vanillayolo.deploy.power import (
    FAULTS,
    Power,
    convolutions,
    doubts,
    kept_rows,
    measure_power,
    planted,
    row_outputs,
)
from vanillayolo.deploy.verification import TOLERANCES, Verification
from vanillayolo.deploy.verify import judge_of, surest
from vanillayolo.nn import set_negative_slope
from vanillayolo.yolo.inference import letterbox, raw_output, read_image
from vanillayolo.yolo.opened import example_images, open_checkpoint
from vanillayolo.yolo.outputs import Outputs
from vanillayolo.yolo.tasks import TASKS


def power_of(checkpoint: Path, source: Path, kind: str = "float32") -> tuple[Power, nn.Module, dict[str, Any]]:
    """Return the power of a comparison of a checkpoint's file at 64 px, and the network with its state before."""
    network = open_checkpoint(checkpoint).merged()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    files, where = example_images(None, source, 2)
    conf, x = surest(network, [letterbox(read_image(file), 64) for file in files])
    result = Verification("f.onnx", "f.pt", "onnx", kind, False, where, conf)
    return measure_power(network, x, judge_of(result, None)), network, before


@pytest.fixture
def untrained(small_yaml: Path, tmp_path: Path) -> Path:
    model = VanillaYOLO(small_yaml)
    set_negative_slope(model.model, 1.0)
    model.save(tmp_path / "untrained.pt")
    return tmp_path / "untrained.pt"


@pytest.mark.slow
def test_a_live_network_shows_a_hundredth_of_any_layer(lively: Path, scenes: Path) -> None:
    power, network, before = power_of(lively, scenes.parent / "images" / "val")
    assert power.layers == power.seen[FAULTS[0]] == len(convolutions(network)) > 40
    assert power.blind == []
    assert power.classes_swapped
    assert doubts(power, FAULTS[0], 1.0) == []
    assert all(
        torch.equal(value, before[key]) for key, value in network.state_dict().items()
    )  # nothing is left changed


@pytest.mark.slow
def test_a_dead_network_hides_whatever_stands_in_it(untrained: Path, scenes: Path) -> None:
    power, _, _ = power_of(untrained, scenes.parent / "images" / "val")
    assert power.share(FAULTS[0]) < 0.1
    assert len(power.blind) > 0.8 * power.layers
    allowed = TOLERANCES["float32"]
    (doubt,) = doubts(power, allowed.fault, allowed.share)
    assert f"of {power.layers} layers" in doubt
    assert power.blind[0] in str(power)


def test_rows_that_are_kept_give_what_they_gave(lively: Path) -> None:
    network = open_checkpoint(lively).merged()
    x = torch.rand(1, 3, 64, 64)
    wanted, outputs = raw_output(network, x), row_outputs(network, x)
    for count in range(len(outputs)):
        with kept_rows(network, outputs[:count]):
            assert torch.equal(raw_output(network, x), wanted)
    with kept_rows(network, outputs[:-1]):
        assert torch.equal(raw_output(network, torch.zeros_like(x)), wanted)  # only the head is computed
    assert not torch.equal(raw_output(network, torch.zeros_like(x)), wanted)


def test_faults_are_what_they_are_called() -> None:
    layer = nn.Conv2d(2, 3, 1)
    weight = layer.weight.detach().clone()
    heaviest = int(weight.flatten(1).norm(dim=1).argmax())
    with planted(layer, FAULTS[0]):
        torch.testing.assert_close(layer.weight, 1.01 * weight)
    with planted(layer, FAULTS[1]):
        assert [bool(row.any()) for row in layer.weight.flatten(1)] == [i != heaviest for i in range(3)]
    with planted(layer, FAULTS[2]):
        assert not layer.weight.any()
        assert layer.bias is not None
        assert not layer.bias.any()
    assert torch.equal(layer.weight, weight)


def test_the_two_surest_classes_change_places() -> None:
    raw = torch.zeros(1, 7, 2)
    raw[0, 4:, 0] = torch.tensor([0.1, 0.9, 0.5])
    swapped = Outputs(raw).with_classes_swapped().raw
    assert swapped[0, 4:, 0].tolist() == pytest.approx([0.1, 0.5, 0.9])
    of_classifier = Outputs(torch.tensor([[0.2, 0.7, 0.1]]), task=TASKS["classify"])
    assert of_classifier.with_classes_swapped().raw[0].tolist() == pytest.approx([0.7, 0.2, 0.1])


def test_a_large_network_has_faults_in_evenly_spaced_layers(lively: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanillayolo.deploy.power.BUDGET", 0)
    network = open_checkpoint(lively).merged()
    x = torch.rand(1, 3, 64, 64)
    power = measure_power(network, x, lambda wanted, changed: not torch.equal(wanted.raw, changed.raw))
    assert power.layers == 8
    assert raw_output(network, x).isfinite().all()
