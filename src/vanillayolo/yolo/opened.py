"""A checkpoint as exporting and comparing need it, opened once: whole, merged; where it is from, what suits it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from vanillayolo.data import GENERATOR_VERSION, SceneSettings, write_scenes
from vanillayolo.data.paths import cache_dir
from vanillayolo.errors import CheckpointError, DataError, UsageError
from vanillayolo.nn.reparameterize import check_mergeable
from vanillayolo.values import SIZE

from .checkpoints import check_finite
from .datasets import task_data
from .interface import VanillaModel
from .pictures import channels_of, dataset_images, image_files, usable_images


@dataclass(frozen=True)
class Opened:
    """A checkpoint that is open.

    Attributes:
        network: the network inside, in the form that it was saved in.
        task: what it is for.
        origin: the file that it is from, else its name.
        train_args: Ultralytics' arguments of its training; empty where they are not known.
        callbacks: Ultralytics' callbacks.
    """

    network: Any
    task: str
    origin: Path
    train_args: dict[str, Any]
    callbacks: Any = None

    @property
    def imgsz(self) -> Any:
        """The ``imgsz`` of the training; None where it is not known."""
        size = self.train_args.get("imgsz")
        return size if SIZE.fits(size) else None

    @property
    def channels(self) -> int:
        """How many channels its images have."""
        return channels_of(self.network)

    def check_whole(self) -> None:
        """Raise unless the network can be merged.

        Raises:
            MergeError: when a slope is below 1.
            CheckpointError: for a weight that is not finite, or a YAML that was edited.
        """
        check_mergeable(self.network)
        check_finite(self.network, str(self.origin))
        first = next((m for m in self.network.modules() if isinstance(m, nn.Conv2d)), None)
        if first is not None and first.in_channels != self.channels:
            raise CheckpointError(
                f"{self.origin}: its YAML was edited: it says {self.channels} channels, the network takes "
                f"{first.in_channels}; give the checkpoint as training wrote it."
            )

    def merged(self, one_to_one: bool = False) -> Any:
        """Return a merged copy of the network in evaluation mode, float32.

        Args:
            one_to_one: of a head with two sets of branches, keep the one that finds every object once.

        Raises:
            CheckpointError: for a weight that is not finite.
            MergeError: when a slope is below 1.
        """
        self.check_whole()
        network = copy.deepcopy(self.network).float().eval()
        choose_branches(network, one_to_one)
        return network.fuse(verbose=False)

    def checked_data(self, data: Any, splits: tuple[str, ...] = ("val",)) -> str:
        """Return data of its task, checked."""
        return task_data(self.task, data, splits)

    def images(
        self, data: str | None = None, source: str | Path | None = None, most: int = 8
    ) -> tuple[list[Path], str]:
        """Return at most ``most`` images to compare on, and where they are from.

        The source given, else the validation images of (checked) data, else those of the training's own data where
        they are still there, else scenes of the package's own making.
        """
        if source is None and data is None:
            data = self.train_args.get("data")
            try:
                data = str(data) if data and dataset_images(str(data)) else None
            except DataError:
                data = None
        return example_images(data, source, most, self.channels)


def choose_branches(network: Any, one_to_one: bool) -> None:
    """Choose, of a head with two sets of branches, the one that answers and that merging keeps.

    Raises:
        UsageError: when a head without one is to find every object once.
    """
    if hasattr(network.model[-1], "one2one_cv2"):
        network.end2end = one_to_one
    elif one_to_one:
        raise UsageError("nms=False: the head has no one-to-one branches; omit nms, or train yolo26n-vanillanet.")


def open_checkpoint(model: Opened | VanillaModel | str | Path, told: str = "give a checkpoint (.pt)") -> Opened:
    """Return a checkpoint, opened where it is a file.

    Args:
        model: an opened checkpoint, a trained network or its file.
        told: what to say of an exported file.

    Raises:
        CheckpointError: for a file that is no checkpoint.
    """
    if isinstance(model, Opened):
        return model
    model = model if isinstance(model, VanillaModel) else VanillaModel(model)
    if not isinstance(model.model, nn.Module):
        raise CheckpointError(f"{model.model_name}: an exported file; {told}.")
    # after a training the network names its own file; the interface still names what the training started from
    origin = getattr(model.model, "pt_path", None) or model.ckpt_path or model.model_name or "model"
    train_args = (model.ckpt or {}).get("train_args") or {}
    return Opened(model.model, str(model.task), Path(str(origin)), train_args, model.callbacks)


def example_images(
    data: str | None = None, source: str | Path | None = None, most: int = 8, channels: int = 3
) -> tuple[list[Path], str]:
    """Return at most ``most`` images to compare on, and where they are from.

    The source given, else the validation images of the data, else scenes of the package's own making.

    Raises:
        DataError: where there is none that a network of so many channels takes.
    """
    if source is not None:
        return usable_images(image_files(source), most, channels), str(source)
    if data is not None:
        return usable_images(dataset_images(data), most, channels), str(data)
    if channels not in (1, 3):
        raise DataError(f"the network takes {channels} channels: give source= or data= with such images to compare on.")
    scenes = write_scenes(cache_dir() / f"scenes-{GENERATOR_VERSION}", SceneSettings(16, 320, val_every=2))
    return image_files(scenes.parent / "images" / "val")[:most], "generated scenes"
