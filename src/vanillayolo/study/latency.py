"""How long networks take, measured side by side: every round times each of them once, in turning order.

Machines drift; a comparison holds only between figures of one run, taken in turns. Measuring and rendering are apart:
:func:`measure` gives data, :func:`table` text.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vanillayolo.errors import UsageError, closest
from vanillayolo.tables import markdown
from vanillayolo.yolo.lean_training import has_bfloat16_instructions
from vanillayolo.yolo.threads import available_cores

_RUNTIMES = ("onnxruntime", "openvino", "nncf", "ncnn", "MNN", "ai-edge-litert")
PACKAGES = ("vanillayolo", "torch", "ultralytics", "timm", "numpy", *_RUNTIMES)


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call over all rounds."""

    name: str
    median: float
    minimum: float
    maximum: float
    rounds: int

    @classmethod
    def of(cls, name: str, milliseconds: Sequence[float]) -> Timing:
        """Return the summary of the times given."""
        return cls(name, statistics.median(milliseconds), min(milliseconds), max(milliseconds), len(milliseconds))


def machine() -> dict[str, Any]:
    """Return what a figure must stand beside: processor, cores, system, versions."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="ignore").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": name,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": available_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def matmul_peak(dtype: torch.dtype, size: int = 2048, seconds: float = 1.0) -> float:
    """Return the best rate of square matrix products on all cores, in 10^9 operations a second."""
    a, b = (torch.rand(size, size).to(dtype) for _ in range(2))
    threads = torch.get_num_threads()
    torch.set_num_threads(available_cores())
    times: list[float] = []
    try:
        a @ b  # the first one packs and allocates
        while sum(times) < seconds or len(times) < 3:
            begin = time.perf_counter()
            a @ b
            times.append(time.perf_counter() - begin)
    finally:
        torch.set_num_threads(threads)
    return 2 * size**3 / min(times) / 1e9


def load_average() -> float | None:
    """Return how many processes wanted a core in the last minute, this one among them; None where no system says so."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def measure(calls: Mapping[str, Callable[[], object]], rounds: int = 20, warmup: int = 3) -> list[Timing]:
    """Time every call ``rounds`` times, one of each in turn, every other round in reverse order.

    Args:
        calls: what to time, by name.
        rounds: counted rounds.
        warmup: rounds before, not counted.

    Raises:
        UsageError: for fewer than one round.
    """
    if rounds < 1 or warmup < 0:
        raise UsageError(f"rounds={rounds}, warmup={warmup}: give at least one round.")
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(-warmup, rounds):
        for name in list(calls)[:: -1 if i % 2 else 1]:
            calls[name]()  # not timed: the threads of the one before still spin, waiting for more, on the same cores
            begin = time.perf_counter()
            calls[name]()
            if i >= 0:
                times[name].append((time.perf_counter() - begin) * 1e3)
    return [Timing.of(name, values) for name, values in times.items()]


def onnxruntime_call(path: str | Path, imgsz: int, threads: int = 0) -> Callable[[], object]:
    """Return a call of one float32 image ``[1, channels, imgsz, imgsz]``, or of static maps, in ONNX Runtime.

    So many threads compute, one a core by default.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.log_severity_level = 3
    # Else a session's threads spin on after its run, on the cores of the network timed next, for several milliseconds.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {x.name: np.full(_sides(x.shape, imgsz), 0.5, np.float32) for x in session.get_inputs()}
    return lambda: session.run(None, feed)


def openvino_call(path: str | Path, imgsz: int, threads: int = 0, hint: str = "f32") -> Callable[[], object]:
    """Return the same in OpenVINO with the precision hint ``f32`` or ``bf16``.

    The default hint runs "float32" networks in bfloat16 on processors with AMX; parity needs ``f32``.
    """
    import openvino

    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads or available_cores(),
    }
    compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
    request = compiled.create_infer_request()
    shapes = [[x if x.is_dynamic else x.get_length() for x in given.partial_shape] for given in compiled.inputs]
    feed = [np.full(_sides(shape, imgsz), 0.5, np.float32) for shape in shapes]
    return lambda: request.infer(feed)


def _sides(shape: Sequence[Any], imgsz: int) -> list[int]:
    """Return a file's shape of an input, its open sides those of one image."""
    return [x if isinstance(x, int) else side for x, side in zip(shape, (1, 3, imgsz, imgsz), strict=True)]


