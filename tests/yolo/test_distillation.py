from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from vanillayolo import VanillaYOLO
from vanillayolo.nn import get_negative_slope
from vanillayolo.yolo.inference import checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock YOLO11 of a few channels, as a checkpoint."""
    cfg = {**yaml_model_load("yolo11n.yaml"), "nc": 3, "scales": {"n": [0.33, 0.125, 256]}}
    model = DetectionModel(cfg, verbose=False)
    model.args, model.task = {}, "detect"
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    torch.save(checkpoint(model, {}, {"task": "detect", "imgsz": 64}), path)
    return path


def test_student_trains_deep_beside_its_teacher_and_ships_alone(
    teacher: Path, small_yaml: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    model = VanillaYOLO(small_yaml)
    settings = {**quick, "epochs": 3, "decay": 0.5, "distill_model": str(teacher)}
    model.train(project=str(tmp_path), name="distilled", **settings)
    with (tmp_path / "distilled" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["metrics/negative_slope"]) for row in rows] == pytest.approx([0, 0.5, 1])
    assert all(float(row["train/dis_loss"]) > 0 for row in rows)
    best = VanillaYOLO(model.trainer.best)
    assert get_negative_slope(best.model) == 1
    assert best.collapse(tmp_path / "deployed.pt").equality.worst.relative < 1e-4


def test_interrupted_distillation_goes_on(
    teacher: Path, small_yaml: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    def interrupt(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    model = VanillaYOLO(small_yaml)
    model.add_callback("on_model_save", interrupt)
    settings = {**quick, "epochs": 4, "decay": 0.75, "distill_model": str(teacher), "layer_decay": 0.6}
    with pytest.raises(KeyboardInterrupt):
        model.train(project=str(tmp_path), name="parts", **settings)
    resumed = VanillaYOLO(tmp_path / "parts" / "weights" / "last.pt")
    resumed.train(resume=True)
    with (tmp_path / "parts" / "results.csv").open() as file:
        slopes = [float(row["metrics/negative_slope"]) for row in csv.DictReader(file)]
    assert slopes == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=1e-4)
