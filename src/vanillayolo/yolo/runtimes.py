"""Back ends of our own in Ultralytics' loader: float32 where a file is float32, a decode for files without one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.backends.litert import LiteRTBackend
from ultralytics.nn.backends.onnx import ONNXBackend
from ultralytics.nn.backends.openvino import OpenVINOBackend

from .raw_maps import Decode


def xml_of(path: str | Path) -> Path:
    """Return the ``.xml`` file of an OpenVINO folder; a file stands for itself."""
    path = Path(path)
    return next(path.glob("*.xml")) if path.is_dir() else path


class Float32OpenVINO(OpenVINOBackend):
    """OpenVINO that computes in float32: on processors with AMX its own choice is bfloat16, whatever the file holds."""

    def load_model(self, weight: str | Path) -> None:
        """Load as Ultralytics does, then compile for float32."""
        super().load_model(weight)
        self.compile_model.keywords["config"]["INFERENCE_PRECISION_HINT"] = self.ov.Type.f32
        self.ov_compiled_model = self.compile_model(self.ov.Core().read_model(xml_of(weight)))


class DecodingLiteRT(LiteRTBackend):
    """LiteRT that decodes the maps of a file of integers without decode, as its metadata describe them."""

    def forward(self, im: Tensor) -> list[np.ndarray]:
        """Return boxes (xywh in pixels) and scores of ``[1, 3, height, width]``."""
        said = self.metadata
        if said.get("decode") != "outside":
            return list(super().forward(im))
        rounded = (im.permute(0, 2, 3, 1) / said["input"]["scale"]).round() + said["input"]["zero_point"]
        integers = rounded.clamp(-128, 127).to(torch.int8)  # Ultralytics truncates
        self.interpreter.set_tensor(self.input_details[0]["index"], integers.numpy())
        self.interpreter.invoke()
        places = {detail["name"]: detail["index"] for detail in self.output_details}
        maps = []
        for output in said["maps"]:
            values = torch.from_numpy(self.interpreter.get_tensor(places[output["tensor"]])).float()
            maps.append(((values - output["zero_point"]) * output["scale"]).permute(0, 3, 1, 2))
        strides = [x["stride"] for x in said["maps"] if x["holds"] == "boxes"]
        return [Decode(strides, said["bins"], said["imgsz"])(maps).numpy()]


class DecodingONNX(ONNXBackend):
    """ONNX Runtime that decodes the maps of a float file without decode, as its metadata describe them."""

    def forward(self, im: Tensor) -> Any:
        """Return boxes (xywh in pixels) and scores of ``[1, 3, height, width]``."""
        found, said = super().forward(im), self.metadata
        if said.get("decode") != "outside":
            return found
        strides = [x["stride"] for x in json.loads(said["maps"]) if x["holds"] == "boxes"]
        return [Decode(strides, int(said["bins"]), said["imgsz"])([torch.as_tensor(x) for x in found]).numpy()]


@contextmanager
def own_runtimes(float32: bool = True) -> Iterator[None]:
    """Let whatever Ultralytics opens meanwhile decode what has no decode, and compute in float32 where the file does.

    Args:
        float32: False leaves the precision to each library.
    """
    before = AutoBackend._BACKEND_MAP
    own = {"litert": DecodingLiteRT, "onnx": DecodingONNX, **({"openvino": Float32OpenVINO} if float32 else {})}
    AutoBackend._BACKEND_MAP = {**before, **own}
    try:
        yield
    finally:
        AutoBackend._BACKEND_MAP = before
