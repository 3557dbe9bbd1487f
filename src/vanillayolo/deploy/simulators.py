"""Chips whose tools compute their int8 file here: what of a network survives the rounding, box by box.

Each tool takes the network up to its raw maps (:mod:`vanillayolo.yolo.raw_maps`) and calibration images, and gives the
maps that the chip would give. It says no times.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from traceback import walk_tb
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from vanillayolo.errors import UsageError
from vanillayolo.valid_json import read_json
from vanillayolo.yolo.exporting import silent_tools
from vanillayolo.yolo.outputs import Outputs
from vanillayolo.yolo.raw_maps import Decode

from .body import OPSET, write_body
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
        memory: of the chip that it takes, bytes; 0 where the tool does not say.
        boxes_rms, scores_rms: error of the raw maps, root mean square, as a share of the largest value in float.
        found, boxes, extra: boxes that float and the chip both have, that float has, that the chip alone has.
        images: how many images were compared.
    """

    refused: str = ""
    file: int = 0
    memory: int = 0
    boxes_rms: float = 0.0
    scores_rms: float = 0.0
    found: int = 0
    boxes: int = 0
    extra: int = 0
    images: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return all as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Built:
    """What a tool made of a body.

    Attributes:
        maps: the raw maps of each image.
        memory: as in :class:`Simulated`.
    """

    maps: list[Any]
    memory: int = 0


class RefusedError(Exception):
    """What a tool says of a network that it does not build."""


@contextmanager
def refusals_of(package: str) -> Iterator[None]:
    """Let what is raised inside of a package be its refusal; what is raised on the way there stays as it is."""
    try:
        yield
    except Exception as error:  # each tool raises types of its own
        frames = (frame for frame, _ in walk_tb(error.__traceback__))
        if not any(str(frame.f_globals.get("__name__")).split(".")[0] == package for frame in frames):
            raise
        raise RefusedError(last_line(error)) from error


def rockchip(chip: str, body: nn.Module, calibration: Sequence[Tensor], images: Sequence[Tensor], file: Path) -> Built:
    """Build by rknn-toolkit2, which has a simulator."""
    import numpy as np
    from rknn.api import RKNN

    names = [file.with_name(f"{i}.npy") for i in range(len(calibration))]
    for name, image in zip(names, calibration, strict=True):
        np.save(name, 255 * image.numpy())  # [1, channels, height, width]; at inference it takes channels last
    listed, float_file = file.with_name("calibration.txt"), file.with_name("body.onnx")
    listed.write_text("\n".join(map(str, names)), encoding="utf-8")
    write_body(body, float_file, images[0])
    tool = RKNN(verbose=False)
    try:
        channels = images[0].shape[1]
        tool.config(mean_values=[[0] * channels], std_values=[[255] * channels], target_platform=chip)
        with refusals_of("rknn"):  # some failures raise, others are told by a number
            if tool.load_onnx(model=str(float_file)) or tool.build(do_quantization=True, dataset=str(listed)):
                raise RefusedError("it gives no reason")
        tool.export_rknn(str(file))
        tool.init_runtime()
        rows = [255 * image.permute(0, 2, 3, 1).numpy() for image in images]
        return Built([tool.inference(inputs=[row], data_format=["nhwc"]) for row in rows])
    finally:
        tool.release()


def espressif(chip: str, body: nn.Module, calibration: Sequence[Tensor], images: Sequence[Tensor], file: Path) -> Built:
    """Build by esp-ppq, whose quantised graph runs in PyTorch."""
    from esp_ppq.api import espdl_quantize_onnx
    from esp_ppq.api.setting import QuantizationSettingFactory
    from esp_ppq.executor import TorchExecutor

    float_file = file.with_name("body.onnx")  # the tool saves its own graph over it
    write_body(body, float_file, images[0])
    setting = QuantizationSettingFactory.espdl_setting(num_of_bits=8)
    setting.quantize_activation_setting.calib_algorithm = "minmax"  # its own clips what few pixels light up
    given = {"target": chip, "num_of_bits": 8, "setting": setting, "error_report": False}
    shape = list(calibration[0].shape)
    with refusals_of("esp_ppq"):
        graph = espdl_quantize_onnx(str(float_file), str(file), list(calibration), len(calibration), shape, **given)
    tool = TorchExecutor(graph, device="cpu")
    return Built([tool(image) for image in images])


