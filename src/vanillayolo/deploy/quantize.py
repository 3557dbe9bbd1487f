"""int8 files of a checkpoint: merged, equalised, biases corrected, then each format's own writer.

Calibrated on images of the training split.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vanillayolo.atomic import whole_set
from vanillayolo.errors import DataError, UsageError, closest
from vanillayolo.yolo import VanillaModel
from vanillayolo.yolo.arguments import fitting_imgsz
from vanillayolo.yolo.inference import dataset_images
from vanillayolo.yolo.opened import Opened, open_checkpoint
from vanillayolo.yolo.pictures import usable_images

from .bias import correct_biases
from .equalize import equalize
from .formats import INT8
from .int8 import Batches, QuantizeSettings
from .rewrites import rewritten


def calibration_images(data: str, most: int, channels: int = 3) -> list[Path]:
    """Return at most ``most`` images of the training split, evenly spaced: never of another split.

    In the place of one that cannot be read, which training leaves out, comes another.

    Raises:
        DataError: when there is none.
    """
    files = dataset_images(data, "train")
    even = np.unique(np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)).tolist()
    rest = sorted(set(range(len(files))) - set(even))
    return sorted(usable_images((files[i] for i in [*even, *rest]), most, channels))


def quantize(
    network: nn.Module,
    format: str,
    target: Path,
    batches: Batches,
    settings: QuantizeSettings,
    rewrites: Sequence[str] = (),
) -> None:
    """Equalise a network, correct its biases and write it as an int8 file.

    Args:
        network: merged; changed in place.
        format: key of :data:`~vanillayolo.deploy.formats.INT8`: biases are corrected for how its library rounds.
        target: the file or folder.
        batches: calibration images.
        settings: what is done.
        rewrites: exact changes that follow, names in :data:`vanillayolo.deploy.rewrites.REWRITES`.
    """
    row = INT8[format]
    torch.manual_seed(0)
    image = torch.zeros(1, batches.channels, *batches.size)
    equalize(network, image, settings.equalize or row.equalize, batches.stacked())
    if settings.bias_correction:
        bits = settings.weight_bits
        correct_biases(network, batches.stacked(), lambda conv: row.levels(conv, bits), settings.keep_float)
    row.write(rewritten(network, rewrites), target, batches, settings)


def quantize_export(
    checkpoint: Opened | VanillaModel | str | Path,
    format: str = "openvino",
    data: str | None = None,
    imgsz: int | Sequence[int] | None = None,
    path: str | Path | None = None,
    rewrites: Sequence[str] = (),
    **settings: Any,
) -> Path:
    """Write an int8 file of a trained detector, calibrated on the training split of its data, and return it.

    Args:
        checkpoint: a trained detector or its ``best.pt``, at slope 1 or collapsed.
        format: ``openvino`` (a folder), ``onnx`` or ``litert``.
        data: data YAML; images of its training split are used, labels are not.
        imgsz: side of the image, or height and width, pixels; the training's own by default.
        path: where the file goes; beside the checkpoint by default.
        rewrites: exact changes for a chip, names in :data:`vanillayolo.deploy.rewrites.REWRITES`.
        **settings: fields of :class:`QuantizeSettings`.

    Raises:
        UsageError: for an unknown format or setting.
        DataError: without data.
        CheckpointError: when the checkpoint is missing or damaged.
        MergeError: when a slope is below 1.
    """
    if format not in INT8:
        raise UsageError(f"int8 has no format {format!r}: {closest(str(format), INT8)}")
    chosen = QuantizeSettings.of(settings)
    if chosen.decode not in INT8[format].decode:
        able = " and ".join(name for name, row in INT8.items() if chosen.decode in row.decode)
        raise UsageError(f"decode={chosen.decode}: not of format={format}; it is of {able}.")
    if not data:
        raise DataError("int8 needs data=FILE.yaml: it is calibrated on images of the training split.")
    opened = open_checkpoint(checkpoint, "int8 starts from a checkpoint (.pt)")
    if opened.task != "detect":
        raise UsageError(f"int8 is for detectors; {opened.origin} is made for task={opened.task}.")
    origin, network = opened.origin, opened.merged()
    size = fitting_imgsz(imgsz or opened.imgsz or 640)
    modules = dict(network.named_modules())
    for name in chosen.keep_float:
        if name not in modules:
            raise UsageError(f"keep_float={name!r}: {closest(name, modules)}")
    files = calibration_images(opened.checked_data(data, ("train",)), chosen.images, opened.channels)
    target = Path(path) if path else origin.with_name(f"{origin.stem}{INT8[format].ending}")
    batches = Batches(files, size, opened.channels)
    with whole_set(target) as stage:
        quantize(network, format, stage / target.name, batches, chosen, rewrites)
    return target
