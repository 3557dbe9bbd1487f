"""What ``VanillaYOLO`` is without its files for others: deep training inside, one line for each mistake of a user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ultralytics.engine.exporter import export_formats
from ultralytics.engine.model import Model
from ultralytics.nn.backends.base import BaseBackend
from ultralytics.utils import DEFAULT_CFG_DICT

from vanillayolo.atomic import whole_file
from vanillayolo.errors import CheckpointError, ModelNameError, UsageError, VanillaYOLOError, closest, one_line
from vanillayolo.values import THING, check_value

from .architecture import is_model_name, resolve, task_of
from .checkpoints import check_facts, check_undamaged, check_weights
from .checks import check_predict, checked_train, checked_val
from .engines import ENGINES
from .entrances import deep
from .files import own_conf
from .merging import student
from .offline import place_fonts
from .pretrained import find_weights, fit_yaml, load_pretrained
from .process import called_from_python
from .quantized_training import QUANTIZED
from .runtimes import own_runtimes
from .saving import SavingMixin
from .tasks import TASKS
from .threads import notice_choice, use_free_cores


class VanillaModel(Model):
    """A network of ours, before it is exported or collapsed: what builds, loads, trains, validates and predicts.

    Arguments and errors are those of :class:`vanillayolo.interface.VanillaYOLO`.
    """

    model: Any
    ckpt: Any
    trainer: Any

    def __init__(
        self,
        model: str | Path | Model = "yolo11n-vanillanet",
        task: str | None = None,
        verbose: bool = False,
        weights: str | Path | None = None,
    ) -> None:
        for key, value in (("model", model), ("weights", weights)):
            if value is not None or key == "model":
                check_value(key, value, THING)
        if task not in (None, *TASKS):
            raise UsageError(f"task={task!r}: {closest(task, TASKS)}")
        if isinstance(model, (str, Path)):
            name = str(model).strip()
            model = f"{name}.yaml" if is_model_name(name) and not name.endswith((".yaml", ".yml")) else name
        place_fonts()
        super().__init__(model=model, task=task, verbose=verbose)
        if task not in (None, self.task):
            raise UsageError(f"task={task!r}: {self.model_name} is made for task={self.task}; omit task.")
        if weights is not None:
            self._start_from(weights)
        for event in ("on_predict_start", "on_predict_batch_start", "on_val_start", "on_val_batch_start"):
            if use_free_cores not in self.callbacks[event]:
                self.add_callback(event, use_free_cores)

    @property
    def task_map(self) -> dict[str, dict[str, Any]]:
        """Our model and trainer; validator and predictor are Ultralytics' own, but for what a source says."""
        return ENGINES

    # -- building and loading ----------------------------------------------------------------------------------------

    def _new(self, cfg: str, task: str | None = None, verbose: bool = False) -> None:
        """Build from a name or a YAML file."""
        described = resolve(cfg)
        self.cfg, self.task, self.model_name = cfg, task_of(described), cfg
        self._build(described, verbose, cfg)
        self.overrides.update(model=cfg, task=self.task)
        self.model.args = {**DEFAULT_CFG_DICT, **self.overrides}

    def _build(self, cfg: Any, verbose: bool = False, source: str | None = None) -> None:
        """Build the network of a model YAML, for the task at hand; ``source``, its file or name, is named in errors."""
        self.model = ENGINES[str(self.task)]["model"](source or cfg, ch=cfg.get("channels", 3), verbose=verbose)
        self.model.task = self.task
        self.model.yaml_file = str(self.cfg or type(self.model).yaml_file)

    def _start_from(self, weights: str | Path) -> None:
        """Load official weights into the new network, which takes its ``act_num`` from them."""
        if self.ckpt or not isinstance(self.model, torch.nn.Module):
            raise UsageError(
                f"weights={str(weights)!r}: {self.model_name} has weights already; start from a model name."
            )
        file, args = find_weights(weights), self.model.args
        cfg: Any = self.model.yaml
        self._build(fit_yaml(cfg, file))
        self.model.args = args
        load_pretrained(self.model, file, merged=True)
        self.ckpt = {"model": self.model}  # training goes on from these weights, as after load()

    def _load(self, weights: str, task: str | None = None) -> None:
        """Load a checkpoint or name an exported file; nothing is ever fetched."""
        path = Path(weights)
        if not path.exists():
            if path.suffix:
                raise CheckpointError(
                    f"{weights}: no such file; give a model name, a .yaml, a .pt or an exported file."
                )
            resolve(weights)  # raises, naming the closest model
        if not any(suffix and suffix in path.name.lower() for suffix in export_formats()["Suffix"]):
            raise CheckpointError(
                f"{weights}: neither a checkpoint (.pt) nor an exported file (.onnx, ...); give one of them."
            )
        if path.suffix == ".pt" and path.stat().st_size == 0:
            raise CheckpointError(f"{weights}: empty file; give a finished checkpoint, or train again.")
        check_undamaged(path)
        try:
            if path.suffix != ".pt":
                dict(BaseBackend.read_metadata(path))  # Ultralytics takes whatever stands there for a mapping
            super()._load(weights, task)
        except (ModelNameError, CheckpointError):
            raise
        except Exception as error:  # Ultralytics and torch raise a dozen types for a file that is no checkpoint
            if path.suffix != ".pt" and isinstance(error, (AttributeError, ImportError)):
                raise
            raise CheckpointError(
                f"{weights}: not a loadable checkpoint ({one_line(error)}); copy or train it again."
            ) from error
        if self.task not in TASKS:
            raise CheckpointError(f"{weights}: made for task={self.task}; {closest(str(self.task), TASKS)}")
        if isinstance(self.model, torch.nn.Module):
            check_facts(student(self.model), weights)

    def load(self, weights: Any = "best.pt") -> VanillaModel:
        """Load weights, and the slope they belong to, into the network at hand.

        Raises:
            CheckpointError: when the file is missing, damaged or merged.
        """
        name = "load()"
        if isinstance(weights, (str, Path)):
            name, weights = str(weights), self.opened(weights).model
        if not isinstance(weights, dict):
            check_weights(weights, name)
        super().load(weights)
        return self

    @staticmethod
    def opened(file: str | Path) -> VanillaModel:
        """Return a checkpoint, opened by this class itself: a class derived from it may take other arguments."""
        return VanillaModel(file)

    def save(self, filename: str | Path = "saved_model.pt") -> None:
        """Write the network at hand as a checkpoint, whole."""
        with whole_file(filename) as temporary:
            super().save(temporary)

    def reset_weights(self) -> VanillaModel:
        """Start anew: the same architecture, freshly initialised, ready for deep training from slope 0."""
        self._check_is_pytorch_model()
        names = self.model.names
        cfg = {**self.model.yaml, "deep_training": {**self.model.yaml.get("deep_training", {}), "start": 0.0}}
        args = self.model.args
        self._build(cfg)
        self.model.names, self.model.args = names, args
        self.overrides["pretrained"] = False
        self.predictor = None
        return self

    # -- verbs -------------------------------------------------------------------------------------------------------

    def train(self, trainer: Any = None, **kwargs: Any) -> Any:
        """Train with deep training; our keys are those of the README (``decay``, ``lean``, ``join`` ...).

        Raises:
            UsageError: for a key or value that does not exist.
            DataError: for a dataset that cannot be trained on.
            CheckpointError: when the network at hand is merged, which only ``quantize=8`` trains on.
        """
        notice_choice()
        kwargs = checked_train(self, trainer, kwargs)
        own = QUANTIZED[str(self.task)] if kwargs.get("quantize") == 8 else ENGINES[str(self.task)]["trainer"]
        trainer = deep(trainer, own)
        self.trainer = None
        try:
            return super().train(trainer=trainer, **kwargs)
        except VanillaYOLOError:
            if isinstance(self.trainer, SavingMixin):
                self.trainer.discard()
            raise

    def val(self, validator: Any = None, **kwargs: Any) -> Any:
        """Validate the merged network (the unmerged one where its slope is below 1)."""
        notice_choice()
        kwargs = checked_val(self, validator, kwargs)
        with own_runtimes(float32=False):
            return super().val(validator=validator, **kwargs)

    def predict(self, source: Any = None, stream: bool = False, predictor: Any = None, **kwargs: Any) -> Any:
        """Predict with the merged network; without a source, in the pictures that come with Ultralytics.

        An exported file's boxes count from the ``conf`` that its contract says, unless one is given.

        Raises:
            UsageError: for a key that does not exist, or a source that is not there or cannot be read.
        """
        notice_choice()
        check_predict(self, source, {"stream": stream, "predictor": predictor, **kwargs})
        if not {"conf", "cfg"} & kwargs.keys() and isinstance(self.model, (str, Path)):
            own = own_conf(Path(self.model))
            kwargs |= {} if own is None else {"conf": own}
        with called_from_python():
            return super().predict(source=source, stream=stream, predictor=predictor, **kwargs)