def sony(chip: str, body: nn.Module, calibration: Sequence[Tensor], images: Sequence[Tensor], file: Path) -> Built:
    """Build by model-compression-toolkit, whose int8 network runs in PyTorch, and Sony's converter, which packs it."""
    import model_compression_toolkit as mct

    if shutil.which("java") is None:
        raise UsageError(f"target={chip} needs Java, which runs its converter: install default-jre-headless (Debian).")

    def samples() -> Iterator[list[Tensor]]:
        yield from ([image] for image in calibration)

    capabilities = mct.get_target_platform_capabilities(tpc_version="1.0", device_type=chip)
    quantize = mct.ptq.pytorch_post_training_quantization
    for module in body.modules():  # the tracer follows no list of chunks, as stock networks have
        if hasattr(module, "forward_split"):
            module.forward = module.forward_split  # type: ignore[assignment]
    whole = nn.Sequential(body)  # nor *args, which a network at the root has
    with refusals_of("model_compression_toolkit"):
        network = quantize(whole, samples, target_platform_capabilities=capabilities)[0].cpu()
    with torch.no_grad():
        maps = [network(image) for image in images]
    int8, folder = file.with_name("int8.onnx"), file.with_name("converted")
    # The toolkit exports as PyTorch did before 2.9 by default; the exporter of today refuses its layers.
    with patch.object(torch.onnx, "export", partial(torch.onnx.export, dynamo=False)):
        given = {"save_model_path": str(int8), "repr_dataset": samples, "onnx_opset_version": OPSET}
        mct.exporter.pytorch_export_model(network, **given)
    words = [f"{Path(sys.executable).with_name('imxconv-pt')}", "-i", f"{int8}", "-o", f"{folder}"]
    words += ["--report-size-unit", "B"]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    if run.returncode:
        said = [line for line in (run.stdout + run.stderr).splitlines() if "ERROR" in line]
        raise RefusedError(said[0] if said else "it gives no reason")
    (folder / "packerOut.zip").replace(file)
    (report,) = folder.glob("*_MemoryReport.json")
    return Built(maps, int(read_json(report)["Memory Report"]["Memory Usage"].removesuffix("B")))


#: By tool: what builds a body for a chip and writes the chip's file.
SIMULATORS: dict[str, Callable[..., Built]] = {
    **{"rknn-toolkit2": rockchip, "esp-ppq": espressif, "model-compression-toolkit": sony}
}


def simulate(
    body: nn.Module, target: Target, decode: Decode, calibration: Sequence[Tensor], images: Sequence[Tensor]
) -> Simulated:
    """Build a body for a chip and compare its maps and its boxes with those in float.

    Args:
        body: of raw maps, rewritten for the chip.
        target: the chip.
        decode: of the body's maps.
        calibration: inputs ``[1, channels, height, width]``, 0 to 1.
        images: others, that are compared.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "chip.bin"
        try:
            with silent_tools():
                built = SIMULATORS[target.simulator](target.arguments[0], body, calibration, images, file)
        except RefusedError as error:
            return Simulated(refused=str(error))
        return replace(compared(body, decode, images, built.maps), file=file.stat().st_size, memory=built.memory)


def last_line(error: BaseException) -> str:
    """Return the last line of what an error says: some carry a whole trace."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()


def compared(body: nn.Module, decode: Decode, images: Sequence[Tensor], given: Sequence[Sequence[Any]]) -> Simulated:
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
        boxes_rms=float(table[:levels].max()),
        scores_rms=float(table[levels:].max()),
        found=record.matched,
        boxes=record.boxes,
        extra=record.extra,
        images=len(images),
    )
