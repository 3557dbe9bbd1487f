"""How many pictures an update is made of: Ultralytics' 64, fewer for small sets, what the user says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vanillayolo import VanillaTrainer, VanillaYOLO
from vanillayolo.yolo.detectors import train_detector
from vanillayolo.yolo.updates import UPDATES, fitting_nbs


@given(st.integers(1, 200_000), st.integers(1, 1000), st.integers(1, 256))
def test_an_update_is_of_the_batch_or_more_and_of_64_at_most_where_the_batch_is_smaller(
    pictures: int, epochs: int, batch: int
) -> None:
    nbs = fitting_nbs(pictures, epochs, batch)
    assert batch <= nbs <= max(64, batch)
    if batch < nbs:  # gathered: there are updates enough
        assert pictures * epochs / nbs > 0.9 * UPDATES


def test_known_sets() -> None:
    assert fitting_nbs(205, 40, 8) == 8  # BCCD
    assert fitting_nbs(118_287, 100, 16) == 64  # COCO
    assert fitting_nbs(1000, 100, 16) == 40
    assert fitting_nbs(205, 40, 128) == 128


@pytest.mark.slow
def test_a_small_set_has_an_update_every_batch_unless_nbs_is_given(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    settings = {key: value for key, value in quick.items() if key != "nbs"}
    for given_nbs, seen in (({}, 4), ({"nbs": 64}, 64)):
        model = VanillaYOLO(small_yaml)
        model.train(**settings, **given_nbs, epochs=1, project=str(tmp_path), name=f"ours{seen}", val=False)
        assert model.trainer.args.nbs == seen
        assert yaml.safe_load((tmp_path / f"ours{seen}" / "args.yaml").read_text())["nbs"] == seen


def test_processes_that_another_starts_choose_for_themselves(
    scenes: Path, small_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VanillaTrainer, "world_size", property(lambda self: 2, lambda self, value: None), raising=False)
    where = {"model": str(small_yaml), "data": str(scenes), "project": str(tmp_path), "batch": 4}
    given: list[dict[str, Any]] = []
    for nbs in ({}, {"nbs": 64}):
        # what Ultralytics writes into the file that each of them runs
        given.append(vars(VanillaTrainer(overrides={**where, **nbs}).args))
    assert "nbs" not in given[0]
    assert given[1]["nbs"] == 64


@pytest.mark.slow
def test_networks_of_others_have_as_many_where_they_are_compared(scenes: Path, tmp_path: Path) -> None:
    settings = {"imgsz": 64, "batch": 4, "plots": False, "verbose": False, "epochs": 1, "val": False}
    train_detector("yolo11n", str(scenes), tmp_path / "run", settings)
    assert yaml.safe_load((tmp_path / "run" / "args.yaml").read_text())["nbs"] == 4
