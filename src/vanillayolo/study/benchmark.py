"""Any list of networks and files, timed side by side in every back end and precision, all in one run.

Names and checkpoints become files first (float32, and int8 where a back end wants it; a folder keeps them for the next
run), then all of them are timed in turns, every other round in reverse order. :func:`benchmark` gives data,
:func:`render` text.
"""

from __future__ import annotations

import copy
import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

from vanillayolo.atomic import whole_set
from vanillayolo.deploy.formats import FORMATS, INT8, check_packages
from vanillayolo.deploy.int8 import QuantizeSettings
from vanillayolo.deploy.quantize import quantize
from vanillayolo.deploy.rewrites import rewritten
from vanillayolo.errors import UsageError
from vanillayolo.nn import get_negative_slope, randomize_batchnorm
from vanillayolo.tables import markdown
from vanillayolo.values import checked
from vanillayolo.yolo.arguments import fitting_imgsz
from vanillayolo.yolo.calibration import Batches
from vanillayolo.yolo.detectors import network as network_of
from vanillayolo.yolo.detectors import open_detector
from vanillayolo.yolo.exporting import AROUND, export_float
from vanillayolo.yolo.inference import trace_onnx
from vanillayolo.yolo.lean_training import has_bfloat16_instructions
from vanillayolo.yolo.model import fold_stock
from vanillayolo.yolo.opened import example_images, open_checkpoint
from vanillayolo.yolo.pictures import channels_of
from vanillayolo.yolo.runtimes import xml_of
from vanillayolo.yolo.threads import available_cores

from .cost import cost
from .latency import (
    BACKENDS,
    check_backends,
    in_words,
    litert_call,
    load_average,
    machine,
    matmul_peak,
    measure,
    mnn_call,
    ncnn_call,
    supported,
)

#: What follows a model's name to have it in training form, its neck folded: how the published model is run.
TRAINING_FORM = ":training"
Call = Callable[[], object]


@dataclass(frozen=True)
class Backend:
    """How a network is run.

    Attributes:
        form: the file that it wants: of a format, or int8 as ``onnx`` or ``openvino`` writes it; ``torch`` for none.
        call: from that file, the image's side and the number of threads (0: one a core), a call of one image.
    """

    form: str
    call: Callable[[Any, int, int], Call]


def torch_call(network: Any, imgsz: int, cores: int) -> Call:
    """Return a call of one float32 image in eager PyTorch."""
    image = torch.full((1, channels_of(network), imgsz, imgsz), 0.5)

    def call() -> object:
        threads = torch.get_num_threads()
        torch.set_num_threads(cores or available_cores())
        try:
            with torch.inference_mode():
                return network(image)
        finally:
            torch.set_num_threads(threads)

    return call


TABLE: dict[str, Backend] = {
    "torch": Backend("torch", torch_call),
    **{name: Backend("onnx", call) for name, call in BACKENDS.items()},
    "onnxruntime-int8": Backend("int8-onnx", BACKENDS["onnxruntime"]),
    "openvino-int8": Backend("int8-openvino", lambda path, *how: BACKENDS["openvino-f32"](xml_of(path), *how)),
    "openvino-int8-bf16": Backend("int8-openvino", lambda path, *how: BACKENDS["openvino-bf16"](xml_of(path), *how)),
    "ncnn": Backend("ncnn", ncnn_call),
    "mnn": Backend("mnn", mnn_call),
    "litert": Backend("litert", litert_call),
}
DEFAULT = supported(("onnxruntime", "openvino-f32", "openvino-bf16", "onnxruntime-int8", "openvino-int8"))


@dataclass
class Subject:
    """One row of the table.

    Attributes:
        name: as given.
        network: in evaluation mode, as it is run; None of an exported file.
        files: the file of every form made so far.
        parameters: None of an exported file.
        gflops: of one image, a multiply-add counted as two; None of an exported file.
    """

    name: str
    network: Any
    files: dict[str, Path]
    parameters: int | None = None
    gflops: float | None = None


