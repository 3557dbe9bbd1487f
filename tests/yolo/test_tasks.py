from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lean_gradients import assert_lean_is_plain
from small import slow_but
from vanillayolo import VanillaYOLO
from vanillayolo.data.scenes import SceneSettings
from vanillayolo.data.scenes.writing import write_scenes
from vanillayolo.deploy.export import check_task
from vanillayolo.errors import CheckpointError, DataError, UsageError
from vanillayolo.nn import get_negative_slope
from vanillayolo.yolo import model_yaml
from vanillayolo.yolo.architecture import dump_yaml, model_names, task_of
from vanillayolo.yolo.detectors import open_detector
from vanillayolo.yolo.engines import ENGINES, stock_class
from vanillayolo.yolo.memory import predict_memory
from vanillayolo.yolo.model import VanillaDetectionModel
from vanillayolo.yolo.modules import VanillaStage
from vanillayolo.yolo.tasks import TASKS

OTHERS = [task for task, row in TASKS.items() if row.finds_boxes and task != "detect"]


def small(task: str, shrink_yaml: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return shrink_yaml(model_yaml(f"yolo11n-vanillanet-5{TASKS[task].suffix}"), [16, 16, 24, 32])


def test_every_task_has_a_row_in_both_tables() -> None:
    assert list(ENGINES) == list(TASKS)
    for task, row in ENGINES.items():
        for own in row.values():
            assert stock_class(own).__module__.startswith("ultralytics.")
        assert not any(TASKS[task].suffix == TASKS[other].suffix for other in TASKS if other != task)


@pytest.mark.parametrize("task", OTHERS)
def test_names_make_networks_whose_branches_are_stages(task: str, shrink_yaml: Callable[..., Any]) -> None:
    names = model_names(task)
    assert len(set(names)) == len(model_names())
    for name in (names[0], names[1], names[-1]):
        cfg = model_yaml(name)
        assert task_of(cfg) == task
    head: Any = ENGINES[task]["model"](small(task, shrink_yaml), verbose=False).model[-1]
    assert type(head).__name__ == TASKS[task].head
    for attribute in TASKS[task].branches.values():
        assert all(isinstance(layer, VanillaStage) for branch in getattr(head, attribute) for layer in branch[:2])


@pytest.mark.slow
@pytest.mark.parametrize("task", slow_but("pose", OTHERS))
def test_lean_training_has_the_gradients_of_the_plain_one(task: str, shrink_yaml: Callable[..., Any]) -> None:
    """Neck and head computed twice: every gradient of every branch, at slope 0."""
    branch = ".".join(["model.18", TASKS[task].branches[[*TASKS[task].branches][-1]], "0.2.weight"])
    assert_lean_is_plain(ENGINES[task]["model"](small(task, shrink_yaml), verbose=False), branch)


@pytest.mark.slow
@pytest.mark.parametrize("task", OTHERS)
def test_a_task_trains_deep_validates_and_predicts(
    task: str, shrink_yaml: Callable[..., Any], quick: dict[str, Any], tmp_path: Path
) -> None:
    settings = SceneSettings(pictures=10, size=64, task=task, classes=2, objects=4)
    data = write_scenes(tmp_path / "scenes", settings, "yolo", 1)
    (tmp_path / "small.yaml").write_text(dump_yaml(small(task, shrink_yaml)))
    model = VanillaYOLO(tmp_path / "small.yaml")
    assert model.task == task
    model.train(epochs=2, decay=0.5, project=str(tmp_path), name="run", lean="max", **quick | {"data": str(data)})
    assert get_negative_slope(model.model) == 1.0
    best = VanillaYOLO(model.trainer.best)
    assert isinstance(best.model, VanillaDetectionModel)
    assert predict_memory(best.model, 64).image > 0
    metrics = best.val(data=str(data), imgsz=64, plots=False, verbose=False, project=str(tmp_path))
    assert hasattr(metrics, TASKS[task].metric)
    (result, *_) = best.predict(data.parent / "images" / "val", imgsz=64, conf=1e-6, verbose=False)
    found = {"segment": result.masks, "pose": result.keypoints, "obb": result.obb}[task]
    assert found is not None
    assert len(found) > 0


@pytest.mark.slow
def test_data_and_task_have_to_suit_each_other(tmp_path: Path, shrink_yaml: Callable[..., Any]) -> None:
    settings = SceneSettings(pictures=10, size=64, classes=2, objects=4)
    data = write_scenes(tmp_path / "scenes", settings, "yolo", 1)
    models = {task: tmp_path / f"{task}.yaml" for task in OTHERS}
    for task, words in (("segment", "needs a polygon"), ("obb", "needs four corners"), ("pose", "'kpt_shape'")):
        models[task].write_text(dump_yaml(small(task, shrink_yaml)))
        with pytest.raises(DataError, match=words):
            VanillaYOLO(models[task]).train(data=str(data))
    with pytest.raises(UsageError, match="made for task=obb"):
        VanillaYOLO(models["obb"], task="pose")
    with pytest.raises(UsageError, match="int8 of task=obb is for onnx, openvino, not for litert"):
        check_task("obb", 8, "litert", {})
    with pytest.raises(UsageError, match="int8 is for detectors; task=classify"):
        check_task("classify", 8, "onnx", {})
    with pytest.raises(CheckpointError, match="is there to segment"):
        open_detector("yolo11n-vanillanet-seg", ("detect",))
