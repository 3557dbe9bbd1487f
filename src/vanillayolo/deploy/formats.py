"""The export formats as a table: names of their files, packages, precisions, int8 writers, readers of their graphs.

All that differs between formats stands in their rows. What they share does not: Ultralytics' exporter writes the float
files, its back ends run all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from torch import nn

from vanillayolo.errors import UsageError, closest
from vanillayolo.yolo.calibration import Batches
from vanillayolo.yolo.files import missing_packages
from vanillayolo.yolo.tasks import FINDING

from . import int8, litert, onnx_graph, openvino_graph
from .int8 import QuantizeSettings


@dataclass(frozen=True)
class Int8:
    """A library's int8 file.

    Attributes:
        ending: of the file's name, as Ultralytics names its own.
        write: writes it, from a merged network that is equalised.
        levels: steps on each side of 0 of a convolution's weight, by ``weight_bits``.
        equalize: the equalisation that its roundings ask for.
        making: packages that write it, beyond those of the format.
        decode: where its decode may be.
        tasks: whose networks it is written of.
    """

    ending: str
    write: Callable[[nn.Module, Path, Batches, QuantizeSettings], None]
    levels: Callable[[nn.Conv2d, int], float]
    equalize: str
    making: tuple[str, ...] = ()
    decode: tuple[str, ...] = ("inside",)
    tasks: tuple[str, ...] = FINDING


PIXELS = "pixels of the input"
#: Ultralytics divides a LiteRT file's boxes, so that one scale may serve them and scores; its runner multiplies again.
SHARES = "shares of the input's width and height"


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        ending: what follows the checkpoint's stem in the file's name.
        running: packages that run it.
        making: further packages that write it.
        extra: the extra of this package that installs both.
        half: whether it has float16 on a CPU.
        int8: its int8 files; None where there are none.
        graph: the module that reads its graphs (``nodes``, ``weight_types``, ``int8_convolutions``, ``taps``), or None.
        input, output: names of its tensors; None where they are known by their places.
        unit: of a float file's boxes.
        rewrites: exact changes of the network, for its library's sake; a chip's own go before.
        page_of: of a web page's folder: the format of the file in it, which all but the folder is of; None for others.
    """

    ending: str
    running: tuple[str, ...] = ()
    making: tuple[str, ...] = ()
    extra: str = "export"
    half: bool = False
    int8: Int8 | None = None
    graph: ModuleType | None = None
    input: str | None = None
    output: str | None = None
    unit: str = PIXELS
    rewrites: tuple[str, ...] = ()
    page_of: str | None = None


#: XNNPACK has fast depthwise kernels up to 25 taps; a 7x7 takes 20 (float32) to 200 times (int8) as long as a 5x5.
FEW_TAPS = ("depthwise-in-three",)
FORMATS = {
    "torchscript": Format(".torchscript"),
    "onnx": Format(
        ".onnx",
        ("onnx>=1.17", "onnxruntime>=1.20"),
        ("onnxslim>=0.1.82",),
        half=True,
        int8=Int8(
            "_int8.onnx",
            int8.write_onnx,
            lambda conv, bits: 64 if bits == 7 and conv.groups == 1 else 127,
            equalize="activations",
        ),
        graph=onnx_graph,
        input="images",
        output="output0",
    ),
    "openvino": Format(
        "_openvino_model",
        ("openvino>=2025.2",),
        half=True,
        # NNCF halves the range, 127 steps for both sides together, but for depthwise convolutions, which sum no
        # channels. Their input has a scale for each channel, so that nothing in it needs to be equal, and no row of a
        # weight has a scale below a hundredth of the largest row's: what counts is that rows are alike, which equation
        # 11 sees to.
        int8=Int8(
            "_int8_openvino_model",
            int8.write_openvino,
            lambda conv, bits: 63.5 if bits == 7 and conv.groups == 1 else 127,
            equalize="weights",
            making=("nncf>=3.0",),
        ),
        graph=openvino_graph,
    ),
    # pnnx: later versions write files that ncnn crashes on (Ultralytics' own pin)
    "ncnn": Format("_ncnn_model", ("ncnn",), ("pnnx==20260526",), extra="ncnn", half=True, input="in0", output="out0"),
    "litert": Format(
        ".tflite",
        ("ai-edge-litert>=2.3.0",),
        ("litert-torch>=0.10.0",),
        extra="litert",
        int8=Int8(
            "_int8.tflite",
            litert.write_litert,
            lambda conv, bits: 127,
            equalize="activations",
            making=("ai-edge-quantizer>=0.10.0",),
            decode=("inside", "outside"),
            tasks=("detect",),
        ),
        input="args_0",
        output="output_0",
        unit=SHARES,
        rewrites=FEW_TAPS,
    ),
    "mnn": Format(
        ".mnn",
        ("MNN>=3.6",),
        ("onnx>=1.17", "onnxslim>=0.1.82"),
        extra="mnn",
        half=True,
        input="images",
        output="output0",
    ),
    "executorch": Format("_executorch_model", ("executorch>=1.5",), extra="executorch", rewrites=FEW_TAPS),
}
FORMATS["web"] = replace(FORMATS["onnx"], ending="_web", int8=None, graph=None, page_of="onnx")
#: The int8 files by format.
INT8 = {name: format.int8 for name, format in FORMATS.items() if format.int8}


def check_int8(format: str, task: str) -> None:
    """Raise UsageError for int8 of a format that has none of a task."""
    if task not in INT8[format].tasks:
        able = ", ".join(name for name, row in INT8.items() if task in row.tasks)
        told = f"int8 of task={task} is for {able}, not for {format}" if able else "int8 is for detectors"
        raise UsageError(f"{told}; task={task} exports in float32 to every format.")


def check_format(format: object) -> str:
    """Return the name of a format.

    Raises:
        UsageError: for one that is not exported here.
    """
    name = str(format).lower()
    if name not in FORMATS:
        raise UsageError(
            f"format={format!r}: {closest(name, FORMATS)} (Ultralytics exports others from a collapsed checkpoint, "
            "which 'vanillayolo collapse' writes)."
        )
    return name


def format_of(path: Path) -> str:
    """Return the format of an exported file by its name.

    Raises:
        UsageError: for a file that is none.
    """
    for name, format in FORMATS.items():
        if path.name.endswith(format.ending) and (path.is_dir() or format.ending.startswith(".")):
            if format.page_of:
                raise UsageError(f"{path}: a page; give the NAME{FORMATS[format.page_of].ending} file in it.")
            return name
    endings = ", ".join(f"NAME{format.ending}" for format in FORMATS.values() if not format.page_of)
    raise UsageError(f"{path}: not an exported file; allowed: {endings}.")


def check_packages(format: str, run_only: bool = False, int8: bool = False) -> None:
    """Raise UsageError, with what to install, unless the packages of a format are there."""
    chosen = FORMATS[format]
    quantiser = chosen.int8.making if int8 and chosen.int8 else ()
    missing = missing_packages([*chosen.running, *(() if run_only else chosen.making), *quantiser])
    if missing:
        raise UsageError(
            f"format={format} needs {', '.join(missing)}: pip install 'vanillayolo[{chosen.extra}]' installs them."
        )


def graph_of(path: Path) -> ModuleType:
    """Return what reads the graph of a file.

    Raises:
        UsageError: for one that nothing reads.
    """
    for format in FORMATS.values():
        if format.graph and path.exists() and format.graph.is_file(path):
            return format.graph
    raise UsageError(f"{path}: layers are read of ONNX (.onnx) and OpenVINO (folder, .xml) files that exist.")
