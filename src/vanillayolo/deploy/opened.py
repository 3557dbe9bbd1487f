"""A checkpoint as exporting and comparing need it: opened, whole, merged; where it is from, what to compare it on."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn

from vanillayolo.data import make_scenes
from vanillayolo.data.paths import cache_dir
from vanillayolo.errors import CheckpointError, DataError
from vanillayolo.nn.reparameterize import check_mergeable
from vanillayolo.yolo import VanillaYOLO
from vanillayolo.yolo.checkpoints import check_finite
from vanillayolo.yolo.inference import dataset_images, image_files
from vanillayolo.yolo.pictures import usable_images


def open_checkpoint(model: VanillaYOLO | str | Path, told: str = "give a checkpoint (.pt)") -> VanillaYOLO:
    """Return a checkpoint, opened where it is a file.

    Args:
        model: a trained network or its file.
        told: what to say of an exported file.

    Raises:
        CheckpointError: for a file that is no checkpoint.
    """
    opened = model if isinstance(model, VanillaYOLO) else VanillaYOLO(model)
    if not isinstance(opened.model, nn.Module):
        raise CheckpointError(f"{opened.model_name}: an exported file; {told}.")
    return opened


def check_whole(model: VanillaYOLO) -> None:
    """Raise unless a checkpoint can be merged.

    Raises:
        MergeError: when a slope is below 1.
        CheckpointError: for a weight that is not finite.
    """
    check_mergeable(model.model)
    check_finite(model.model, str(origin_of(model)))


def merged_network(checkpoint: VanillaYOLO | str | Path, told: str = "give a checkpoint (.pt)") -> Any:
    """Return the merged network of a checkpoint in evaluation mode, float32; what is given stays as it is.

    Args:
        checkpoint: a trained network or its file.
        told: what to say of an exported file.

    Raises:
        CheckpointError: for a file that is no checkpoint, or a weight that is not finite.
        MergeError: when a slope is below 1.
    """
    model = open_checkpoint(checkpoint, told)
    check_whole(model)
    network: Any = copy.deepcopy(model.model).float().eval()
    return network.fuse(verbose=False)


def origin_of(model: VanillaYOLO) -> Path:
    """Return the checkpoint that the network at hand is from, else its name.

    After ``train`` that is the network's own ``pt_path``: the interface still names what training started from.
    """
    path = getattr(model.model, "pt_path", None) or model.ckpt_path
    return Path(str(path or model.model_name or "model"))


def trained_size(model: VanillaYOLO) -> Any:
    """Return the ``imgsz`` of the checkpoint's training; None where it is not known."""
    return ((model.ckpt or {}).get("train_args") or {}).get("imgsz")


def known_data(model: VanillaYOLO) -> str | None:
    """Return the data YAML of the checkpoint's training where it and its images are still there."""
    data = (model.ckpt or {}).get("train_args", {}).get("data")
    try:
        return str(data) if data and dataset_images(str(data)) else None
    except DataError:
        return None


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
    scenes = make_scenes(cache_dir() / "scenes", train=1, val=8, size=320, seed=0)
    return image_files(scenes.parent / "images" / "val")[:most], "generated scenes"
