"""Ultralytics' exporter on a network at hand: the file it writes opens in ``YOLO(file)``, names and strides inside.

ONNX files take the mean of the box distributions in a form that ONNX Runtime computes well.
"""

from __future__ import annotations

import copy
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics import __version__
from ultralytics.engine import exporter
from ultralytics.engine.exporter import Exporter
from ultralytics.nn.modules.block import DFL
from ultralytics.utils import LOGGER, YAML
from ultralytics.utils.files import file_size

from vanillayolo.nn.reparameterize import replace_modules

from .tasks import task_name


@contextmanager
def quiet(least: int = logging.WARNING) -> Iterator[None]:
    """Let Ultralytics report warnings and errors only, or what is of another level at least.

    Nor does torch say that functions which Ultralytics calls will be gone one day: nobody here can act on that.
    """
    level = LOGGER.level
    LOGGER.setLevel(max(level, least))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`torch\.jit\.", FutureWarning)
            yield
    finally:
        LOGGER.setLevel(level)


class DistributionMean(nn.Module):
    """The mean of the distribution of every box side, as Ultralytics' ``DFL`` computes it, without its softmax.

    Generalized Focal Loss (arXiv 2006.04388): the mean of ``softmax(x)`` over bins is the quotient of two sums of
    ``exp(x - max(x))``. Both are one product of matrices; a softmax over any but the last axis is slow in ONNX Runtime
    (benchmarks/time/decode.json; OpenVINO takes as long for either).

    Args:
        dfl: Ultralytics' module.

    Attributes:
        sums: factors of the two sums ``[2, bins]``: the bins' distances, in cells, and ones.
    """

    sums: Tensor

    def __init__(self, dfl: DFL) -> None:
        super().__init__()
        bins = dfl.conv.weight.detach().flatten()
        self.register_buffer("sums", torch.stack([bins, torch.ones_like(bins)]))

    def forward(self, x: Tensor) -> Tensor:
        """Map logits ``[batch, 4 * bins, anchors]`` to distances ``[batch, 4, anchors]``, in cells."""
        batch, _, anchors = x.shape
        x = x.view(batch, 4, self.sums.shape[1], anchors)
        sums = self.sums @ (x - x.amax(2, keepdim=True)).exp()
        return sums[:, :, 0] / sums[:, :, 1]


class MeanByConvolution(DistributionMean):
    """The same mean with its two sums as a 1x1 convolution, for compilers that refuse a constant first factor.

    Not the usual form: at 640 px on one core it takes 0.3 ms longer in ONNX Runtime and 0.9 ms in OpenVINO.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map logits ``[batch, 4 * bins, anchors]`` to distances ``[batch, 4, anchors]``, in cells."""
        batch, _, anchors = x.shape
        bins = self.sums.shape[1]
        x = x.view(batch, 4, bins, anchors)
        x = (x - x.amax(2, keepdim=True)).exp().transpose(1, 2)
        sums = F.conv2d(x, self.sums.view(2, bins, 1, 1))
        return sums[:, 0] / sums[:, 1]


@contextmanager
def any_size() -> Iterator[None]:
    """Let Ultralytics write files below 0.1 MB, which it takes for corrupt: networks for microcontrollers are smaller.

    What is written is proven by its outputs (:func:`vanillayolo.deploy.verify`), not by its size.
    """
    least = 0.11  # MB
    exporter.file_size = lambda path: max(file_size(path), least)
    try:
        yield
    finally:
        exporter.file_size = file_size


@contextmanager
def silent_tools() -> Iterator[None]:
    """Keep the progress of libraries, in Python and in C++, off the terminal."""
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with open(os.devnull, "w") as nowhere, redirect_stdout(io.StringIO()):
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
        try:
            yield
        finally:
            for number, stream, copied in zip((1, 2), streams, kept, strict=True):
                stream.flush()
                os.dup2(copied, number)
                os.close(copied)


@contextmanager
def offline_mnn() -> Iterator[None]:
    """Keep MNN's converter from installing packages and reporting to a server: it does both in its logger."""
    name = "MNN.tools.utils.log"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # importing it fails, which the converter takes
    try:
        with silent_tools():
            yield
    finally:
        sys.modules.pop(name)
        if before is not None:
            sys.modules[name] = before


#: What surrounds Ultralytics' exporter, by format.
AROUND: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "litert": silent_tools,
    "mnn": offline_mnn,
    "ncnn": silent_tools,
}


def with_distribution_mean(network: nn.Module, format: str = "onnx") -> nn.Module:
    """Give a detector that becomes an ONNX file, in place, the faster mean of box distributions; return it."""
    return replace_modules(network, {DFL: DistributionMean}) if format == "onnx" else network


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
    network = with_distribution_mean(copy.deepcopy(network), format)
    network.pt_path = str(folder / f"{stem}.pt")  # type: ignore[assignment]  # the exporter names its file by it
    network.args = {"data": ""}  # type: ignore[assignment]  # else the description names a path of this machine
    network.task = task_name(network)  # type: ignore[assignment]  # one that no interface was around has none
    size = imgsz if isinstance(imgsz, int) else list(imgsz)
    settings = {"format": format, "imgsz": size, "batch": 1, "device": "cpu", "mode": "export"}
    settings |= {"simplify": False} if format == "onnx" else {}
    with quiet(), any_size():  # it would advise on a file that lies in this folder for a moment
        return Path(str(Exporter(overrides=settings)(model=network)))


def metadata_for(network: Any, size: tuple[int, int], channels: int) -> dict[str, Any]:
    """Return what Ultralytics reads in a file that its exporter did not write: a static int8 detector of batch 1."""
    return {
        "description": "int8 detector by VanillaYOLO",
        "version": __version__,
        "stride": int(max(network.stride)),
        "task": "detect",
        "batch": 1,
        "imgsz": list(size),
        "names": {int(key): str(name) for key, name in network.names.items()},
        "args": {"quantize": 8, "nms": False, "dynamic": False},
        "channels": channels,
        "end2end": False,
    }


def write_metadata(folder: Path, metadata: dict[str, Any]) -> None:
    """Write ``metadata.yaml`` into an OpenVINO folder, as Ultralytics reads it."""
    YAML.save(folder / "metadata.yaml", metadata)
