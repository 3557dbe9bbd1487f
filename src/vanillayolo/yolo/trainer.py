"""The detection trainer: deep training, and what training takes in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.models.yolo.obb import OBBTrainer
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.utils import LOGGER, RANK, colorstr
from ultralytics.utils.torch_utils import autocast

from vanillayolo.nn import set_negative_slope
from vanillayolo.nn.deep_training import deep_pairs
from vanillayolo.nn.reparameterize import is_joined

from .allocator import freed_memory_kept
from .architecture import resolve
from .deep_trainer import DeepTrainingMixin
from .families import Yaml
from .fine_tuning import check_stages
from .free_memory import free_bytes
from .memory import CPU_BATCH, Prediction, cpu_batch, predict_memory
from .merging import student
from .model import VanillaDetectionModel, VanillaOBBModel, VanillaPoseModel, VanillaSegmentationModel
from .updates import UpdatesMixin


class VanillaTrainer(UpdatesMixin, DeepTrainingMixin, DetectionTrainer):
    """Ultralytics' detection trainer with deep training.

    Args:
        cfg: Ultralytics' default settings.
        overrides: Ultralytics' arguments and ours (:data:`vanillayolo.yolo.sections.TRAIN_KEYS`).
        _callbacks: Ultralytics' callbacks.

    Attributes:
        network: class of the networks that it trains.
    """

    network: type[VanillaDetectionModel] = VanillaDetectionModel
    _prediction: Prediction | None = None
    _told = False

    def get_model(
        self, cfg: str | Yaml | None = None, weights: Any = None, verbose: bool = True
    ) -> VanillaDetectionModel:
        """Return the detector for this run, with the weights loaded where there are any."""
        cfg = self._with_settings(resolve(cfg or self.args.model), weights)
        facts = {"nc": self.data["nc"], "ch": self.data["channels"], "kpt_shape": self.data.get("kpt_shape")}
        model = self.network(cfg, **facts, verbose=verbose and RANK == -1)
        self.set_model_names_for_load(model)
        check_stages(self.args.freeze, model)
        self._load_weights(model, weights)
        return model

    # -- memory ------------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Train; on a CPU, freed memory stays in the process meanwhile (see :mod:`.allocator`)."""
        with freed_memory_kept(self.device.type == "cpu"):
            super().train()

    def largest_imgsz(self) -> int:
        """Return the largest side that ``imgsz`` and ``multi_scale`` make, pixels."""
        return math.ceil(self.args.imgsz * (1 + self.args.multi_scale) / self.stride) * self.stride

    @contextmanager
    def _first_slope(self) -> Iterator[Any]:
        """Give the network the slope of the run's first epoch meanwhile: at 1, as it was built, it would keep less."""
        network = student(self.model)
        slopes = [(pair, pair.negative_slope) for _, pair in deep_pairs(network)]
        if not is_joined(network):
            set_negative_slope(network, self.deep_training.epoch_slope(0, self.epochs))
        try:
            yield network
        finally:
            for pair, slope in slopes:
                pair.negative_slope = slope

    def predict_memory(self, labels: list[Any]) -> Prediction:
        """Predict, once, what training takes with the settings of this run and as many boxes as mosaics may have."""
        if self._prediction is None:
            boxes = max((len(label["cls"]) for label in labels), default=1) * 4
            with self._first_slope() as network, autocast(enabled=self.amp, device=self.device.type):
                imgsz = self.largest_imgsz()
                self._prediction = predict_memory(network, imgsz, self.args.optimizer, max(boxes, 1))
        return self._prediction

    def auto_batch(self) -> int:
        """Return the batch that ``batch=-1`` stands for: on GPUs what Ultralytics measures, else what is predicted.

        Ultralytics measures the model as it trains, lean. On a CPU it would take 16 whatever fits.
        """
        if self.device.type != "cpu":
            with self._first_slope():
                return int(super().auto_batch())
        dataset = self.build_dataset(self.data["train"], mode="train", batch=CPU_BATCH)
        free = free_bytes(self.device)
        prediction = self.predict_memory(dataset.labels)
        most = self.args.nbs if 0 < self.batch_size < 1 else CPU_BATCH
        batch = cpu_batch(prediction, free, len(dataset), self.batch_size, most)
        if not prediction.largest_batch(free, 1.0):
            LOGGER.warning(f"{prediction.summary(self.largest_imgsz(), batch, free)}: expect to run out of memory")
        return batch

    def _build_train_pipeline(self) -> None:
        """Build loaders and optimizer as Ultralytics does, and say what training will take, before it does."""
        super()._build_train_pipeline()
        if self._told or RANK not in {-1, 0}:
            return  # a smaller batch after running out of memory builds all this anew
        self._told = True
        prediction = self.predict_memory(self.train_loader.dataset.labels)
        batch = max(self.batch_size // max(self.world_size, 1), 1)
        text = prediction.summary(self.largest_imgsz(), batch, free_bytes(self.device))
        LOGGER.info(f"{colorstr('memory:')} lean={student(self.model).lean}, {text}")


class VanillaSegmentationTrainer(VanillaTrainer, SegmentationTrainer):
    """The same for masks."""

    network = VanillaSegmentationModel


class VanillaPoseTrainer(VanillaTrainer, PoseTrainer):
    """The same for key points."""

    network = VanillaPoseModel


class VanillaOBBTrainer(VanillaTrainer, OBBTrainer):
    """The same for turned boxes."""

    network = VanillaOBBModel
