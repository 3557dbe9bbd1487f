"""What comparing networks needs of Ultralytics: images, outputs, its checkpoint format."""

from __future__ import annotations

import copy
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics import __version__ as ultralytics_version
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from .exporting import with_distribution_mean
from .outputs import Outputs, raw_output, raw_outputs, suppress
from .pictures import channels_of, cropped, dataset_images, image_files, letterbox, read_image

__all__ = [
    "Outputs",
    "checkpoint",
    "cropped",
    "dataset_images",
    "image_files",
    "letterbox",
    "raw_output",
    "raw_outputs",
    "read_image",
    "stock_model",
    "suppress",
    "trace_onnx",
]


def checkpoint(model: nn.Module, extra: dict[str, Any], train_args: dict[str, Any]) -> dict[str, Any]:
    """Return Ultralytics' checkpoint dict around a model: what ``YOLO(file)`` reads."""
    return {
        "epoch": -1,
        "best_fitness": None,
        "model": model,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": train_args,
        "date": datetime.now().astimezone().isoformat(),
        "version": ultralytics_version,
        "license": "AGPL-3.0-or-later (https://www.gnu.org/licenses/agpl-3.0.html)",
        **extra,
    }


def stock_model(name: str) -> Any:
    """Return one of Ultralytics' own detectors (``yolo11n``), freshly initialised."""
    return DetectionModel(yaml_model_load(f"{name}.yaml"), verbose=False)


def trace_onnx(detector: Any, path: str | Path, imgsz: int) -> Path:
    """Write a folded detector, in evaluation mode, as static ONNX of batch 1, with the decode of our files."""
    detector = with_distribution_mean(copy.deepcopy(detector))
    detector.model[-1].export, detector.model[-1].format = True, "onnx"
    image = torch.zeros(1, channels_of(detector), imgsz, imgsz)
    detector(image)  # the head makes its anchors in the first call
    torch.onnx.export(
        detector, (image,), str(path), opset_version=18, input_names=["images"], output_names=["output0"], dynamo=False
    )
    return Path(path)
