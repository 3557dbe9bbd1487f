"""Joining in the middle of a training changes the form of network, average and optimizer, and no function."""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vanillayolo import VanillaYOLO
from vanillayolo.deploy import collapse
from vanillayolo.errors import CheckpointError, MergeError, UsageError
from vanillayolo.nn import get_negative_slope, randomize_batchnorm, set_negative_slope
from vanillayolo.nn.deep_training import deep_pairs
from vanillayolo.nn.reparameterize import is_joined, join_pairs
from vanillayolo.yolo import VanillaDetectionModel
from vanillayolo.yolo.joining import join_training


def network(cfg: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return randomize_batchnorm(VanillaDetectionModel(cfg, verbose=False))


def groups_of(model: Any) -> list[dict[str, Any]]:
    """Return parameter groups as Ultralytics makes them: weights, normalisations, biases."""
    named = dict(model.named_parameters())
    norms = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    biases = [p for n, p in named.items() if n.endswith("bias")]
    weights = [p for n, p in named.items() if not n.endswith("bias") and n not in norms]
    return [
        {"params": weights, "lr": 0.01, "weight_decay": 0.1},
        {"params": [named[n] for n in sorted(norms)], "lr": 0.02},
        {"params": biases, "lr": 0.03},
    ]


def trained_optimizer(model: Any) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(groups_of(model))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    return optimizer


@pytest.mark.slow
def test_function_average_and_optimizer(tiny_cfg: dict[str, Any], assert_near: Callable[..., None]) -> None:
    model = network(tiny_cfg)
    optimizer = trained_optimizer(model)
    average = copy.deepcopy(model).eval()
    with torch.no_grad():
        for p in average.parameters():
            p.mul_(1.01)
    before = {"model": copy.deepcopy(model).double().eval(), "average": copy.deepcopy(average).double()}
    kept = {n: optimizer.state[p]["exp_avg"] for n, p in model.named_parameters() if ".pair." not in n}
    norms = {n: optimizer.state[p]["exp_avg"] for n, p in model.named_parameters() if ".pair.norm2." in n}
    assert norms
    count = len(join_training(model, average, optimizer).pairs)

    assert count == len(list(deep_pairs(model)))
    assert is_joined(model)
    assert is_joined(average)
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    for name, network_now in (("model", copy.deepcopy(model).eval()), ("average", average)):
        with torch.no_grad():
            # the product of the factors is stored in float32
            assert_near(copy.deepcopy(network_now).double()(x)[0], before[name](x)[0], 1e-5, name)
    held = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    assert len(held) == sum(len(g["params"]) for g in optimizer.param_groups)
    assert held.keys() == {id(p) for p in model.parameters()}  # none lost, none left over
    named = dict(model.named_parameters())
    for n, moment in (kept | norms).items():
        assert optimizer.state[named[n]]["exp_avg"] is moment
    assert {id(p) for p in optimizer.state} <= held.keys()
    new = [p for n, p in named.items() if ".pair.conv1." in n]
    assert all(p not in optimizer.state for p in new)
    assert {held[id(p)]["lr"] for p in new if p.dim() == 4} == {0.01}
    assert {held[id(p)]["lr"] for p in new if p.dim() == 1} == {0.03}

    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert {float(optimizer.state[p]["step"]) for p in new} == {1.0}
    assert float(optimizer.state[named["model.0.stem.act.conv.weight"]]["step"]) == 2.0


def test_refused_below_slope_1(tiny_cfg: dict[str, Any]) -> None:
    model = network(tiny_cfg)
    optimizer = trained_optimizer(model)
    set_negative_slope(model, 0.5)
    with pytest.raises(MergeError):
        join_training(model, copy.deepcopy(model), optimizer)
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in model.parameters()}


def test_the_state_of_pairs_is_told_from_that_of_a_joined_network(tiny_cfg: dict[str, Any]) -> None:
    joined, pairs = network(tiny_cfg), network(tiny_cfg)
    set_negative_slope(joined, 1.0)
    join_pairs(joined)
    for strict in (True, False):
        with pytest.raises(CheckpointError, match=r"^model\.0\.stem\.pair: the state has two convolutions"):
            joined.load_state_dict(pairs.state_dict(), strict=strict)
    pairs.load_state_dict(joined.state_dict())
    assert is_joined(pairs)


def watch(detector: VanillaYOLO) -> list[tuple[bool, bool]]:
    """Note after every epoch whether network and average are joined."""
    seen: list[tuple[bool, bool]] = []
    detector.add_callback("on_train_epoch_end", lambda t: seen.append((is_joined(t.model), is_joined(t.ema.ema))))
    return seen