def ncnn_call(folder: Path, imgsz: int, threads: int = 0) -> Callable[[], object]:
    """Return the same of a colour image in ncnn, of the folder that ``export`` writes."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads or available_cores()
    net.load_param(str(folder / "model.ncnn.param"))
    net.load_model(str(folder / "model.ncnn.bin"))
    image = ncnn.Mat(np.full((3, imgsz, imgsz), 0.5, np.float32))

    def call() -> object:
        extractor = net.create_extractor()  # keeps what it has computed: each image wants its own
        extractor.input("in0", image)
        return [extractor.extract(name)[1] for name in net.output_names()]  # what is not asked for is not computed

    return call


def mnn_call(path: Path, imgsz: int, threads: int = 0) -> Callable[[], object]:
    """Return the same of a colour image in MNN, float32 throughout."""
    import MNN

    settings = ({"precision": "high", "backend": "CPU", "numThread": threads or available_cores()},)
    runtime = MNN.nn.create_runtime_manager(settings)
    net = MNN.nn.load_module_from_file(str(path), ["images"], [], runtime_manager=runtime, rearrange=True)
    image = np.full((1, 3, imgsz, imgsz), 0.5, np.float32)
    given = MNN.expr.convert(MNN.expr.const(image, image.shape), MNN.expr.NC4HW4)
    return lambda: [output.read() for output in net.onForward([given])]


def litert_call(path: Path, imgsz: int, threads: int = 0) -> Callable[[], object]:
    """Return the same in LiteRT, whose CPU kernels are XNNPACK's."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads or available_cores())
    interpreter.allocate_tensors()
    for given in interpreter.get_input_details():
        interpreter.set_tensor(given["index"], np.full(given["shape"], 0.5).astype(given["dtype"]))
    return lambda: interpreter.invoke()


BACKENDS: dict[str, Callable[..., Callable[[], object]]] = {
    "onnxruntime": onnxruntime_call,
    "openvino-f32": partial(openvino_call, hint="f32"),
    "openvino-bf16": partial(openvino_call, hint="bf16"),
}


def supported(backends: Iterable[str]) -> tuple[str, ...]:
    """Return the back ends that this CPU runs as they are called.

    Without instructions for bfloat16, OpenVINO takes the hint and runs in float32.
    """
    return tuple(b for b in backends if not b.endswith("-bf16") or has_bfloat16_instructions())


def check_backends(backends: Iterable[str], known: Iterable[str] = BACKENDS) -> None:
    """Raise UsageError for a back end that is not known, or that this CPU does not run as it is called."""
    for backend in backends:
        if backend not in known:
            raise UsageError(f"backend {backend!r}: {closest(str(backend), known)}")
        if not supported([backend]):
            raise UsageError(f"backend {backend!r}: this CPU has no instructions for bfloat16; leave it out.")


def latency(files: Mapping[str, str | Path], backends: Sequence[str], imgsz: int, rounds: int = 20) -> dict[str, Any]:
    """Time ONNX files in back ends, all in one run.

    Args:
        files: ONNX file by the name it shall have in the table.
        backends: keys of :data:`BACKENDS`.
        imgsz: side of the image, pixels.
        rounds: counted rounds of each.

    Returns:
        The record: machine, settings and, for every back end, the timings in milliseconds.

    Raises:
        UsageError: for a back end that is unknown, or that this CPU does not run as it is called.
    """
    check_backends(backends)
    record: dict[str, Any] = {"machine": machine(), "imgsz": imgsz, "batch": 1, "rounds": rounds, "milliseconds": {}}
    for backend in backends:
        calls = {name: BACKENDS[backend](path, imgsz) for name, path in files.items()}
        record["milliseconds"][backend] = {t.name: asdict(t) for t in measure(calls, rounds)}
    return record


def table(record: Mapping[str, Any]) -> str:
    """Return a record of :func:`latency` as a Markdown table: median milliseconds (minimum to maximum)."""
    backends = list(record["milliseconds"])
    names = list(next(iter(record["milliseconds"].values())))
    rows = [[name, *(in_words(record["milliseconds"][b][name]) for b in backends)] for name in names]
    return markdown(["model", *backends], rows)


def in_words(timing: Mapping[str, Any]) -> str:
    """Return a timing as a cell of a table: median (minimum to maximum), milliseconds."""
    return f"{timing['median']:.1f} ({timing['minimum']:.1f} to {timing['maximum']:.1f})"
