"""Deep training on Ultralytics' engine: the slope of every epoch, on the model and on its average, and what it guards.

The slope is a function of (epoch, epochs, settings) alone and is applied at the start of each epoch, so a resumed
run, an epoch repeated after running out of memory and several processes agree without state of their own. ``time=``
runs do not know their epochs: there the slope follows the elapsed time, batch by batch.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK, colorstr
from ultralytics.utils.torch_utils import autocast, unwrap_model

from vanillayolo.errors import UsageError
from vanillayolo.nn import DeepTraining, get_negative_slope, set_negative_slope
from vanillayolo.nn.deep_training import deep_pairs

from .allocator import freed_memory_kept
from .architecture import Yaml, resolve
from .lean_training import LeanTraining
from .memory import CPU_BATCH, Prediction, cpu_batch, free_bytes, predict_memory
from .model import VanillaDetectionModel

#: Our training keys; they travel in the model's YAML, because Ultralytics' own arguments are a closed list.
TRAIN_KEYS = ("decay", "decay_shape", "lean", "bfloat16")
#: The key of the model's YAML that each of them is written under, and what reads it.
SECTIONS: dict[str, tuple[str, ...]] = {"deep_training": TRAIN_KEYS[:2], "lean_training": TRAIN_KEYS[2:]}

#: Share of a ``time=`` run after which the slope is 1 whatever ``decay`` says, so that what it ends with can be merged.
LONGEST_TIMED_RAMP = 0.9


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores(engine: Any = None) -> None:
    """Let torch use every core; Ultralytics leaves one idle. A callback, so it takes (and ignores) its engine.

    A larger OMP_NUM_THREADS than 1 is the user's own choice and is kept (Ultralytics sets 1 where there was none).
    """
    chosen = os.environ.get("OMP_NUM_THREADS", "1")
    threads = int(chosen) if chosen.isdigit() and int(chosen) > 1 else available_cores()
    device = getattr(engine, "device", None)
    if (device is None or torch.device(device).type == "cpu") and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def section(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the settings, among those given, that belong under ``name`` in the model's YAML."""
    return {key: settings[key] for key in SECTIONS[name] if settings.get(key) is not None}


def check_settings(settings: dict[str, Any], freeze: int | list[int] | None = None) -> None:
    """Raise UsageError for a value of ours that does not exist, or that asks to train a frozen backbone deep."""
    given = section(settings, "deep_training")
    DeepTraining.from_dict(given)
    LeanTraining.from_dict(section(settings, "lean_training"))
    if given.get("decay") and freezes_backbone(freeze):
        raise UsageError(
            f"freeze={freeze} holds the backbone, decay={given['decay']} trains it deep: give one of them."
        )


