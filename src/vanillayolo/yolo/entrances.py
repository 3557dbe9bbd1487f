"""Ways to our networks that do not begin at ``VanillaYOLO``: Ultralytics' own classes, and trainers made of them.

Ultralytics' parser believes a row that it does not know to be none of its business, and its trainer knows no slope: a
network that it built of our rows would be another one, trained in another way, without a word. So our rows stand in
the parser's names as what they are not to be built with, and say what to use. A trainer that somebody derived from
Ultralytics' is made to train deep.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ultralytics.engine.model as engine
import ultralytics.nn.tasks as tasks
from torch import nn

from vanillayolo.errors import ModelNameError, UsageError

from .architecture import is_model_name
from .deep_trainer import DeepTrainingMixin
from .engines import stock_class

INSTEAD = (
    "Ultralytics' own classes do not build or train it; use vanillayolo.VanillaYOLO in the place of ultralytics.YOLO, "
    "vanillayolo.yolo.trainer.VanillaTrainer of DetectionTrainer, vanillayolo.VanillaDetectionModel of DetectionModel "
    "(classifiers: vanillayolo.yolo.VanillaClassificationTrainer, VanillaClassificationModel)."
)


def stand_in(row: type[nn.Module]) -> type[nn.Module]:
    """Return a class of a row's name that says, in the place of being built, what to use."""

    class StandIn(nn.Module):
        """A row of ours, met by Ultralytics' parser outside of our own models."""

        def __init__(self, *_: Any, **__: Any) -> None:
            raise ModelNameError(f"row {row.__name__} of a network of vanillayolo's: {INSTEAD}")

    StandIn.__name__ = StandIn.__qualname__ = row.__name__
    return StandIn


def install(rows: list[type[nn.Module]]) -> None:
    """Tell Ultralytics' parser our rows, and its look-up of model YAMLs our names: both refuse, in one line.

    Nothing of Ultralytics' own is found in another way than before. While a model of ours is built, the parser has the
    rows themselves.
    """
    for row in rows:
        setattr(tasks, row.__name__, stand_in(row))
    look_up, load = tasks.yaml_model_load, engine.Model._load

    def refuse_ours(name: str | Path) -> None:
        """Raise ModelNameError for a name of ours that is no file."""
        if not Path(name).exists() and is_model_name(Path(name).name):
            raise ModelNameError(f"model {str(name)!r} is a network of vanillayolo's: {INSTEAD}")

    def yaml_model_load(path: str | Path) -> Any:
        """Load a model's YAML as Ultralytics does; a name of ours is none of its files."""
        refuse_ours(path)
        return look_up(path)

    def load_file(self: Any, weights: str | Path, task: str | None = None) -> None:
        """Load a file as Ultralytics does; a name of ours, without suffix, is none."""
        refuse_ours(weights)
        load(self, weights, task)

    tasks.yaml_model_load = engine.yaml_model_load = yaml_model_load
    engine.Model._load = load_file


def deep(trainer: Any, own: type[Any]) -> Any:
    """Return the trainer class to train with: the one given, where need be with ours as the next in its line.

    What a class that derives from Ultralytics' trainer overrides, stands, and its ``super()`` is our trainer.

    Args:
        trainer: a class, another callable that makes a trainer, or nothing.
        own: our trainer of the task.

    Raises:
        UsageError: for a class that is no trainer of the task.
    """
    if trainer is None:
        return own
    if not isinstance(trainer, type) or issubclass(trainer, DeepTrainingMixin):
        return trainer
    if issubclass(own, trainer):
        return own  # Ultralytics' own trainer, or the base of all
    stock = stock_class(own)
    if not issubclass(trainer, stock):
        raise UsageError(
            f"trainer={trainer.__name__}: no trainer of this task; derive it from {own.__module__}.{own.__name__}."
        )
    return type(trainer.__name__, (trainer, own), {"__module__": trainer.__module__, "__doc__": trainer.__doc__})
