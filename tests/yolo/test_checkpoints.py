from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vanillayolo.errors import CheckpointError
from vanillayolo.yolo import VanillaYOLO
from vanillayolo.yolo.checkpoints import can_resume, check_training_form


def test_only_a_training_with_epochs_left_resumes() -> None:
    half = {"optimizer": {}, "epoch": 3, "train_args": {"epochs": 5}}
    assert can_resume(half)
    for less in (None, {}, half | {"epoch": 4}, half | {"epoch": -1}, half | {"optimizer": None}):
        assert not can_resume(less)


def test_a_merged_network_does_not_train(tiny_yaml: Path) -> None:
    model = VanillaYOLO(tiny_yaml).model
    check_training_form(model, "best.pt")
    with pytest.raises(CheckpointError, match=r"best\.pt: is merged"):
        check_training_form(model.fuse(verbose=False), "best.pt")


def test_weights_that_changed_on_disk_are_noticed(tiny_yaml: Path, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    VanillaYOLO(tiny_yaml).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40  # one bit of one weight
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged at"):
        VanillaYOLO(path)


def test_training_does_not_start_from_values_that_are_not_finite(
    tiny_yaml: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = VanillaYOLO(tiny_yaml)
    bad, name = tmp_path / "bad.pt", "model.0.stages.0.pair.norm1.running_var"
    model.model.state_dict()[name][3] = torch.nan
    model.save(bad)
    settings: dict[str, Any] = {"data": str(scenes), "epochs": 1, "imgsz": 64}
    good = VanillaYOLO(tiny_yaml)
    for start in (
        lambda: VanillaYOLO(bad).train(**settings),
        lambda: VanillaYOLO(bad).train(resume=True),
        lambda: good.train(pretrained=str(bad), **settings),
        lambda: good.train(resume=str(bad)),
        lambda: good.train(distill_model=str(bad), **settings),
        lambda: good.load(bad),
    ):
        with pytest.raises(CheckpointError, match=rf"bad\.pt.*: {name} holds 1 of \d+ values that are not finite"):
            start()
    assert {p.name for p in tmp_path.iterdir()} <= {"bad.pt", "yolo11n-tiny.yaml"}
