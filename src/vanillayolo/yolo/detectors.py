"""Any detector of boxes, masks, key points or turned boxes, ours or Ultralytics' own: trained and scored alike."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics import YOLO
from ultralytics.engine.model import Model
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.models.yolo.obb import OBBTrainer
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.nn.tasks import DetectionModel, guess_model_task, yaml_model_load

from vanillayolo.errors import CheckpointError, ModelNameError, one_line
from vanillayolo.nn.hooks import listening

from .architecture import is_model_name, load_yaml, near
from .checkpoints import can_resume, is_undamaged, newest_checkpoint
from .engines import ENGINES
from .interface import VanillaModel
from .model import ROWS, VanillaDetectionModel
from .modules import VanillaBackbone
from .process import check_ranks
from .saving import SavingMixin
from .sections import TRAIN_KEYS, section
from .tasks import FINDING, TASKS
from .threads import use_free_cores
from .updates import UpdatesMixin

#: The trainer of our detectors, and that of Ultralytics' own.
Trainers = tuple[type[BaseTrainer], type[BaseTrainer]]
OUR_ROWS = {cls.__name__ for cls in ROWS}


def open_detector(model: str | Path, tasks: Collection[str] = FINDING) -> Model:
    """Return a detector of a name (``yolo11n-vanillanet``, ``yolo11n-timm-resnet50``, ``yolo26n``), YAML or checkpoint.

    A name or YAML is initialised afresh; nothing is ever fetched.

    Args:
        model: the name, YAML or checkpoint.
        tasks: that are taken; all whose networks find boxes by default.

    Raises:
        ModelNameError: for a name or YAML that describes no detector.
        CheckpointError: for a checkpoint that is missing, damaged or of another task.
    """
    opened = _opened(str(model))
    if opened.task not in tasks:
        raise CheckpointError(f"model={model}: is there to {TASKS[str(opened.task)].verb}; give a detector.")
    return opened


def _opened(name: str) -> Model:
    """Return what a name, YAML or checkpoint stands for."""
    path = Path(name)
    if path.suffix == ".pt":
        opened = VanillaModel(name)
        return opened if isinstance(opened.model, VanillaDetectionModel) else _with_all_cores(YOLO(path))
    if is_model_name(name):
        return VanillaModel(name)
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        rows = {row[2] for row in load_yaml(path)["backbone"]}
        return VanillaModel(name) if rows & OUR_ROWS else _stock(name)
    if name.startswith(("yolo11", "yolo26")) and ("-vanilla" in name or "-timm" in name):
        return VanillaModel(name)  # raises, naming the closest
    return _stock(f"{name}.yaml")


def _stock(name: str) -> Model:
    """Return one of Ultralytics' own detectors, freshly initialised."""
    try:
        cfg = yaml_model_load(name)
        if not cfg.get("scale") and "scales" in cfg:
            raise ValueError("no letter n, s, m, l or x in it")
        task = guess_model_task(cfg)
        if task not in FINDING or "RTDETRDecoder" in str(cfg["head"][-1]):
            raise ValueError("not a YOLO detector")
    except (FileNotFoundError, ValueError, KeyError) as error:
        stem, reason = name.removesuffix(".yaml"), one_line(error, 120)
        hint = near(stem)
        raise ModelNameError(
            f"model {stem!r}: neither ours nor one of Ultralytics' detectors such as yolo11n ({reason}): "
            + (hint if hint.startswith("did") else f"{hint}; yolo11n-timm-NAME takes any of timm's.")
        ) from None
    return _with_all_cores(YOLO(name, task=task))


def _with_all_cores(detector: Model) -> Model:
    """Give one of Ultralytics' detectors the threads that ours have, so that their times compare."""
    for verb in ("train", "val", "predict"):
        detector.add_callback(f"on_{verb}_start", use_free_cores)
        detector.add_callback(f"on_{verb}_batch_start", use_free_cores)
    return detector


def network(detector: Model) -> DetectionModel:
    """Return the network inside.

    Raises:
        CheckpointError: for an exported file, which has none.
    """
    if not isinstance(detector.model, nn.Module):
        raise CheckpointError(f"{detector.model_name}: an exported file; give a name, a YAML or a checkpoint.")
    return detector.model


def merges(detector: Model) -> bool:
    """Return whether a detector is made to merge: ours, but for one with a backbone of timm's."""
    return isinstance(detector.model, VanillaDetectionModel) and detector.model.collapses


def training_network(model: str | Path, settings: Mapping[str, Any]) -> DetectionModel:
    """Return the network that a training with these settings begins with, as lean as they make it.

    Args:
        model: as :func:`open_detector` takes it.
        settings: Ultralytics' settings, and ours, which only networks with deep training are given.

    Raises:
        UsageError: for a value of ours that does not exist.
    """
    detector = open_detector(model)
    built: Any = network(detector)  # Any: only ours has what is set below
    if given := section(settings_for(detector, settings), "lean_training"):
        built.set_lean_training({**(built.yaml.get("lean_training") or {}), **given})
    return built


