from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.optim import param_groups_layer_decay

from vanillayolo import VanillaYOLO
from vanillayolo.errors import UsageError
from vanillayolo.nn import vanillanet_variant
from vanillayolo.yolo.fine_tuning import FineTuning, freeze_entries, freezes_backbone


def test_factors_are_those_of_timm() -> None:
    net = vanillanet_variant("6", 1 / 64, num_classes=5)
    tuning = FineTuning(layer_decay=0.6)
    stages = len(net.stages)
    ours = {"stem": tuning.scale(0, stages), **{f"stages.{i}": tuning.scale(i + 1, stages) for i in range(stages)}}
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    for group in param_groups_layer_decay(net, layer_decay=0.6):
        for parameter in group["params"]:
            name = names[id(parameter)]
            wanted = next((factor for stage, factor in ours.items() if name.startswith(f"{stage}.")), 1.0)
            assert group["lr_scale"] == pytest.approx(wanted), name


def test_learning_rates_of_a_run_and_of_its_resume(run: Path, quick: dict[str, Any], tmp_path: Path) -> None:
    best = run / "weights" / "best.pt"
    seen: list[dict[str, float]] = []

    def rates(trainer: Any) -> None:
        names = {id(p): n for n, p in trainer.model.named_parameters()}
        rows = ((names[id(p)], g["initial_lr"]) for g in trainer.optimizer.param_groups for p in g["params"])
        seen.append(dict(rows))
        assert len(seen[-1]) == len(names)  # every parameter is in exactly one group
        assert {g["param_group"] for g in trainer.optimizer.param_groups} == {"bias", "weight", "bn"}

    def interrupt(trainer: Any) -> None:
        raise KeyboardInterrupt

    model = VanillaYOLO(best)
    model.add_callback("on_train_start", rates)
    model.add_callback("on_model_save", interrupt)
    settings = {**quick, "epochs": 2, "layer_decay": 0.5, "backbone_lr": 0.1, "freeze_stages": "stem,stages.0"}
    with pytest.raises(KeyboardInterrupt):
        model.train(project=str(tmp_path), name="tuned", **settings)
    assert seen[0]["model.0.stages.2.pair.conv1.weight"] == pytest.approx(0.002 * 0.1 * 0.5)
    assert seen[0]["model.0.stem.pair.conv1.weight"] == pytest.approx(0.002 * 0.1 * 0.5**4)
    assert seen[0]["model.5.cv1.conv.weight" if "model.5.cv1.conv.weight" in seen[0] else max(seen[0])] == 0.002
    resumed = VanillaYOLO(tmp_path / "tuned" / "weights" / "last.pt")
    resumed.add_callback("on_train_start", rates)
    resumed.train(resume=True)
    assert seen[1] == seen[0]
    before, after = (VanillaYOLO(f).model.model[0].state_dict() for f in (best, resumed.trainer.best))
    for name, value in before.items():
        held = name.startswith(("stem.", "stages.0."))
        if held:
            assert torch.equal(value, after[name]), name
    assert not torch.equal(before["stages.2.pair.conv1.weight"], after["stages.2.pair.conv1.weight"])


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("layer_decay", 0, "layer_decay"),
        ("layer_decay", 1.5, "layer_decay"),
        ("backbone_lr", "fast", "backbone_lr"),
        ("freeze_stages", "neck", "names like stem"),
        ("freeze_stages", "stages.9", "stages.9"),
    ],
)
def test_settings_that_do_not_exist(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path, key: str, value: object, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        VanillaYOLO(small_yaml).train(project=str(tmp_path), **{**quick, key: value})


def test_names_become_entries_of_freeze() -> None:
    assert freeze_entries(None, None) is None
    assert freeze_entries(2, "stem") == [0, 1, "0.stem"]
    assert freeze_entries([5], ["stages.1", "stages.1"])[:2] == [5, "0.stages.1"]
    assert freezes_backbone(["0.stages.1"])
    assert not freezes_backbone([5])
