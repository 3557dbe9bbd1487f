"""What a plain ``import vanillayolo`` makes known: to torch our checkpoints' classes, to Ultralytics our scan and rows.

In restricted loading (``ULTRALYTICS_SAFE_LOAD=1``) torch refuses any class that nobody vouched for. Class paths are
part of the checkpoint format: they are never renamed.
"""

from __future__ import annotations

from typing import Any

import torch

from vanillayolo.nn.layers import DeepPair, HalvingMaxPool2d, SeriesActivation
from vanillayolo.nn.vanillanet import Classifier, Stage, VanillaNet

from . import datasets, entrances
from .classify import VanillaClassificationModel
from .model import VanillaDetectionModel, VanillaOBBModel, VanillaPoseModel, VanillaSegmentationModel
from .modules import TimmBackbone, VanillaBackbone, VanillaClassify, VanillaFeatures, VanillaStage

CHECKPOINT_CLASSES: list[Any] = [
    VanillaDetectionModel,
    VanillaSegmentationModel,
    VanillaPoseModel,
    VanillaOBBModel,
    VanillaClassificationModel,
    VanillaBackbone,
    VanillaStage,
    TimmBackbone,
    VanillaFeatures,
    VanillaClassify,
    VanillaNet,
    Stage,
    Classifier,
    DeepPair,
    SeriesActivation,
    HalvingMaxPool2d,
]

torch.serialization.add_safe_globals(CHECKPOINT_CLASSES)
datasets.install()
entrances.install([VanillaBackbone, VanillaStage, TimmBackbone, VanillaFeatures, VanillaClassify])
