"""What serves each task: our model and trainer, Ultralytics' own validator; its predictor, told what does not open."""

from __future__ import annotations

from typing import Any

from ultralytics.models.yolo.classify import ClassificationValidator
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.models.yolo.obb import OBBValidator
from ultralytics.models.yolo.pose import PoseValidator
from ultralytics.models.yolo.segment import SegmentationValidator

from .classify import VanillaClassificationModel, VanillaClassificationTrainer
from .model import VanillaDetectionModel, VanillaOBBModel, VanillaPoseModel, VanillaSegmentationModel
from .sources import (
    VanillaClassificationPredictor,
    VanillaDetectionPredictor,
    VanillaOBBPredictor,
    VanillaPosePredictor,
    VanillaSegmentationPredictor,
)
from .trainer import VanillaOBBTrainer, VanillaPoseTrainer, VanillaSegmentationTrainer, VanillaTrainer

_ROWS: dict[str, tuple[Any, ...]] = {
    "detect": (VanillaDetectionModel, VanillaTrainer, DetectionValidator, VanillaDetectionPredictor),
    "segment": (
        VanillaSegmentationModel,
        VanillaSegmentationTrainer,
        SegmentationValidator,
        VanillaSegmentationPredictor,
    ),
    "pose": (VanillaPoseModel, VanillaPoseTrainer, PoseValidator, VanillaPosePredictor),
    "obb": (VanillaOBBModel, VanillaOBBTrainer, OBBValidator, VanillaOBBPredictor),
    "classify": (
        VanillaClassificationModel,
        VanillaClassificationTrainer,
        ClassificationValidator,
        VanillaClassificationPredictor,
    ),
}
#: As Ultralytics' ``task_map``.
ENGINES = {
    task: dict(zip(("model", "trainer", "validator", "predictor"), row, strict=True)) for task, row in _ROWS.items()
}


def stock_class(own: type[Any]) -> Any:
    """Return the class of Ultralytics that one of ours is made of."""
    return next(c for c in own.__mro__ if c.__module__.startswith("ultralytics."))
