"""The adapter: the only package that imports Ultralytics."""

from .architecture import classifier_names, model_names, model_yaml
from .classify import VanillaClassificationModel, VanillaClassificationTrainer
from .interface import VanillaModel
from .model import VanillaDetectionModel
from .registration import CHECKPOINT_CLASSES
from .trainer import VanillaTrainer

__all__ = [
    "CHECKPOINT_CLASSES",
    "VanillaClassificationModel",
    "VanillaClassificationTrainer",
    "VanillaDetectionModel",
    "VanillaModel",
    "VanillaTrainer",
    "classifier_names",
    "model_names",
    "model_yaml",
]
