from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics import __version__

from vanillayolo import VanillaYOLO
from vanillayolo.errors import CheckpointError
from vanillayolo.nn.deep_training import deep_pairs
from vanillayolo.yolo.checkpoints import (
    can_resume,
    check_facts,
    check_finite,
    check_state,
    check_training_form,
)
from vanillayolo.yolo.kinds import KINDS

ASSETS = Path(__file__).parents[1] / "assets" / "0.1.0"


@pytest.fixture(scope="module")
def built(small_yaml: Path) -> Any:
    return VanillaYOLO(small_yaml).model


@pytest.fixture
def network(built: Any) -> Any:
    """A detector to be changed."""
    return copy.deepcopy(built)


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
        ({"scaler": 7}, "scaler=7"),
        ({"train_results": "x"}, "train_results='x'"),
        ({"train_args": {"epochs": 5, "optimizer": "Adaam"}}, "optimizer='Adaam': did you mean Adam"),
        ({"train_results": {"epoch": [1, 2], "loss": [1]}}, "train_results="),
        ({"optimizer": {"state": "x", "param_groups": []}}, "optimizer="),
        ({"optimizer": {"state": {}, "param_groups": [7]}}, "optimizer="),
        ({"optimizer": {"state": {}, "param_groups": [{"lr": float("nan")}]}}, "param_groups.0.lr is not finite"),
        ({"optimizer": {"state": {0: {"m": torch.tensor([torch.inf])}}, "param_groups": []}}, "state.0.m is not"),
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


def test_a_merged_network_does_not_train(network: Any) -> None:
    check_training_form(network, "best.pt")
    with pytest.raises(CheckpointError, match=r"best\.pt: is merged"):
        check_training_form(network.fuse(verbose=False), "best.pt")


def test_weights_that_changed_on_disk_are_noticed(tiny_yaml: Path, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    VanillaYOLO(tiny_yaml).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40  # one bit of one weight
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged at"):
        VanillaYOLO(path)


@pytest.mark.slow
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
    model.model.state_dict()[name][3] = -1.0
    with pytest.raises(CheckpointError, match="a variance below 0"):
        check_finite(model.model, "edited.pt")
    interrupted = torch.load(ASSETS / "interrupted.pt", map_location="cpu", weights_only=False)
    (interrupted["ema"] or interrupted["model"]).state_dict()[name][0] = torch.inf
    torch.save(interrupted, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=rf"last\.pt: {name} holds 1 of"):
        good.train(resume=str(tmp_path / "last.pt"))
    edited = torch.load(ASSETS / "interrupted.pt", map_location="cpu", weights_only=False)
    edited["train_args"]["freeze"] = 99
    torch.save(edited, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt: .* \(freeze=99, of 19 rows\)"):
        good.train(resume=str(tmp_path / "last.pt"))
    assert {p.name for p in tmp_path.iterdir()} <= {"bad.pt", "last.pt", "yolo11n-tiny.yaml"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("names", names) for names in (None, 7, "abc", {0: "a"}, {0: None, 1: "b"}, {1: "a", 2: "b"}, ["a"])),
        *(("stride", stride) for stride in (torch.zeros(3), "eight", 8, torch.tensor([8, torch.nan]))),
        ("yaml", "nc: 3"),
    ],
)
def test_facts_of_a_network_that_were_edited_are_told(network: Any, key: str, value: Any) -> None:
    check_facts(network, "best.pt")
    setattr(network, key, value)
    with pytest.raises(CheckpointError, match=rf"best\.pt: was changed \({key}=.*: must be"):
        check_facts(network, "best.pt")


def test_a_head_of_other_maps_is_told(network: Any) -> None:
    network.model[7].f = [-1, 99]
    with pytest.raises(CheckpointError, match=r"from of row 7=\[-1, 99\]: must be a whole number"):
        check_facts(network, "best.pt")
    network.model[7].f, kept = [-1, 2], network.save
    for network.save in (None, []):
        with pytest.raises(CheckpointError, match=r"save=.*: must be every row that another reads"):
            check_facts(network, "best.pt")
    network.save, network.model[-1].nl = kept, 2
    with pytest.raises(CheckpointError, match=r"levels of the head={2, 3}: must be one for each map"):
        check_facts(network, "best.pt")


def test_an_edited_slope_or_shape_is_told(network: Any) -> None:
    name, pair = next(iter(deep_pairs(network)))
    for slope in ("one", float("nan"), 7.0):
        pair.negative_slope = slope
        with pytest.raises(CheckpointError, match=f"slope of {name}="):
            check_facts(network, "best.pt")
    pair.negative_slope = 0.0
    check_facts(network, "best.pt")
    next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d)).weight.data = torch.zeros(1, 2, 3, 3)
    with pytest.raises(CheckpointError, match=r"shape of .*weight=.*must be"):
        check_facts(network, "best.pt")


def test_numbers_that_no_network_has_and_a_missing_layer_are_told(network: Any) -> None:
    norm = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    kept = norm.eps
    for norm.eps in (float("nan"), -1.0, "small", None):
        with pytest.raises(CheckpointError, match=r"eps of .*: must be a number above 0"):
            check_facts(network, "best.pt")
    norm.eps, weight = kept, norm.weight
    norm.weight = torch.nn.Parameter(weight.detach().to(torch.complex64))
    with pytest.raises(CheckpointError, match=r"type of .*complex64: must be real numbers"):
        check_facts(network, "best.pt")
    norm.weight = weight
    check_facts(network, "best.pt")
    del network.model[-1].dfl
    with pytest.raises(CheckpointError, match="dfl=None: must be a layer"):
        check_facts(network, "best.pt")


def test_what_is_no_network_of_ultralytics_is_told() -> None:
    with pytest.raises(CheckpointError, match="holds Sequential, no detector"):
        check_facts(torch.nn.Sequential(), "best.pt")
