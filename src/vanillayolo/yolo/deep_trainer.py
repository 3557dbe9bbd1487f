"""Deep training on Ultralytics' engine: the slope of every epoch, on the model and on its average, and what it guards.

The slope is a function of (epoch, epochs, settings) alone and is applied at the start of each epoch, so a resumed
run, an epoch repeated after running out of memory and several processes agree without state of their own. ``time=``
runs do not know their epochs: there the slope follows the elapsed time, batch by batch.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK, colorstr

from vanillayolo.errors import UsageError
from vanillayolo.nn import DeepTraining, get_negative_slope, set_negative_slope
from vanillayolo.nn.reparameterize import is_joined

from .architecture import resolve
from .families import Yaml
from .fine_tuning import freeze_entries, freezes_backbone
from .joining import Joining, join_training
from .last_batch import LastBatchMixin
from .lean_training import LeanTraining
from .merging import student
from .optimizer import OptimizerMixin
from .pretrained import find_weights, fit_yaml, load_pretrained
from .sections import COMMON, check_form, check_own, keys_of, section
from .several import SeveralMixin, from_first
from .threads import use_free_cores

#: Share of a ``time=`` run after which the slope is 1 whatever ``decay`` says, so that what it ends with can be merged.
LONGEST_TIMED_RAMP = 0.9


class DeepTrainingMixin(OptimizerMixin, LastBatchMixin, SeveralMixin):
    """What makes a trainer of Ultralytics train deep, whatever the task; it stands before that trainer's class.

    Args:
        cfg: Ultralytics' default settings.
        overrides: Ultralytics' arguments and ours (:attr:`sections`).
        _callbacks: Ultralytics' callbacks.

    Attributes:
        sections: keys of the model's YAML that our keys travel under.
    """

    sections: tuple[str, ...] = COMMON
    model: Any

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        overrides = dict(overrides or {})
        stages = overrides.pop("freeze_stages", None)
        given = {key: overrides.pop(key, None) for name in self.sections for key in keys_of(name)}
        self.settings = {key: value for key, value in given.items() if value is not None}
        if stages:  # without, a resumed run keeps what its checkpoint holds
            overrides["freeze"] = freeze_entries(overrides.get("freeze"), stages)
        check_own(self.settings, overrides.get("freeze"))  # before anything is written
        super().__init__(cfg, overrides, _callbacks)
        if self.resume and self.settings:
            LOGGER.warning(f"Resume ignores {sorted(self.settings)}, using checkpoint values.")
            self.settings = {}
        self._last_slope: float | None = None
        self._joining: Joining | None = None
        for event, callback in CALLBACKS.items():
            if callback not in self.callbacks[event]:  # several processes: Ultralytics carries the parent's over
                self.callbacks[event].append(callback)
        if isinstance(self.model, (str, Path)) and not str(self.model).endswith(".pt"):
            self.model = self._with_settings(resolve(self.model), None)  # a dict reaches every process

    # -- building ----------------------------------------------------------------------------------------------------

    def _with_settings(self, cfg: Yaml, weights: Any) -> Yaml:
        """Return the model YAML with this run's settings of ours written into it.

        Raises:
            UsageError: when the backbone is to be frozen at a slope below 1, which no training would mend, or when
                there are official weights besides those of a checkpoint.
        """
        if "settings" not in vars(self):
            raise UsageError(
                f"trainer={type(self).__name__}: its __init__ passes vanillayolo's trainer by; call "
                "super().__init__(cfg, overrides, _callbacks) there."
            )
        self._write_sections(cfg, weights)
        settings = {**cfg.get("deep_training", {}), **section(self.settings, "deep_training")}
        slope = None if weights is None else get_negative_slope(weights)
        check_form(weights, self.settings.get("decay"))
        if weights is None and cfg.get("fine_tuning", {}).get("weights"):
            slope = 1.0  # official weights are finished ones
            settings["start"] = 0.0 if "decay" in self.settings else slope
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
        return cfg

    def _write_sections(self, cfg: Yaml, weights: Any) -> None:
        """Write all of our keys but deep training's: those of fine-tuning belong to one run, the others stay."""
        for name in self.sections:
            given = section(self.settings, name)
            if name == "fine_tuning":
                fresh = weights is not None and not self.resume  # a checkpoint's own are of the run that made it
                kept = {} if fresh else cfg.pop(name, None) or {}
                cfg.pop(name, None)
                if "weights" in given:
                    if fresh:
                        raise UsageError(
                            f"weights={given['weights']}: the model has weights already; start from a model name, "
                            "or omit weights."
                        )
                    given["weights"] = str(find_weights(given["weights"]))
                    cfg.update(fit_yaml(cfg, given["weights"]))
            else:
                kept = cfg.get(name) or {}
            if name != "deep_training" and (merged := {**kept, **given}):
                cfg[name] = merged

    def _load_weights(self, model: Any, weights: Any) -> None:
        """Load a checkpoint's weights, or else the official ones that the YAML names."""
        official = model.yaml.get("fine_tuning", {}).get("weights")
        if weights:
            model.load(weights)
        elif official and not self.resume:
            load_pretrained(model, official)

    def set_model_attributes(self) -> None:
        """Name the classes, and use every free core."""
        super().set_model_attributes()
        use_free_cores(self)

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
        # The clock starts anew when a run is resumed; a slope never goes back. Every process has a clock of its own.
        least = self._last_slope if self._last_slope is not None else self._resumed_slope()
        return float(from_first(max(slope, least)))

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

    # -- one convolution in place of two -------------------------------------------------------------------------------

    def join(self) -> None:
        """At slope 1 train each pair as the one convolution that it is from this epoch on, unless join=false.

        Not compiled: that holds on to the parameters that the network had.
        """
        network = student(self.model)
        wanted = LeanTraining.from_dict(network.yaml.get("lean_training")).join
        if not wanted or get_negative_slope(network) != 1 or is_joined(network):
            return
        if self.args.compile:
            if RANK in {-1, 0} and self.epoch == self.start_epoch:
                LOGGER.info(f"{colorstr('join:')} not with compile=True; the pairs stay two")
            return
        self._joining = join_training(network, student(self.ema.ema), self.optimizer)
        self._parameters_changed()
        count = len(self._joining.pairs)
        LOGGER.info(f"{colorstr('join:')} {count} pairs are one convolution each from epoch {self.epoch + 1} on")

    def _parameters_changed(self) -> None:
        """Tell those who hold on to the network's parameters: its average, and in several processes its wrapper."""
        self.ema._pairs = None  # the average's list of tensors, made anew at its next step
        self.rewrap()

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Recover as Ultralytics does; in the epoch of joining as pairs, since last.pt holds pairs. They join anew."""
        values = [value for value in (self.loss, self.fitness) if value is not None]
        broken = not all(torch.as_tensor(v).isfinite() for v in values)
        if self._joining is not None and epoch > 0 and from_first(broken):
            self._joining.undo()
            self._parameters_changed()
        self._joining = None
        return bool(super()._handle_nan_recovery(epoch))

    # -- what is written ---------------------------------------------------------------------------------------------

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write the epoch's row of results.csv with its slope ("metrics/" is what Ultralytics' plot shows).

        Loggers are shown it after that, and whether pairs are joined.
        """
        network = student(self.model)
        slope = get_negative_slope(network)
        if slope is None:  # nothing is made to merge
            return super().save_metrics(metrics)
        own = {"metrics/negative_slope": slope, "metrics/joined": float(is_joined(network))}
        row = {k: v for k, v in metrics.items() if k not in own}  # without val= the metrics are the epoch before's
        super().save_metrics({**row, "metrics/negative_slope": slope})
        self.metrics.update(own)

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


def on_train_start(trainer: DeepTrainingMixin) -> None:
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
    use_free_cores(trainer)


def on_train_epoch_start(trainer: DeepTrainingMixin) -> None:
    """Apply the epoch's slope, and what it allows."""
    trainer.apply_slope()
    trainer.join()


def on_train_batch_start(trainer: DeepTrainingMixin) -> None:
    """Look for free cores; follow the clock within the epoch, in ``time=`` runs alone."""
    use_free_cores(trainer)
    if trainer.args.time:
        trainer.apply_slope()


def on_fit_epoch_end(trainer: DeepTrainingMixin) -> None:
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
    "on_val_start": use_free_cores,
    "on_val_batch_start": use_free_cores,
}