class VanillaTrainer(DetectionTrainer):
    """Ultralytics' detection trainer with deep training.

    Args:
        cfg: Ultralytics' default settings.
        overrides: Ultralytics' arguments and ours (:data:`TRAIN_KEYS`).
        _callbacks: Ultralytics' callbacks.
    """

    model: Any

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        overrides = dict(overrides or {})
        given = {key: overrides.pop(key, None) for key in TRAIN_KEYS}
        self.settings = {key: value for key, value in given.items() if value is not None}
        check_settings(self.settings, overrides.get("freeze"))  # before anything is written
        super().__init__(cfg, overrides, _callbacks)
        if self.resume and self.settings:
            LOGGER.warning(f"Resume ignores {sorted(self.settings)}, using checkpoint values.")
            self.settings = {}
        self._last_slope: float | None = None
        self._prediction: Prediction | None = None
        self._told = False
        for event, callback in CALLBACKS.items():
            if callback not in self.callbacks[event]:  # several processes: Ultralytics carries the parent's over
                self.add_callback(event, callback)
        if isinstance(self.model, (str, Path)) and not str(self.model).endswith(".pt"):
            self.model = self._with_settings(resolve(self.model), None)  # a dict reaches every process

    # -- building ----------------------------------------------------------------------------------------------------

    def _with_settings(self, cfg: Yaml, weights: Any) -> Yaml:
        """Return the model YAML with this run's deep and lean training written into it.

        Raises:
            UsageError: when the backbone is to be frozen at a slope below 1, which no training would mend.
        """
        settings = {**cfg.get("deep_training", {}), **section(self.settings, "deep_training")}
        slope = None if weights is None else get_negative_slope(weights)
        if freezes_backbone(self.args.freeze) and not self.resume:
            if slope is not None and slope < 1:
                raise UsageError(
                    f"freeze={self.args.freeze}: the backbone has slope {slope:g}; train it to slope 1 first."
                )
            settings["start"] = 1.0  # frozen weights are never trained for another slope than they have
        elif weights is not None and not self.resume:
            # Weights of slope 1 are a finished network: starting again from 0 would be another function. Asked for
            # explicitly (decay=...), the ramp starts from 0.
            settings["start"] = 0.0 if "decay" in self.settings or slope is None else slope
        cfg["deep_training"] = settings
        if lean := {**(cfg.get("lean_training") or {}), **section(self.settings, "lean_training")}:
            cfg["lean_training"] = lean
        return cfg

    def get_model(
        self, cfg: str | Yaml | None = None, weights: Any = None, verbose: bool = True
    ) -> VanillaDetectionModel:
        """Return the detector for this run, with the weights loaded where there are any."""
        cfg = self._with_settings(resolve(cfg or self.args.model), weights)
        model = VanillaDetectionModel(cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=verbose and RANK == -1)
        self.set_model_names_for_load(model)
        if weights:
            model.load(weights)
        return model

    def set_model_attributes(self) -> None:
        """Name the classes, and use every core."""
        super().set_model_attributes()
        use_all_cores(self)

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

    # -- the slope ---------------------------------------------------------------------------------------------------

    @property
    def deep_training(self) -> DeepTraining:
        """The settings of this run, from the model's YAML."""
        return DeepTraining.from_dict(student(self.model).yaml.get("deep_training"))

    def current_slope(self) -> float:
        """Return the slope that this moment of the training asks for."""
        schedule = self.deep_training
        if not self.args.time:
            return schedule.epoch_slope(self.epoch, self.epochs)
        if self.epoch + 1 >= self.epochs:
            return 1.0  # the last epoch that Ultralytics' estimate leaves room for
        elapsed = time.time() - self.train_time_start
        ramp = min(schedule.decay, LONGEST_TIMED_RAMP) * self.args.time * 3600
        slope = schedule.slope(elapsed, ramp)
        # The clock starts anew when a run is resumed; a slope never goes back.
        return max(slope, self._last_slope if self._last_slope is not None else self._resumed_slope())

    def _resumed_slope(self) -> float:
        return (get_negative_slope(self.ema.ema) or 0.0) if self.start_epoch > 0 else 0.0

    def apply_slope(self) -> None:
        """Set the slope on the model and on its average, and keep unfinished epochs out of best.pt and of patience."""
        slope = self.current_slope()
        before = self._previous_slope()
        for model in (student(self.model), student(self.ema.ema)):
            set_negative_slope(model, slope)
        if slope < 1 or before < 1:
            # A network of slope below 1 cannot ship, so its fitness must not be the one to beat: best.pt is the
            # latest until the first epoch at slope 1, then the best from there on.
            self.best_fitness = None
            self.stopper.best_fitness, self.stopper.best_epoch = 0.0, self.epoch
        self._last_slope = slope

    def _previous_slope(self) -> float:
        """Return the slope of the epoch before, known from the epoch alone but for ``time=`` runs."""
        if self.args.time:
            return self._last_slope if self._last_slope is not None else self._resumed_slope()
        return self.deep_training.epoch_slope(self.epoch - 1, self.epochs) if self.epoch > 0 else 1.0

    # -- what is written ---------------------------------------------------------------------------------------------

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write the epoch's row of results.csv with its slope ("metrics/" is what Ultralytics' plot shows)."""
        slope = get_negative_slope(student(self.model))
        super().save_metrics(metrics if slope is None else {**metrics, "metrics/negative_slope": slope})

    def save_model(self) -> Any:
        """Save the checkpoints, after making sure that the average has the slope of the model."""
        slope, averaged = (get_negative_slope(student(m)) for m in (self.model, self.ema.ema))
        if slope != averaged:
            raise RuntimeError(f"the averaged model has slope {averaged}, the model {slope}: not saved")
        return super().save_model()

    def final_eval(self) -> None:
        """Validate best.pt from its file, merged; say so where it could not be."""
        slope = get_negative_slope(student(self.model))
        if slope is not None and slope < 1 and RANK in {-1, 0}:
            LOGGER.warning(f"training ended at slope {slope:g}: its checkpoints run, but do not merge. Resume it.")
        super().final_eval()


def freezes_backbone(freeze: int | list[int] | None) -> bool:
    """Return whether Ultralytics' ``freeze`` (a number of layers, or a list of them) holds the backbone, layer 0."""
    return 0 in (range(freeze) if isinstance(freeze, int) else freeze or [])


def student(model: Any) -> Any:
    """Return the trained network inside wrappers for several processes, compilation and distillation."""
    model = unwrap_model(model)
    return getattr(model, "student_model", model)


def on_train_start(trainer: VanillaTrainer) -> None:
    """Say what the slope will do."""
    schedule = trainer.deep_training
    ramp = schedule.ramp_epochs(trainer.epochs)
    if RANK in {-1, 0}:
        start = f"{schedule.start:g}" if ramp or trainer.args.time else "1"
        until = f"{schedule.decay:g} of the time" if trainer.args.time else f"epoch {ramp + 1}"
        LOGGER.info(
            f"{colorstr('deep training:')} slope {start} to 1 ({schedule.decay_shape}) until {until}"
            if start != "1"
            else f"{colorstr('deep training:')} off, slope 1 throughout"
        )
    use_all_cores(trainer)


def on_train_epoch_start(trainer: VanillaTrainer) -> None:
    """Apply the epoch's slope."""
    trainer.apply_slope()


def on_train_batch_start(trainer: VanillaTrainer) -> None:
    """Follow the clock within the epoch, in ``time=`` runs alone."""
    if trainer.args.time:
        trainer.apply_slope()


def on_fit_epoch_end(trainer: VanillaTrainer) -> None:
    """Let a ``time=`` run that ends below slope 1 take one more step, at slope 1: else it could not merge."""
    if trainer.args.time and trainer.stop and (get_negative_slope(student(trainer.model)) or 0.0) < 1:
        out_of_time = time.time() - trainer.train_time_start > trainer.args.time * 3600
        out_of_epochs = trainer.epoch >= trainer.epochs  # by Ultralytics' estimate, which is low in a resumed run
        trainer.stop = not (out_of_time or out_of_epochs)  # whatever else stopped it, stands


CALLBACKS = {
    "on_train_start": on_train_start,
    "on_train_epoch_start": on_train_epoch_start,
    "on_train_batch_start": on_train_batch_start,
    "on_fit_epoch_end": on_fit_epoch_end,
    "on_val_start": use_all_cores,
}