@pytest.mark.slow
def test_a_training_joins_at_slope_1_and_ends_mergeable(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    detector = VanillaYOLO(small_yaml)
    seen = watch(detector)
    logged: list[tuple[float, float]] = []  # what loggers are shown
    names = ("metrics/negative_slope", "metrics/joined")
    detector.add_callback("on_fit_epoch_end", lambda t: logged.append(tuple(map(t.metrics.get, names))))
    detector.train(project=str(tmp_path), name="run", epochs=5, decay=0.4, join=True, **{**quick, "val": False})
    assert seen == [(False, False)] * 2 + [(True, True)] * 3
    assert logged[:5] == [(0, 0), (0.5, 0), (1, 1), (1, 1), (1, 1)]
    heading, *rows = (tmp_path / "run" / "results.csv").read_text().splitlines()
    assert heading.split(",")[-1] == "metrics/negative_slope"
    assert [float(row.split(",")[-1]) for row in rows] == [0, 0.5, 1, 1, 1]
    trainer = detector.trainer
    assert trainer.ema.updates == 10
    fresh = trainer.optimizer.state[trainer.model.model[0].stem.pair.conv1.weight]
    assert float(fresh["step"]) == 6  # two steps an epoch since it joined
    best = VanillaYOLO(trainer.best)
    assert is_joined(best.model)
    assert get_negative_slope(best.model) == 1
    assert best.model.yaml["lean_training"] == {"join": True}
    result = collapse(trainer.best, data=quick["data"], imgsz=64)
    assert result.equality is not None
    assert max(o.relative for o in result.equality.outputs) < 1e-4  # float32 against float64

    again = VanillaYOLO(trainer.best)
    seen = watch(again)
    again.train(project=str(tmp_path), name="tuned", epochs=2, **quick)  # goes on in the form it has
    assert seen == [(True, True)] * 2
    with pytest.raises(UsageError, match="only slope 1 is left"):
        VanillaYOLO(trainer.best).train(project=str(tmp_path), name="deep", epochs=2, decay=0.5, **quick)
    assert not (tmp_path / "deep").exists()
    with pytest.raises(CheckpointError, match="merged"):
        VanillaYOLO(result.checkpoint).train(epochs=1, **quick)


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [1, 2])  # last.pt before and after the joining
def test_interrupted_and_resumed_is_the_run_that_was_not(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path, epoch: int
) -> None:
    settings = {"epochs": 4, "decay": 0.5, "project": str(tmp_path), **quick}

    def interrupt(trainer: Any) -> None:
        if trainer.epoch == epoch:
            raise KeyboardInterrupt

    detector = VanillaYOLO(small_yaml)
    detector.add_callback("on_model_save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        detector.train(name="run", **settings)
    last = tmp_path / "run" / "weights" / "last.pt"
    assert is_joined(VanillaYOLO(last).model) == (epoch == 2)
    resumed = VanillaYOLO(last)
    seen = watch(resumed)
    resumed.train(resume=True)
    assert seen == [(True, True)] * (3 - epoch)
    with (tmp_path / "run" / "results.csv").open() as file:
        assert [float(row["metrics/negative_slope"]) for row in csv.DictReader(file)] == [0, 0.5, 1, 1]
    state = resumed.trainer.optimizer.state[resumed.trainer.model.model[0].stem.pair.conv1.weight]
    assert float(state["step"]) == 4  # the moments came along, or began where they would have


@pytest.mark.slow
def test_a_loss_that_is_no_number_while_joining_is_recovered_from_the_pairs(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    """Twice: in the epoch of joining, and where that is the first epoch of a resumed run."""
    settings = {**quick, "project": str(tmp_path), "name": "run", "epochs": 4, "decay": 0.5}
    joined: list[tuple[int, int]] = []

    def poison(trainer: Any) -> None:
        if trainer.epoch == 2:
            joined.append((trainer.epoch, sum(len(g["params"]) for g in trainer.optimizer.param_groups)))
            if len(joined) in {1, 3}:
                trainer.loss = trainer.loss * float("nan")
            elif len(joined) == 2:
                raise KeyboardInterrupt  # before the epoch is saved: last.pt is of pairs

    detector = VanillaYOLO(small_yaml)
    detector.add_callback("on_train_epoch_end", poison)
    with pytest.raises(KeyboardInterrupt, match=r"Epoch 2 is saved; go on with .*last\.pt resume"):
        detector.train(**settings)
    last = VanillaYOLO(tmp_path / "run" / "weights" / "last.pt")
    assert not is_joined(last.model)
    last.add_callback("on_train_epoch_end", poison)
    last.train(resume=True)
    assert len(joined) == 4
    assert len(set(joined)) == 1  # joined anew each time, every parameter once
    best = VanillaYOLO(last.trainer.best).model
    assert is_joined(best)
    assert all(value.isfinite().all() for value in best.state_dict().values())
    with last.trainer.csv.open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]


def test_settings(tiny_cfg: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="join"):
        VanillaDetectionModel({**tiny_cfg, "lean_training": {"join": "soon"}}, verbose=False)
