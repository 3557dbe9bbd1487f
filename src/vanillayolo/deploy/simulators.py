"""Chips whose tools compute their int8 file here: what of a network survives the rounding, box by box.

Each tool takes a float ONNX file that ends at the raw maps (:mod:`vanillayolo.yolo.raw_maps`) and calibration images,
and gives the maps that the chip would give. It says no times.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vanillayolo.yolo.exporting import silent_tools
from vanillayolo.yolo.outputs import Outputs
from vanillayolo.yolo.raw_maps import Decode

from .body import write_body
from .equality import Equality
from .targets import Target
from .verification import TOLERANCES

#: Score from which boxes are compared.
CONF = 0.25


@dataclass(frozen=True)
class Simulated:
    """What a chip's int8 file computes.

    Attributes:
        refused: the tool's last words where it does not build the network; else empty.
        file: size of the chip's file, bytes.
        boxes_rms, scores_rms: error of the raw maps, root mean square, as a share of the largest value in float.
        found, boxes, extra: boxes that float and the chip both have, that float has, that the chip alone has.
        images: how many images were compared.
    """

    refused: str = ""
    file: int = 0
    boxes_rms: float = 0.0
    scores_rms: float = 0.0
    found: int = 0
    boxes: int = 0
    extra: int = 0
    images: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return all as plain data."""
        return asdict(self)


def rockchip(chip: str, body: Path, calibration: Sequence[Tensor], images: Sequence[Tensor], file: Path) -> list[Any]:
    """Return the raw maps of each image by rknn-toolkit2, which writes its file."""
    import numpy as np
    from rknn.api import RKNN

    names = [body.with_name(f"{i}.npy") for i in range(len(calibration))]
    for name, image in zip(names, calibration, strict=True):
        np.save(name, 255 * image.numpy())  # [1, 3, height, width]; at inference it takes channels last
    listed = body.with_name("calibration.txt")
    listed.write_text("\n".join(map(str, names)), encoding="utf-8")
    tool = RKNN(verbose=False)
    try:
        tool.config(mean_values=[[0, 0, 0]], std_values=[[255, 255, 255]], target_platform=chip)
        tool.load_onnx(model=str(body))
        tool.build(do_quantization=True, dataset=str(listed))
        tool.export_rknn(str(file))
        tool.init_runtime()
        rows = [255 * image.permute(0, 2, 3, 1).numpy() for image in images]
        return [tool.inference(inputs=[row], data_format=["nhwc"]) for row in rows]
    finally:
        tool.release()


def espressif(chip: str, body: Path, calibration: Sequence[Tensor], images: Sequence[Tensor], file: Path) -> list[Any]:
    """Return the raw maps of each image by esp-ppq, which writes its file; it also changes ``body``."""
    from esp_ppq.api import espdl_quantize_onnx
    from esp_ppq.api.setting import QuantizationSettingFactory
    from esp_ppq.executor import TorchExecutor

    setting = QuantizationSettingFactory.espdl_setting(num_of_bits=8)
    setting.quantize_activation_setting.calib_algorithm = "minmax"  # its own clips what few pixels light up
    given = {"target": chip, "num_of_bits": 8, "setting": setting, "error_report": False}
    shape = list(calibration[0].shape)
    graph = espdl_quantize_onnx(str(body), str(file), list(calibration), len(calibration), shape, **given)
    tool = TorchExecutor(graph, device="cpu")
    return [tool(image) for image in images]


#: By tool: what runs it.
SIMULATORS: dict[str, Callable[..., list[Any]]] = {"rknn-toolkit2": rockchip, "esp-ppq": espressif}


def simulate(
    body: nn.Module, target: Target, decode: Decode, calibration: Sequence[Tensor], images: Sequence[Tensor]
) -> Simulated:
    """Build a body for a chip and compare its maps and its boxes with those in float.

    Args:
        body: of raw maps, rewritten for the chip.
        target: the chip.
        decode: of the body's maps.
        calibration: inputs ``[1, 3, height, width]``, 0 to 1.
        images: others, that are compared.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, file = Path(folder) / "body.onnx", Path(folder) / "chip.bin"
        write_body(body, path, images[0])
        try:
            with silent_tools():
                given = SIMULATORS[target.simulator](target.arguments[0], path, calibration, images, file)
        except Exception as error:  # each tool raises types of its own for a network that it does not build
            return Simulated(refused=last_line(error))
        return compared(body, decode, images, given, file.stat().st_size)


def last_line(error: BaseException) -> str:
    """Return the last line of what an error says: some carry a whole trace."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()


def compared(
    body: nn.Module, decode: Decode, images: Sequence[Tensor], given: Sequence[Sequence[Any]], size: int
) -> Simulated:
    """Compare the raw maps that a chip gives for images with those of the body, and the boxes in both."""
    allowed, record = TOLERANCES["int8"], Equality()
    errors: list[list[float]] = []
    for image, found in zip(images, given, strict=True):
        with torch.no_grad():
            maps = body(image)
            others = [torch.as_tensor(x).detach().float().view_as(y) for x, y in zip(found, maps, strict=True)]
            errors.append(
                [float((a - b).square().mean().sqrt() / a.abs().max()) for a, b in zip(maps, others, strict=True)]
            )
            record.add(Outputs(decode(maps)), Outputs(decode(others)), CONF, allowed.iou, allowed.score)
    table = torch.tensor(errors).square().mean(0).sqrt()
    levels = len(table) // 2
    return Simulated(
        file=size,
        boxes_rms=float(table[:levels].max()),
        scores_rms=float(table[levels:].max()),
        found=record.matched,
        boxes=record.boxes,
        extra=record.extra,
        images=len(images),
    )
