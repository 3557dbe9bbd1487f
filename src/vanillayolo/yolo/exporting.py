"""Ultralytics' exporter on a network at hand: the file it writes opens in ``YOLO(file)``, names and strides inside."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.engine.exporter import Exporter
from ultralytics.utils import YAML


def export_float(
    network: nn.Module, folder: Path, stem: str, imgsz: int | tuple[int, int], format: str = "onnx"
) -> Path:
    """Write a merged detector as a static float32 file of batch 1 with Ultralytics' metadata.

    Args:
        network: the detector; a copy is exported, as it is, without settings of its training.
        folder: where the file goes.
        stem: its name without suffix.
        imgsz: side of the image, or height and width, pixels.
        format: one of Ultralytics' formats.
    """
    network = copy.deepcopy(network)
    network.pt_path = str(folder / f"{stem}.pt")  # type: ignore[assignment]  # the exporter names its file by it
    network.args = {"data": ""}  # type: ignore[assignment]  # else the description names a path of this machine
    network.task = "detect"  # type: ignore[assignment]  # a network that no interface was around has none
    size = imgsz if isinstance(imgsz, int) else list(imgsz)
    settings = {"format": format, "imgsz": size, "batch": 1, "simplify": False, "device": "cpu", "mode": "export"}
    return Path(str(Exporter(overrides=settings)(model=network)))


def write_metadata(folder: Path, metadata: dict[str, Any]) -> None:
    """Write ``metadata.yaml`` into an OpenVINO folder, as Ultralytics reads it."""
    YAML.save(folder / "metadata.yaml", metadata)
