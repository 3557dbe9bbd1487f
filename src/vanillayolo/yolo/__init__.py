"""The adapter: the only room that imports Ultralytics."""

from .architecture import model_names, model_yaml
from .interface import VanillaYOLO
from .model import VanillaDetectionModel
from .registration import CHECKPOINT_CLASSES
from .trainer import VanillaTrainer

__all__ = ["CHECKPOINT_CLASSES", "VanillaDetectionModel", "VanillaTrainer", "VanillaYOLO", "model_names", "model_yaml"]
