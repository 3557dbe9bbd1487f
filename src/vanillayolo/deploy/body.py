"""Float ONNX files that end at the raw maps (:mod:`vanillayolo.yolo.raw_maps`): what tools of chips make int8 of."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vanillayolo.yolo.exporting import metadata_for, silent_tools
from vanillayolo.yolo.pictures import channels_of
from vanillayolo.yolo.raw_maps import with_raw_maps

INPUT = "images"
OPSET = 17


def write_body(body: nn.Module, path: Path, image: Tensor) -> list[str]:
    """Write a body of raw maps as a float ONNX file; return the names of its outputs.

    Args:
        body: of :func:`vanillayolo.yolo.raw_maps.with_raw_maps`.
        path: the file.
        image: an input ``[1, channels, height, width]``.
    """
    with torch.no_grad(), silent_tools(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # of torch's exporter, about itself
        levels = len(body(image)) // 2
        names = [f"{holds}{level}" for holds in ("boxes", "scores") for level in range(levels)]
        given: dict[str, Any] = {"input_names": [INPUT], "output_names": names, "opset_version": OPSET}
        torch.onnx.export(body, (image,), str(path), dynamo=False, **given)
    return names


def write_outside(network: Any, path: Path, size: tuple[int, int]) -> Path:
    """Write a merged detector as a float ONNX file without decode, with metadata that describe its maps."""
    import onnx

    body, channels = with_raw_maps(network), channels_of(network)
    image, strides = torch.zeros(1, channels, *size), [int(s) for s in network.stride]
    names = write_body(body, path, image)
    with torch.no_grad():
        shapes = [list(x.shape) for x in body(image)]
    maps = [
        {"name": name, "type": "float32", "shape": shape, "holds": name[:-1], "stride": strides[i % len(strides)]}
        for i, (name, shape) in enumerate(zip(names, shapes, strict=True))
    ]
    said = metadata_for(network, size, channels)
    said |= {"description": "detector without decode by VanillaYOLO", "args": {"nms": False, "dynamic": False}}
    said |= {"decode": "outside", "bins": int(network.model[-1].reg_max), "maps": json.dumps(maps)}
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {key: str(value) for key, value in said.items()})
    onnx.save(model, path)
    return path