def settings_for(detector: Model, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without ours where the detector has no deep training."""
    ours = set(TRAIN_KEYS) if not merges(detector) else set()
    return {key: value for key, value in settings.items() if key not in ours}


def train_detector(
    model: str,
    data: str,
    run: Path,
    settings: Mapping[str, Any],
    trainers: Trainers | None = None,
    each_epoch: Callable[[Any], None] | None = None,
) -> Path:
    """Train a detector, or finish what an earlier call began, and return ``best.pt``.

    A name or YAML starts from noise, unless the settings say otherwise (``pretrained``).

    Args:
        model: as :func:`open_detector` takes it.
        data: data YAML.
        run: folder of the run.
        settings: Ultralytics' settings, and ours, which only networks with deep training are given.
        trainers: to train ours and Ultralytics' own detectors with, instead of the usual ones.
        each_epoch: called with the trainer after every epoch and its checkpoint; what it raises ends the training.
    """
    check_ranks("a study")
    best = run / "weights" / "best.pt"
    with contextlib.suppress(CheckpointError):  # no whole checkpoint of the run: it begins again
        last, ckpt = newest_checkpoint(run / "weights" / "last.pt", lambda path: open_detector(path).ckpt or {})
        if can_resume(ckpt):
            begun = watched(open_detector(last), each_epoch)
            begun.train(resume=True, trainer=_trainer_of(begun, trainers))
        if is_undamaged(best):
            return best
    detector = watched(open_detector(model), each_epoch)
    # ours have weights in the package, others none
    given = {"pretrained": str(model).endswith(".pt"), **settings_for(detector, settings)}
    where = {"project": str(run.parent), "name": run.name, "exist_ok": True}
    detector.train(data=data, **where, **given, trainer=_trainer_of(detector, trainers))
    return best


def watched(detector: Any, each_epoch: Callable[[Any], None] | None) -> Any:
    """Return a detector whose training calls a function after every epoch."""
    if each_epoch is not None:
        detector.add_callback("on_fit_epoch_end", each_epoch)
    return detector


def _trainer_of(detector: Model, trainers: Trainers | None) -> type[BaseTrainer]:
    """Return the class that trains a detector: of those given, else that of its task."""
    task = str(detector.task)
    ours, stock = trainers or (ENGINES[task]["trainer"], STOCK_TRAINERS[task])
    return ours if isinstance(detector, VanillaModel) else stock


class StockTrainer(UpdatesMixin, SavingMixin, DetectionTrainer):
    """Ultralytics' detection trainer, whose files are written whole; with as many updates as ours."""


class StockSegmentationTrainer(UpdatesMixin, SavingMixin, SegmentationTrainer):
    """The same for masks."""


class StockPoseTrainer(UpdatesMixin, SavingMixin, PoseTrainer):
    """The same for key points."""


class StockOBBTrainer(UpdatesMixin, SavingMixin, OBBTrainer):
    """The same for turned boxes."""


#: By task. Ultralytics starts further processes by the name of the class.
STOCK_TRAINERS: dict[str, type[BaseTrainer]] = {
    "detect": StockTrainer,
    "segment": StockSegmentationTrainer,
    "pose": StockPoseTrainer,
    "obb": StockOBBTrainer,
}


def score(file: Path, data: str, split: str, imgsz: int, folder: Path) -> dict[str, Any]:
    """Validate a checkpoint on a split.

    Returns:
        ``map50`` and ``map50_95`` of what its task is judged by, ``per_class`` both by name (classes without a box in
        the split left out) and, where its task is judged by something else, ``boxes`` both of the boxes.
    """
    where = {"project": str(folder), "name": f"val-{split}", "exist_ok": True}
    opened = open_detector(file)
    metrics: Any = opened.val(data=data, split=split, imgsz=imgsz, plots=False, verbose=False, **where)
    metric = TASKS[str(opened.task)].metric
    found, box = getattr(metrics, metric), metrics.box
    per_class = {
        metrics.names[int(c)]: {"map50": float(ap50), "map50_95": float(ap)}
        for c, ap50, ap in zip(found.ap_class_index, found.ap50, found.ap, strict=True)
    }
    boxes = {} if metric == "box" else {"boxes": {"map50": float(box.map50), "map50_95": float(box.map)}}
    return {"map50": float(found.map50), "map50_95": float(found.map), "per_class": per_class, **boxes}


def stage_modules(model: DetectionModel, imgsz: int = 256) -> dict[int, nn.Module]:
    """Return the modules that give the last map of each resolution of a detector's backbone, by stride.

    Args:
        model: a detection model, ours or stock, in evaluation mode.
        imgsz: side of the image that is run through it, pixels, a multiple of 32.
    """
    backbone = model.model[0]
    if isinstance(backbone, VanillaBackbone):
        blocks = (backbone.stem, *backbone.stages)
        return {int(info["reduction"]): b for info, b in zip(backbone.feature_info, blocks, strict=True)}
    found: dict[int, nn.Module] = {}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            found[imgsz // output.shape[-1]] = module

    rows = list(model.model)[: len(model.yaml["backbone"])]
    with listening(((row, row) for row in rows), note), torch.no_grad():
        model(torch.zeros(1, model.yaml.get("channels", 3), imgsz, imgsz))
    return found
