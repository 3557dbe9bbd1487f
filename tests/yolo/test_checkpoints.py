from __future__ import annotations

from pathlib import Path

import pytest

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