def subject(name: str, imgsz: int) -> Subject:
    """Return what a name stands for: our or a stock name, a model YAML, a checkpoint, or an exported file.

    Networks without trained weights get random BN: through fresh ones the signal of a deep untrained network shrinks
    until arithmetic on denormal numbers is all that is timed.

    Raises:
        UsageError: for a name that is none of these, or an int8 or other form that cannot be had.
    """
    plain = name.removesuffix(TRAINING_FORM)
    path = Path(plain)
    if path.suffix == ".onnx" or path.suffix == ".xml" or path.is_dir():
        if not path.exists() or (path.is_dir() and not any(path.glob("*.xml"))):
            raise UsageError(f"model {name!r}: no such exported file (.onnx, .xml or an OpenVINO folder).")
        return Subject(name, None, {"onnx": xml_of(path)})
    torch.manual_seed(0)
    network: Any
    if path.suffix != ".pt":
        network = randomize_batchnorm(network_of(open_detector(plain)))
    else:
        opened = open_checkpoint(plain)
        network = opened.network.float() if plain != name else opened.merged()
    if plain != name:
        network = fold_stock(network).eval()
    elif path.suffix != ".pt":
        network = network.eval().fuse(verbose=False)
    counted = cost(network, imgsz)
    return Subject(name, network, {}, counted.parameters, counted.gflops)


def calibration(imgsz: int, channels: int) -> Batches:
    """Return generated scenes to calibrate int8 files on: of these the time is measured, not the accuracy."""
    return Batches(example_images(channels=channels)[0], imgsz, channels)


