"""What runs an exported file of each format: its own library, with numpy, without torch or Ultralytics."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .errors import UsageError, VerificationError, one_line


class Runtime(NamedTuple):
    """A file that is open: names and shapes of its tensors, None where its library does not say; what runs it."""

    inputs: list[tuple[Any, Any]]
    outputs: list[tuple[Any, Any]]
    run: Callable[[np.ndarray], Sequence[np.ndarray]]


def _onnx(library: Any, path: Path) -> Runtime:
    session = library.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs, outputs = (
        [(x.name, [side if isinstance(side, int) else None for side in x.shape]) for x in found]
        for found in (session.get_inputs(), session.get_outputs())
    )
    return Runtime(inputs, outputs, lambda x: session.run(None, {inputs[0][0]: x}))


def _openvino(library: Any, path: Path) -> Runtime:
    # processors with AMX, and Arm's, would compute float32 in 16 bits
    model = library.Core().compile_model(next(path.glob("*.xml")), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs, outputs = (
        [(None, [side.get_length() if side.is_static else None for side in x.partial_shape]) for x in found]
        for found in (model.inputs, model.outputs)
    )
    return Runtime(inputs, outputs, lambda x: list(model(x).values()))


def _ncnn(library: Any, path: Path) -> Runtime:
    net = library.Net()
    for option in ("vulkan_compute", "fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    net.load_param(str(next(path.glob("*.param"))))
    net.load_model(str(next(path.glob("*.bin"))))
    given, names = net.input_names()[0], sorted(net.output_names())

    def run(x: np.ndarray) -> list[np.ndarray]:
        extractors = [net.create_extractor() for _ in x]
        for extractor, picture in zip(extractors, x, strict=True):
            extractor.input(given, library.Mat(picture))
        return [np.stack([np.array(e.extract(name)[1]) for e in extractors]) for name in names]

    return Runtime([(given, None)], [(name, None) for name in names], run)


def _litert(library: Any, path: Path) -> Runtime:
    runner = library.Interpreter(str(path)).get_signature_runner()
    inputs, outputs = (
        sorted(((name, x["shape"].tolist()) for name, x in found.items()), key=lambda x: int(x[0].rpartition("_")[2]))
        for found in (runner.get_input_details(), runner.get_output_details())
    )

    def run(x: np.ndarray) -> list[np.ndarray]:
        found = runner(**{inputs[0][0]: x})
        return [found[name] for name, _ in outputs]

    return Runtime(inputs, outputs, run)


def _mnn(library: Any, path: Path) -> Runtime:
    manager = library.nn.create_runtime_manager(({"precision": "high", "backend": "CPU", "numThread": 1},))
    net, expr = library.nn.load_module_from_file(str(path), [], [], runtime_manager=manager), library.expr
    inputs, outputs = ([(name, None) for name in net.get_info()[key]] for key in ("inputNames", "outputNames"))

    def run(x: np.ndarray) -> list[np.ndarray]:
        given = expr.const(x, list(x.shape), expr.NCHW, expr.float)
        return [np.array(found.read()) for found in net.onForward([given])]

    return Runtime(inputs, outputs, run)


def _torchscript(library: Any, path: Path) -> Runtime:
    network = library.jit.load(str(path)).eval()

    def run(x: np.ndarray) -> list[np.ndarray]:
        with library.inference_mode():
            found = network(library.from_numpy(x))
        return [y.numpy() for y in (found if isinstance(found, (tuple, list)) else [found])]

    return Runtime([], [], run)


#: By format: its package, the module of it that runs files, and how one is opened.
RUNTIMES: dict[str, tuple[str, str, Callable[[Any, Path], Runtime]]] = {
    "onnx": ("onnxruntime", "onnxruntime", _onnx),
    "openvino": ("openvino", "openvino", _openvino),
    "ncnn": ("ncnn", "ncnn", _ncnn),
    "litert": ("ai-edge-litert", "ai_edge_litert.interpreter", _litert),
    "mnn": ("MNN", "MNN", _mnn),
    "torchscript": ("torch", "torch", _torchscript),
}


def open_runtime(path: Path, format: str) -> tuple[Runtime, str]:
    """Return a file, open to compute in float32 where it does, and what runs it, as ``onnxruntime 1.32.0 on x86_64``.

    Raises:
        UsageError: where the runtime is not installed.
        VerificationError: where it does not open the file.
    """
    package, module, open_file = RUNTIMES[format]
    try:
        library, top = importlib.import_module(module), importlib.import_module(module.partition(".")[0])
    except ImportError as error:
        raise UsageError(f"{path.name}: runs with {package} ({one_line(error)}); pip install {package}.") from error
    try:
        return open_file(library, path), f"{package} {getattr(top, '__version__', '')} on {platform.machine()}"
    except Exception as error:  # each library raises types of its own
        raise VerificationError(f"{path.name}: {package} does not open it here ({one_line(error)}).") from error
