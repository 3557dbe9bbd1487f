"""``VanillaYOLO``: used as ``ultralytics.YOLO``, with deep training inside and user mistakes told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ultralytics.engine.exporter import export_formats
from ultralytics.engine.model import Model
from ultralytics.models.yolo.classify import ClassificationValidator
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils import DEFAULT_CFG_DICT, ONLINE, SAFE_LOAD, SETTINGS, YAML
from ultralytics.utils.torch_utils import select_device

from vanillayolo.atomic import whole_file
from vanillayolo.data import check_data, check_folders
from vanillayolo.data.data_yaml import path_of
from vanillayolo.errors import CheckpointError, DataError, ModelNameError, UsageError, VanillaYOLOError, closest
from vanillayolo.values import THING, check_value

from .architecture import is_classifier, is_model_name, resolve
from .arguments import (
    KINDS,
    check_classes,
    check_rows,
    check_run_folder,
    check_tracker,
    check_training,
    check_verb,
    classes_of,
)
from .checkpoints import (
    can_resume,
    check_class_count,
    check_finite,
    check_state,
    check_training_form,
    check_undamaged,
    check_weights,
    newest_checkpoint,
)
from .classify import CLASSIFY_KEYS, VanillaClassificationModel, VanillaClassificationTrainer
from .datasets import PACKAGED, may_fetch
from .deep_trainer import check_form
from .distillation import check_teacher
from .entrances import deep
from .model import VanillaDetectionModel
from .offline import place_fonts
from .presets import with_preset
from .pretrained import find_weights, fit_yaml, load_pretrained
from .process import called_from_python, check_ranks
from .saving import SavingMixin, finish_run
from .sources import VanillaClassificationPredictor, VanillaDetectionPredictor, check_source
from .threads import notice_choice, use_free_cores
from .trainer import TRAIN_KEYS, VanillaTrainer, student

#: What serves each task: our model and trainer, Ultralytics' own validator; its predictor, told what does not open.
TASKS: dict[str, dict[str, Any]] = {
    "detect": {
        "model": VanillaDetectionModel,
        "trainer": VanillaTrainer,
        "validator": DetectionValidator,
        "predictor": VanillaDetectionPredictor,
    },
    "classify": {
        "model": VanillaClassificationModel,
        "trainer": VanillaClassificationTrainer,
        "validator": ClassificationValidator,
        "predictor": VanillaClassificationPredictor,
    },
}
TASK_KEYS = {"detect": TRAIN_KEYS, "classify": (*CLASSIFY_KEYS, "preset")}


class VanillaYOLO(Model):
    """A YOLO11 detector with a VanillaNet backbone, or VanillaNet itself as a classifier.

    Args:
        model: a model name (``yolo11n-vanillanet``, ``vanillanet-6-cls``), an edited model YAML, a checkpoint, or an
            exported file.
        task: ``detect`` or ``classify``; the model's own where not given.
        verbose: print the table of layers.
        weights: official ImageNet weights for a new network, a file or a name (``vanillanet_6.pth``).

    Raises:
        ModelNameError: for a name or YAML that describes no network.
        CheckpointError: for a file that is missing or damaged, or weights that do not fit.
        UsageError: for a task that is not the model's.
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
        if task is not None and task not in TASKS:
            raise UsageError(f"task={task!r}: VanillaYOLO detects and classifies; {closest(task, TASKS)}")
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
        return TASKS

    # -- building and loading ----------------------------------------------------------------------------------------

    def _new(self, cfg: str, task: str | None = None, verbose: bool = False) -> None:
        """Build from a name or a YAML file."""
        described = resolve(cfg)
        self.cfg, self.task, self.model_name = cfg, "classify" if is_classifier(described) else "detect", cfg
        self._build(described, verbose)
        self.overrides.update(model=cfg, task=self.task)
        self.model.args = {**DEFAULT_CFG_DICT, **self.overrides}

    def _build(self, cfg: Any, verbose: bool = False) -> None:
        """Build the network of a model YAML, for the task at hand."""
        self.model = TASKS[str(self.task)]["model"](cfg, ch=cfg.get("channels", 3), verbose=verbose)
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
            super()._load(weights, task)
        except (ModelNameError, CheckpointError):
            raise
        except Exception as error:  # Ultralytics and torch raise a dozen types for a file that is no checkpoint
            if path.suffix != ".pt" and isinstance(error, (AttributeError, ImportError)):
                raise
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise CheckpointError(
                f"{weights}: not a loadable checkpoint ({reason}); copy or train it again."
            ) from error
        if self.task not in TASKS:
            raise CheckpointError(f"{weights}: made for task={self.task}; VanillaYOLO detects and classifies.")

    def _check_opens(self, device: Any) -> None:
        """Raise CheckpointError for an exported file that its library does not open, before anything is written."""
        if isinstance(self.model, torch.nn.Module) or self.predictor is not None:
            return
        try:
            AutoBackend(str(self.model), device=select_device(device, verbose=False), verbose=False)
        except Exception as error:  # every library has its own
            reason = " ".join(str(error).split())[:160]
            raise CheckpointError(f"{self.model_name}: cannot be opened ({reason}); export it again.") from error

    def load(self, weights: Any = "best.pt") -> VanillaYOLO:
        """Load weights, and the slope they belong to, into the network at hand.

        Raises:
            CheckpointError: when the file is missing, damaged or merged.
        """
        name = "load()"
        if isinstance(weights, (str, Path)):
            name, weights = str(weights), VanillaYOLO(weights).model
        if not isinstance(weights, dict):
            check_weights(weights, name)
        super().load(weights)
        return self

    def save(self, filename: str | Path = "saved_model.pt") -> None:
        """Write the network at hand as a checkpoint, whole."""
        with whole_file(filename) as temporary:
            super().save(temporary)

    def reset_weights(self) -> VanillaYOLO:
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
            CheckpointError: when the network at hand is merged: there is nothing left to train deep.
        """
        if not isinstance(self.model, torch.nn.Module):
            raise CheckpointError(f"{self.model_name}: an exported file does not train; give the checkpoint (.pt).")
        notice_choice()
        network = student(self.model)  # an interrupted distillation has its teacher around it
        check_training_form(network, str(self.model_name))
        check_finite(network, str(self.model_name))
        check_form(network, kwargs.get("decay"))
        self._check_settings("train", {"trainer": trainer, **kwargs}, extra=TASK_KEYS[str(self.task)])
        trainer = deep(trainer, TASKS[str(self.task)]["trainer"])
        check_ranks("train", kwargs.get("device"))
        if self.task == "classify" and (preset := kwargs.pop("preset", None)) and not kwargs.get("resume"):
            kwargs = with_preset(str(preset), network.yaml.get("family", {}).get("variant"), kwargs)
        if kwargs.get("weights") and (self.ckpt or isinstance(kwargs.get("pretrained"), (str, Path))):
            raise UsageError(f"weights={kwargs['weights']}: {self.model_name} has weights already; omit one of them.")
        self._check_task(kwargs)
        check_training(network, str(self.model_name), kwargs)
        if kwargs.get("resume"):
            kwargs |= self._resumed(kwargs)
        if kwargs.get("weights") and not kwargs.get("resume"):
            self._check_official(network, kwargs["weights"])
        args = (self.ckpt or {}).get("train_args") or {}
        if teacher := (args if kwargs.get("resume") else kwargs).get("distill_model"):
            check_teacher(teacher, network)
        if isinstance(kwargs.get("pretrained"), (str, Path)):
            check_weights(VanillaYOLO(kwargs["pretrained"]).model, f"pretrained={kwargs['pretrained']}")
        if isinstance(kwargs.get("data"), (list, tuple)):
            kwargs["data"] = [self.checked_data(data) for data in kwargs["data"]]
        elif not kwargs.get("resume"):
            kwargs["data"] = self.checked_data(kwargs.get("data") or self._cfg_data(kwargs))
        if (count := classes_of(kwargs.get("data"))) is not None:
            check_classes(kwargs.get("classes"), count)
        if not kwargs.get("resume"):  # that stays in its own folder
            check_run_folder("train", str(self.task), kwargs)
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
        self._check_settings("val", {"validator": validator, **kwargs})
        self._check_network(kwargs)
        check_ranks("val")
        data = kwargs.get("data") or self.overrides.get("data") or self._cfg_data(kwargs)
        kwargs["data"] = self.checked_data(data, (kwargs.get("split") or "val",), background=True)
        self._check_opens(kwargs.get("device"))
        check_run_folder("val", str(self.task), kwargs)
        return super().val(validator=validator, **kwargs)

    def predict(self, source: Any = None, stream: bool = False, predictor: Any = None, **kwargs: Any) -> Any:
        """Predict with the merged network; without a source, in the pictures that come with Ultralytics.

        Raises:
            UsageError: for a key that does not exist, or a source that is not there or cannot be read.
        """
        notice_choice()
        self._check_settings("predict", {"stream": stream, "predictor": predictor, **kwargs})
        self._check_network(kwargs)
        if source is not None:
            check_source(source)
        check_tracker(kwargs.get("tracker"), isinstance(self.model, torch.nn.Module))
        self._check_opens(kwargs.get("device"))
        if any(kwargs.get(key) for key in ("save", "save_txt", "save_crop", "save_frames", "visualize")):
            check_run_folder("predict", str(self.task), kwargs)
        with called_from_python():
            return super().predict(source=source, stream=stream, predictor=predictor, **kwargs)

    def export(self, **kwargs: Any) -> str:
        """Write the merged network in another format, verified; see :func:`vanillayolo.deploy.export`."""
        from vanillayolo.deploy import export  # deploy/ stands above yolo/: imported when asked for

        notice_choice()
        self._check_is_pytorch_model()
        return str(export(self, **kwargs).path)

    def collapse(self, path: str | Path | None = None, **kwargs: Any) -> Any:
        """Write the merged network in stock classes; see :func:`vanillayolo.deploy.collapse`."""
        from vanillayolo.deploy import collapse  # deploy/ stands above yolo/: imported when asked for

        return collapse(self, path, **kwargs)

    def tune(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: Ultralytics' tuner starts its own command line, which cannot build these networks."""
        raise UsageError("tune: Ultralytics' tuner starts the stock command; loop over train(...) with your settings.")

    def _check_network(self, kwargs: dict[str, Any]) -> None:
        """Refuse a task, classes or rows that the network at hand has not."""
        self._check_task(kwargs)
        if isinstance(self.model, torch.nn.Module):
            check_rows(student(self.model), kwargs)

    def _check_task(self, kwargs: dict[str, Any]) -> None:
        if kwargs.get("task") not in (None, self.task):
            raise UsageError(f"task={kwargs['task']}: {self.model_name} is made for task={self.task}; omit task.")

    def _check_official(self, network: Any, weights: str | Path) -> None:
        """Refuse official weights that do not fit, by loading them into a network that is thrown away."""
        file = find_weights(weights)
        load_pretrained(TASKS[str(self.task)]["model"](fit_yaml(network.yaml, file), verbose=False), file)

    def _resumed(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return checkpoint and data from which a run goes on: Ultralytics would take another run where there is none.

        Raises:
            CheckpointError: when there is nothing to resume.
            DataError: when the data are gone, cannot be trained on, or have other classes than the checkpoint.
        """
        name = self.model_name if kwargs["resume"] is True else kwargs["resume"]
        path, ckpt = resumable(name) if str(name).endswith(".pt") or Path(str(name)).is_dir() else (None, None)
        check_state(ckpt or {}, str(name), KINDS)
        trained = student((ckpt or {}).get("ema") or (ckpt or {}).get("model") or self.model)
        check_finite(trained, str(path or name))
        if path is None or ckpt is None or not can_resume(ckpt):
            ended = path is not None and finish_run(path, ckpt)
            reason = "its training has ended" if ended else "give last.pt of an interrupted run, or omit resume"
            raise CheckpointError(f"{name}: nothing to resume; {reason}.")
        given = kwargs.get("data")
        try:
            data = self.checked_data(given or ckpt["train_args"].get("data") or "")
        except DataError as error:
            hint = "" if given else " Where the run's data have moved, give data=."
            raise DataError(f"resume: {error}{hint}") from error
        check_class_count(trained, data, ckpt["train_args"])
        return {"resume": str(path), "data": data}

    def _cfg_data(self, kwargs: dict[str, Any]) -> Any:
        data = YAML.load(kwargs["cfg"]).get("data") if kwargs.get("cfg") else None
        if not data:
            what = (
                "FOLDER (train/CLASS/*.jpg, val/CLASS/*.jpg)"
                if self.task == "classify"
                else "FILE.yaml (YOLO or COCO layout)"
            )
            raise DataError(f"data is missing: give data={what}.")
        return data

    def checked_data(self, data: Any, splits: tuple[str, ...] = ("train", "val"), *, background: bool = False) -> str:
        """Return data of the task at hand, checked; ``background``: a split may have no labels at all.

        Raises:
            DataError: when there is nothing to train on.
        """
        if self.task == "classify":
            return str(check_folders(data, splits))
        return resolve_data(data, splits, background=background)

    @staticmethod
    def _check_settings(mode: str, kwargs: dict[str, Any], extra: tuple[str, ...] = ()) -> None:
        """Refuse unknown keys and impossible values before anything is written."""
        check_verb(mode, kwargs, extra)


def resumable(model: str | Path) -> tuple[Path, dict[str, Any]]:
    """Return the newest whole checkpoint of the run that ``model`` is of (or itself), and what it holds."""
    return newest_checkpoint(Path(model), lambda path: VanillaYOLO(path).ckpt or {})


def resolve_data(data: str | Path, splits: tuple[str, ...] = ("train", "val"), *, background: bool = False) -> str:
    """Return the path of a data YAML that Ultralytics can train on.

    A file or folder is checked (and converted, from COCO JSON); a bare name of Ultralytics' own datasets is left to
    Ultralytics, which fetches it, unless it is not here and there is no network.

    Args:
        data: the data YAML, its folder, or the name of one of Ultralytics' own.
        splits: splits that are needed.
        background: whether a split may have no labels at all.

    Raises:
        DataError: when there is nothing to train on.
    """
    path = path_of(data, "data")
    packaged = PACKAGED / f"{path.stem}.yaml"
    if path.exists() or not packaged.is_file() or path.parent != Path("."):
        checked = check_data(
            data,
            tuple(dict.fromkeys(splits)),
            datasets_dir=Path(SETTINGS["datasets_dir"]),
            background=background,
            may_fetch=may_fetch(path),
        )
        return str(checked)
    root = Path(str(YAML.load(packaged).get("path", "")))
    here = any((base / root).exists() for base in (Path(SETTINGS["datasets_dir"]), Path(".")))
    if not here and not ONLINE:
        raise DataError(
            f"data={str(data)!r}: Ultralytics' own dataset, not on this machine, and there is no network; "
            f"put it under {SETTINGS['datasets_dir']} or give the path of your data YAML."
        )
    return str(packaged) if SAFE_LOAD else str(data)  # by its bare name Ultralytics would find another file of it too