def fingerprint(network: Any) -> str:
    """Return 12 digits that stand for a network's weights, in the name of a file that is kept."""
    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        digest.update(key.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def prepare(item: Subject, form: str, imgsz: int, folder: Path) -> Any:
    """Return what a back end of this form runs, writing the file where there is none yet; None where there can be none.

    An exported file is run as it is; a training form has no int8 file.
    """
    if form == "torch":
        return item.network
    if item.network is None:
        return item.files["onnx"] if form == "onnx" else None
    if form != "onnx" and item.name.endswith(TRAINING_FORM):
        return None
    if form not in item.files:
        stem = f"{re.sub(r'[^a-z0-9]+', '-', item.name.lower())}-{imgsz}-{fingerprint(item.network)}"
        ending = FORMATS[form].ending if form in FORMATS else INT8[form.removeprefix("int8-")].ending
        item.files[form] = folder / f"{stem}{ending}"
        if not item.files[form].exists():
            write_form(item.network, form, imgsz, item.files[form])
    return item.files[form]


def write_form(network: Any, form: str, imgsz: int, path: Path) -> None:
    """Write the file of a form; it takes its name only when it is whole."""
    with tempfile.TemporaryDirectory() as folder, whole_set(path) as stage:
        place = stage / path.name
        if form == "onnx" and get_negative_slope(network) is not None:  # training form: the exporter would merge it
            with torch.no_grad():
                trace_onnx(network, place, imgsz)
            return
        if form in FORMATS:
            network = rewritten(network, FORMATS[form].rewrites)
            with AROUND.get(form, nullcontext)():
                shutil.move(export_float(network, Path(folder), "float", imgsz, form), place)
            return
        batches = calibration(imgsz, channels_of(network))
        quantize(copy.deepcopy(network), form.removeprefix("int8-"), place, batches, QuantizeSettings())


def peaks() -> dict[str, float]:
    """Return the machine's matmul peaks, in 10^9 operations a second, by type that it has instructions for."""
    types = [torch.float32, *([torch.bfloat16] if has_bfloat16_instructions() else [])]  # else 12 s a product
    return {str(d).removeprefix("torch."): matmul_peak(d) for d in types}


@checked
def benchmark(
    models: Sequence[str],
    backends: Sequence[str] = DEFAULT,
    imgsz: int = 640,
    rounds: int = 20,
    folder: str | Path | None = None,
    threads: int = 0,
) -> dict[str, Any]:
    """Time every network in every back end, one image at a time.

    Args:
        models: model names of ours and of Ultralytics (``yolo11n``, ``yolo11n-seg``), model YAMLs, checkpoints,
            exported files; a name followed by ``:training`` is run in training form, its neck folded.
        backends: keys of :data:`TABLE`.
        imgsz: side of the image, pixels.
        rounds: counted rounds of each; three more before are not.
        folder: where the files that are written stay, so that a run after this one takes them; none stay by default.
        threads: how many compute; one a core by default.

    Returns:
        The record: machine and settings, its load before, the better of the matmul peaks measured before and after,
        each model's cost, and the timings.

    Raises:
        UsageError: for an unknown back end or model, or one that does not run here.
    """
    check_backends(backends, TABLE)
    for form in filter(FORMATS.__contains__, dict.fromkeys(TABLE[b].form for b in backends)):
        check_packages(form)
    imgsz = fitting_imgsz(imgsz)
    if not models or len(set(models)) < len(models):
        raise UsageError(f"models={','.join(models)!r}: give one or more models, each once.")
    record: dict[str, Any] = {"date": date.today().isoformat(), "machine": {**machine(), "load": load_average()}}
    record["settings"] = {"imgsz": imgsz, "batch": 1, "rounds": rounds, "threads": threads or available_cores()}
    record["settings"]["backends"] = list(backends)
    with tempfile.TemporaryDirectory() as temporary:
        kept = Path(folder or temporary)
        subjects = [subject(name, imgsz) for name in models]
        ready = {(x.name, b): prepare(x, TABLE[b].form, imgsz, kept) for x in subjects for b in backends}
        before = peaks()
        calls = {f"{n}\n{b}": TABLE[b].call(file, imgsz, threads) for (n, b), file in ready.items() if file is not None}
        timings = measure(calls, rounds)
        record["peak_gflops"] = {dtype: max(value, before[dtype]) for dtype, value in peaks().items()}
    costs = {x.name: {"parameters": x.parameters, "gflops": x.gflops} for x in subjects}
    record["models"] = {name: {**cost, "milliseconds": {}} for name, cost in costs.items()}
    for timing in timings:
        name, backend = timing.name.split("\n")
        record["models"][name]["milliseconds"][backend] = {**asdict(timing), "name": name}
    return record


def share_of_peak(record: Mapping[str, Any], name: str, backend: str = "onnxruntime") -> float | None:
    """Return a network's rate in a float32 back end as a share of the machine's float32 matmul peak."""
    model = record["models"][name]
    timing = model["milliseconds"].get(backend)
    if not timing or not model["gflops"]:
        return None
    return float(model["gflops"] / timing["median"] * 1e3 / record["peak_gflops"]["float32"])


def render(record: Mapping[str, Any]) -> str:
    """Return a record as a Markdown table: median milliseconds (minimum to maximum) of one image."""
    settings, backends = record["settings"], record["settings"]["backends"]
    head = ["model", "parameters", "GFLOPs", *backends, "share of peak"]
    rows = []
    for name, model in record["models"].items():
        cells = [name, f"{model['parameters']:,}" if model["parameters"] else ""]
        cells.append(f"{model['gflops']:.1f}" if model["gflops"] else "")
        for backend in backends:
            t = model["milliseconds"].get(backend)
            cells.append(in_words(t) if t else "")
        share = share_of_peak(record, name)
        rows.append([*cells, f"{share:.0%}" if share else ""])
    peaks = ", ".join(f"{dtype} {value:,.0f} GFLOP/s" for dtype, value in record["peak_gflops"].items())
    threads = f"threads {settings['threads']}, " if "threads" in settings else ""
    about = (
        f"{record['machine']['processor']}, {record['machine']['cores']} cores; {settings['imgsz']} px, batch 1, "
        f"{threads}milliseconds, median of {settings['rounds']} (minimum to maximum); matmul peak: {peaks}; "
        "share of peak: in ONNX Runtime, float32"
    )
    return f"{markdown(head, rows)}\n\n{about}"
