from __future__ import annotations

import copy
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.cfg import get_cfg
from ultralytics.nn.distill_model import DistillationModel
from ultralytics.nn.tasks import ClassificationModel, DetectionModel, yaml_model_load

from vanillayolo import VanillaYOLO
from vanillayolo.errors import CheckpointError, UsageError
from vanillayolo.nn import get_negative_slope, set_lean, set_negative_slope
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


FAMILIES = ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n")


def small_student(small_yaml: Path) -> Any:
    model = VanillaYOLO(small_yaml).model
    model.args = get_cfg(overrides={"imgsz": 64, "dis": 6.0})
    return model.train()


def first_step(student: Any, teacher: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the distillation loss of one step on noise, and the student's gradients."""
    torch.manual_seed(1)
    both = DistillationModel(student_model=student, teacher_model=teacher).train()
    boxes = torch.tensor([[0.5, 0.5, 0.3, 0.3], [0.4, 0.4, 0.2, 0.2]])
    numbers = {"cls": torch.tensor([[0.0], [1.0]]), "bboxes": boxes, "batch_idx": torch.tensor([0.0, 1.0])}
    loss, parts = both.loss({"img": torch.rand(2, 3, 64, 64), **numbers})
    loss.sum().backward()
    assert all(p.grad is None for p in both.teacher_model.parameters())
    return float(parts["dis_loss"]), {n: p.grad for n, p in student.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_detectors_of_every_family_teach(small_yaml: Path, family: str) -> None:
    # 80 classes against the student's 3: what is compared are the maps that the heads take
    teacher = DetectionModel(yaml_model_load(f"{family}.yaml"), verbose=False)
    loss, gradients = first_step(small_student(small_yaml), teacher)
    assert 0 < loss < 100
    assert float(gradients["model.0.stem.pair.conv1.weight"].abs().max()) > 0


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("lean", ["auto", "max"])
def test_lean_students_have_the_same_gradients(small_yaml: Path, lean: str, float64: None) -> None:
    torch.manual_seed(0)
    student = small_student(small_yaml)
    teacher = DetectionModel(yaml_model_load("yolo11n.yaml"), verbose=False)
    found = []
    for mode in ("off", lean):
        network = copy.deepcopy(student)
        network.args = student.args
        set_lean(network, mode)
        set_negative_slope(network, 0.5)
        found.append(first_step(network, copy.deepcopy(teacher))[1])
    largest = max(float(g.abs().max()) for g in found[0].values())
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        # float64: in float32 rounding turns a ReLU or a maximum of the smallest maps over, and gradients with it
        assert float((gradient - found[1][name]).abs().max()) <= 1e-9 * largest, name


def test_teacher_of_ours_keeps_its_slope_and_stages_of_the_student_are_held(
    run: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    best, teacher = run / "weights" / "best.pt", run / "weights" / "epoch2.pt"  # of slope 1 and 0.5
    seen: list[tuple[float | None, float | None, int]] = []

    def note(trainer: Any) -> None:
        both = trainer.model
        slopes = (get_negative_slope(m) for m in (both.teacher_model, both.student_model))
        seen.append((*slopes, sum(p.requires_grad for p in both.teacher_model.parameters())))

    model = VanillaYOLO(best)
    model.add_callback("on_train_batch_end", note)
    settings = {**quick, "epochs": 1, "distill_model": str(teacher), "freeze_stages": "stem,stages.0", "lean": "max"}
    model.train(project=str(tmp_path), name="held", **settings)
    assert set(seen) == {(0.5, 1.0, 0)}
    before, after = (VanillaYOLO(f).model.model[0].state_dict() for f in (best, model.trainer.best))
    for name, value in before.items():
        if name.startswith(("stem.", "stages.0.")):
            assert torch.equal(value, after[name]), name
    assert not torch.equal(before["stages.2.pair.conv1.weight"], after["stages.2.pair.conv1.weight"])


def test_what_cannot_teach_is_told_in_one_line(small_yaml: Path, quick: dict[str, Any], tmp_path: Path) -> None:
    def saved(model: Any) -> Path:
        path = tmp_path / f"{len(model.model)}.pt"
        model.args, model.task = {}, "detect"
        torch.save(checkpoint(model, {}, {"task": "detect", "imgsz": 64}), path)
        return path

    (tmp_path / "damaged.pt").write_bytes(b"no checkpoint")
    four_levels = DetectionModel(yaml_model_load("yolov8n-p2.yaml"), verbose=False)
    for teacher, error, told in (
        (tmp_path / "missing.pt", CheckpointError, "no such file"),
        (tmp_path / "damaged.pt", CheckpointError, "not a loadable checkpoint"),
        (saved(four_levels), UsageError, "takes 4 maps, the student's 3"),
        (saved(ClassificationModel("yolo11n-cls.yaml", verbose=False)), UsageError, "no detection head"),
    ):
        with pytest.raises(error, match=told) as raised:
            VanillaYOLO(small_yaml).train(project=str(tmp_path), **{**quick, "distill_model": str(teacher)})
        assert "\n" not in str(raised.value)
    with pytest.raises(UsageError, match="only detectors are distilled"):
        VanillaYOLO("vanillanet-6-w0.03125-cls").train(data="x", distill_model="yolo11n.pt")


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
