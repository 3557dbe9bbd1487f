"""What starts, stops and restarts a training: the clock, interruptions, frozen layers, weights that cannot train."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vanillayolo import VanillaTrainer, VanillaYOLO
from vanillayolo.errors import CheckpointError, UsageError
from vanillayolo.nn import get_negative_slope

pytestmark = pytest.mark.slow


class Interrupted(Exception):
    pass


@pytest.fixture
def train(quick: dict[str, Any], tmp_path: Path) -> Callable[..., VanillaTrainer]:
    """``train(model, name, **settings)``: a quick training in ``tmp_path / name``; returns its trainer."""

    def run(model: VanillaYOLO | Path, name: str = "run", **settings: Any) -> VanillaTrainer:
        detector = model if isinstance(model, VanillaYOLO) else VanillaYOLO(model)
        detector.train(project=str(tmp_path), name=name, **{**quick, **settings})
        return detector.trainer

    return run


def slopes(trainer: VanillaTrainer) -> list[float]:
    with (Path(trainer.save_dir) / "results.csv").open() as file:
        return [float(row["metrics/negative_slope"]) for row in csv.DictReader(file)]


def slope_of(file: Path) -> float | None:
    return get_negative_slope(VanillaYOLO(file).model)


# -- runs by the clock


def test_timed_run_too_short_for_its_ramp_still_ends_at_slope_1(
    small_yaml: Path, train: Callable[..., VanillaTrainer]
) -> None:
    trainer = train(small_yaml, time=0.01 / 3600)  # over before the first step is done
    assert slopes(trainer) == sorted(slopes(trainer))
    assert slope_of(trainer.best) == 1


def test_timed_run_of_one_epoch_ends_at_slope_1(small_yaml: Path, train: Callable[..., VanillaTrainer]) -> None:
    trainer = train(small_yaml, time=1.0, epochs=1, decay=1.0)  # Ultralytics stops after the epoch, the hour unused
    assert slopes(trainer) == [1]
    assert slope_of(trainer.best) == 1


def test_timed_run_that_a_user_stops_stays_stopped(small_yaml: Path, train: Callable[..., VanillaTrainer]) -> None:
    model = VanillaYOLO(small_yaml)
    model.add_callback("on_train_epoch_end", lambda trainer: setattr(trainer, "stop", True))
    trainer = train(model, time=1.0)
    assert trainer.epoch == 0
    assert get_negative_slope(trainer.ema.ema) < 0.5


def test_timed_run_resumed_does_not_go_back(
    small_yaml: Path, train: Callable[..., VanillaTrainer], tmp_path: Path
) -> None:
    def interrupt(trainer: Any) -> None:
        if 0.1 < get_negative_slope(trainer.ema.ema) < 1:
            raise Interrupted

    model = VanillaYOLO(small_yaml)
    model.add_callback("on_model_save", interrupt)
    with pytest.raises(Interrupted):
        train(model, time=30 / 3600, decay=1.0)
    last = tmp_path / "run" / "weights" / "last.pt"
    reached = slope_of(last)
    seen: list[float] = []
    resumed = VanillaYOLO(last)
    resumed.add_callback("on_train_batch_end", lambda trainer: seen.append(get_negative_slope(trainer.model)))
    resumed.train(resume=True, time=4 / 3600)
    assert seen == sorted(seen)
    assert seen[0] >= reached
    assert slope_of(last) == 1


# -- resuming


def test_interrupted_and_resumed_has_the_slopes_of_a_run_in_one_go(
    small_yaml: Path, train: Callable[..., VanillaTrainer], tmp_path: Path
) -> None:
    def interrupt(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise Interrupted

    settings = {"epochs": 5, "decay": 0.6, "decay_shape": "cosine"}
    whole = train(small_yaml, "whole", **settings)
    model = VanillaYOLO(small_yaml)
    model.add_callback("on_model_save", interrupt)
    with pytest.raises(Interrupted):
        train(model, "parts", **settings)
    parts = VanillaYOLO(tmp_path / "parts" / "weights" / "last.pt")
    assert 0 < get_negative_slope(parts.model) < 1
    parts.train(resume=True)
    assert slopes(parts.trainer) == slopes(whole)
    assert slope_of(parts.trainer.best) == 1


def test_what_cannot_be_resumed_is_refused_and_no_other_run_is_taken(
    run: Path, small_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ultralytics resumes the latest run of the working folder where it does not find the one it is given.
    monkeypatch.chdir(run.parent)
    best = run / "weights" / "best.pt"
    before = (run / "results.csv").read_text()
    for model, resume in ((best, True), (small_yaml, True), (small_yaml, str(best)), (small_yaml, "missing.pt")):
        with pytest.raises(CheckpointError) as error:
            VanillaYOLO(model).train(resume=resume)
        assert "\n" not in str(error.value)
    assert (run / "results.csv").read_text() == before


# -- frozen layers


def test_frozen_backbone_of_a_finished_network_stays_as_it_was(run: Path, train: Callable[..., VanillaTrainer]) -> None:
    best = run / "weights" / "best.pt"
    trainer = train(best, epochs=2, freeze=1)
    assert slopes(trainer) == [1, 1]
    before, after = (VanillaYOLO(file).model.model for file in (best, trainer.best))
    for (name, old), new in zip(before[0].state_dict().items(), after[0].state_dict().values(), strict=True):
        assert torch.equal(old, new), name
    assert not all(torch.equal(old, new) for old, new in zip(before.parameters(), after.parameters(), strict=True))


def test_frozen_backbone_is_never_trained_deep(
    run: Path, small_yaml: Path, train: Callable[..., VanillaTrainer], tmp_path: Path
) -> None:
    assert slopes(train(small_yaml, "new", epochs=2, freeze=[0])) == [1, 1]
    with pytest.raises(UsageError, match=r"slope 0\.5"):
        train(run / "weights" / "epoch2.pt", "half", epochs=2, freeze=1)
    with pytest.raises(UsageError, match="freeze"):
        train(small_yaml, "asked", epochs=2, freeze=3, decay=0.5)
    assert not (tmp_path / "asked").exists()
    assert 0 in slopes(train(small_yaml, "neck", epochs=3, freeze=[5]))  # the backbone learns: deep training goes on


# -- settings and weights


def test_folded_network_is_refused_too(run: Path, quick: dict[str, Any]) -> None:
    model = VanillaYOLO(run / "weights" / "epoch2.pt")
    model.fuse()
    assert get_negative_slope(model.model) == 0.5  # only BN is folded, the pairs are still there
    with pytest.raises(CheckpointError, match="training form"):
        model.train(**quick)


def test_pretrained_carries_its_slope(run: Path, small_yaml: Path, train: Callable[..., VanillaTrainer]) -> None:
    best = run / "weights" / "best.pt"
    assert slopes(train(small_yaml, "given", epochs=2, pretrained=str(best))) == [1, 1]
    assert slopes(train(VanillaYOLO(small_yaml).load(best), "loaded", epochs=2)) == [1, 1]
    assert slopes(train(VanillaYOLO(best).reset_weights(), "anew", epochs=3)) == pytest.approx([0, 0.5, 1])


def test_settings_left_open_are_those_of_the_yaml(small_yaml: Path, quick: dict[str, Any], tmp_path: Path) -> None:
    settings = {**quick, "model": str(small_yaml), "project": str(tmp_path), "decay": None, "decay_shape": None}
    trainer = VanillaTrainer(overrides=settings)
    assert trainer.model["deep_training"] == {"decay": pytest.approx(1 / 3, abs=1e-6), "decay_shape": "linear"}
    assert trainer.args.compile is False


def test_several_datasets_are_trained_on_deep_one_by_one(
    small_yaml: Path, train: Callable[..., VanillaTrainer], scenes: Path, tmp_path: Path
) -> None:
    model = VanillaYOLO(small_yaml)
    metrics = model.train(
        data=[str(scenes)], epochs=2, decay=0.5, imgsz=64, batch=4, plots=False, verbose=False, project=str(tmp_path)
    )
    assert len(metrics) == 1
    found = list(tmp_path.rglob("best.pt"))
    assert [slope_of(file) for file in found] == [1]
    with next(tmp_path.rglob("results.csv")).open() as file:
        assert [float(row["metrics/negative_slope"]) for row in csv.DictReader(file)] == [0, 1]
