from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics import __version__

from vanillayolo.errors import CheckpointError
from vanillayolo.yolo import VanillaYOLO
from vanillayolo.yolo.checkpoints import can_resume, check_state, check_training_form
from vanillayolo.yolo.kinds import KINDS

ASSETS = Path(__file__).parents[1] / "assets" / "0.1.0"


def test_only_a_training_with_epochs_left_resumes() -> None:
    half = {"optimizer": {}, "epoch": 3, "train_args": {"epochs": 5}}
    assert can_resume(half)
    for less in (None, {}, half | {"epoch": 4}, half | {"epoch": -1}, half | {"optimizer": None}):
        assert not can_resume(less)


STATE: dict[str, Any] = {
    **{"optimizer": {"state": {}, "param_groups": []}, "epoch": 3, "updates": 12, "best_fitness": 0.5, "stopper": {}},
    **{"train_args": {"epochs": 5, "imgsz": 64, "lr0": 0.01, "time": None, "save_dir": "x"}, "version": __version__},
}


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ({"epoch": -5}, "epoch=-5"),
        ({"epoch": "three"}, "epoch='three'"),
        ({"updates": "many"}, "updates='many'"),
        ({"best_fitness": "good"}, "best_fitness='good'"),
        ({"stopper": 7}, "stopper=7"),
        ({"optimizer": {"state": {}}}, "optimizer="),
        ({"train_args": None}, "train_args=None"),
        ({"train_args": {}}, "epochs=None"),
        ({"train_args": {"epochs": "ten"}}, "epochs='ten'"),
        ({"train_args": {"epochs": 5, "lr0": float("nan")}}, "lr0=nan"),
        ({"train_args": {"epochs": 5, "imgsz": "big"}}, "imgsz='big'"),
        ({"train_args": {"epochs": 5, "nonsense": 1}}, "'nonsense'"),
    ],
)
def test_a_training_state_that_was_edited_is_one_line(edit: dict[str, Any], told: str) -> None:
    check_state(STATE, "last.pt", KINDS)
    check_state({}, "best.pt", KINDS)  # a finished one has no state
    with pytest.raises(CheckpointError, match=r"^last\.pt: its training state was changed") as error:
        check_state(STATE | edit, "last.pt", KINDS)
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    can_resume(STATE | edit)  # never a traceback
    if "nonsense" in told:  # another version of Ultralytics has other keys
        check_state(STATE | edit | {"version": "8.4.100"}, "last.pt", KINDS)


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
        lambda: good.train(distill_model=str(bad), **settings),
        lambda: good.load(bad),
    ):
        with pytest.raises(CheckpointError, match=rf"bad\.pt.*: {name} holds 1 of \d+ values that are not finite"):
            start()
    interrupted = torch.load(ASSETS / "interrupted.pt", map_location="cpu", weights_only=False)
    (interrupted["ema"] or interrupted["model"]).state_dict()[name][0] = torch.inf
    torch.save(interrupted, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=rf"last\.pt: {name} holds 1 of"):
        good.train(resume=str(tmp_path / "last.pt"))
    assert {p.name for p in tmp_path.iterdir()} <= {"bad.pt", "last.pt", "yolo11n-tiny.yaml"}
