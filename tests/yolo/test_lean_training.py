"""Lean training is a detector's default, its settings travel in the model's YAML, and old files still load."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from ultralytics.cfg import get_cfg

from vanillayolo import VanillaYOLO
from vanillayolo.errors import VanillaYOLOError
from vanillayolo.nn import Stage, VanillaNet, set_lean
from vanillayolo.yolo import VanillaDetectionModel, lean_training
from vanillayolo.yolo.detectors import training_network
from vanillayolo.yolo.lean_training import LeanTraining, has_bfloat16_instructions
from vanillayolo.yolo.memory import sample_batch, saved_bytes


def modes(model: nn.Module) -> set[str]:
    return {m.lean for m in model.modules() if isinstance(m, Stage)}


def kept(model: Any) -> int:
    model.args = get_cfg()
    return saved_bytes(model.train(), lambda: model.loss(sample_batch(96, 2)))


def test_a_detector_is_lean_out_of_the_box_and_a_network_is_not(tiny_cfg: dict[str, Any], tiny_yaml: Any) -> None:
    model = VanillaYOLO(tiny_yaml).model
    assert model.lean == "auto"
    assert modes(model) == {"auto"}
    assert modes(VanillaNet((8, 8), (2,))) == {"off"}
    plain = VanillaDetectionModel({**tiny_cfg, "lean_training": {"lean": "off"}}, verbose=False)
    assert modes(plain) == {"off"}
    assert kept(model) < 0.9 * kept(plain)  # the neck is most of so small a network


@pytest.mark.slow
def test_a_training_network_is_as_lean_as_its_settings(tiny_yaml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_training, "has_bfloat16_instructions", lambda: True)
    usual, float32, whole = (
        kept(training_network(tiny_yaml, settings))
        for settings in ({"epochs": 3}, {"bfloat16": False}, {"bfloat16": False, "lean": "off"})
    )
    assert usual < float32 < whole  # the first in bfloat16, as this CPU is said to have it


@pytest.mark.slow  # at full width
def test_networks_without_our_stages_are_trained_without_our_settings() -> None:
    for other in ("yolo11n", "yolo11n-timm-resnet18"):
        assert kept(training_network(other, {"bfloat16": False, "lean": "off"})) == kept(training_network(other, {}))


def test_settings_travel_in_the_yaml(tiny_cfg: dict[str, Any]) -> None:
    settings = {"lean": "max", "bfloat16": True}
    model = VanillaDetectionModel({**tiny_cfg, "lean_training": settings}, verbose=False)
    again = VanillaDetectionModel(model.yaml, verbose=False)
    for m in (model, again, copy.deepcopy(model)):
        assert (m.lean, modes(m), m.bfloat16) == ("max", {"max"}, True)


def test_yaml_reads_off_as_false() -> None:
    assert LeanTraining.from_dict({"lean": False}).lean == "off"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lean": "lots"}, "auto"),
        ({"lean": 0}, "auto"),
        ({"lean": True}, "auto"),
        ({"bfloat16": "yes"}, "true or false"),
        ({"bfloat16": 1}, "true or false"),
        ({"bf16": True}, "bfloat16"),
        ("max", "give keys with values"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(tiny_cfg: dict[str, Any], settings: Any, said: str) -> None:
    with pytest.raises(VanillaYOLOError, match=said) as error:
        VanillaDetectionModel({**tiny_cfg, "lean_training": settings}, verbose=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": False, "avx2": True}, False),
        ({}, False),
    ],
)
def test_bfloat16_by_instructions(
    capabilities: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch, tiny_cfg: dict[str, Any]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_bfloat16_instructions() is expected
    assert LeanTraining.from_dict({"bfloat16": "auto"}).wants_bfloat16 is expected
    model = VanillaDetectionModel({**tiny_cfg, "lean_training": {"bfloat16": "auto"}}, verbose=False)
    assert model.uses_bfloat16(torch.rand(1, 3, 64, 64)) is expected
    assert not model.uses_bfloat16(torch.rand(1, 3, 64, 64, device="meta"))  # elsewhere Ultralytics' amp decides


def test_one_constant_is_the_default(monkeypatch: pytest.MonkeyPatch, tiny_cfg: dict[str, Any]) -> None:
    assert VanillaDetectionModel(tiny_cfg, verbose=False).bfloat16 is lean_training.BFLOAT16
    assert "lean_training" not in VanillaDetectionModel(tiny_cfg, verbose=False).yaml


def test_checkpoints_from_before_lean_training_still_train(tiny_cfg: dict[str, Any]) -> None:
    model: Any = VanillaDetectionModel(tiny_cfg, verbose=False)
    for m in model.modules():
        m.__dict__.pop("lean", None)
    model.__dict__.pop("bfloat16", None)
    model.args = get_cfg()
    model.train().loss(sample_batch(96, 2))[0].sum().backward()
    assert modes(model) == {"off"}
    set_lean(model, "max")
    assert (model.lean, modes(model)) == ("max", {"max"})
