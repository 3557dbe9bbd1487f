"""int8 files of a checkpoint: merged, equalised, biases corrected, then each format's own writer.

Calibrated on images of the training split.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vanillayolo.atomic import whole_set
from vanillayolo.errors import DataError, UsageError, closest
from vanillayolo.nn.bias import correct_biases
from vanillayolo.nn.equalize import equalize
from vanillayolo.nn.fake_quantize import trained_levels
from vanillayolo.yolo import VanillaModel
from vanillayolo.yolo.arguments import fitting_imgsz
from vanillayolo.yolo.calibration import Batches, calibration_images
from vanillayolo.yolo.opened import Opened, open_checkpoint
from vanillayolo.yolo.quantized_training import is_trained_rounded

from .formats import INT8, check_int8
from .int8 import QuantizeSettings
from .rewrites import rewritten


def quantize(
    network: nn.Module,
    format: str,
    target: Path,
    batches: Batches,
    settings: QuantizeSettings,
    rewrites: Sequence[str] = (),
    trained: bool = False,
) -> None:
    """Equalise a network, correct its biases and write it as an int8 file.

    Args:
        network: merged; changed in place.
        format: key of :data:`~vanillayolo.deploy.formats.INT8`: biases are corrected for how its library rounds.
        target: the file or folder.
        batches: calibration images.
        settings: what is done.
        rewrites: exact changes that follow, names in :data:`vanillayolo.deploy.rewrites.REWRITES`.
        trained: whether it was trained rounded, after it was equalised; then every weight rounds as it did there.
    """
    row = INT8[format]
    torch.manual_seed(0)
    image = torch.zeros(1, batches.channels, *batches.size)
    equalize(network, image, settings.equalize or row.equalize, batches.stacked(), dense=not trained)
    if settings.bias_correction:
        bits, right = settings.weight_bits, trained_levels if trained else None
        correct_biases(network, batches.stacked(), lambda conv: row.levels(conv, bits), settings.keep_float, right)
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
    check_int8(format, opened.task)
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
        quantize(network, format, stage / target.name, batches, chosen, rewrites, is_trained_rounded(opened.train_args))
    return target
