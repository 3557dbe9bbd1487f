"""How long a network takes, predicted: a chain costs what its parts cost, each distinct one timed once, at its best.

The parts are the stages of the backbone and the rows after it, each by itself in the runtime. By itself a part pays for
its call and for the runtime's change of layout too: one network, timed whole, says what share of the sum is left of it.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vanillayolo.nn import randomize_batchnorm
from vanillayolo.nn.hooks import listening
from vanillayolo.yolo.detectors import network as network_of
from vanillayolo.yolo.detectors import open_detector
from vanillayolo.yolo.inference import trace_onnx
from vanillayolo.yolo.model import fold_stock
from vanillayolo.yolo.pictures import channels_of

from .latency import BACKENDS, machine, measure
from .records import read_record, write_record

#: What the modules of a network know of their place in it; of no effect on their time.
PLACE = {"i", "f", "np", "training", "type", "shape"}
ROUNDS = 20
KNOWN = (int, float, bool, str, tuple)


class Part(nn.Module):
    """A part of a network as a network of its own; where it takes a list of maps, each is an input.

    Attributes:
        maps: what it is given in one run of the network.
        key: stands for the part: what it computes, and the shapes of its maps.
    """

    def __init__(self, inner: nn.Module, given: Any) -> None:
        super().__init__()
        self.inner, self.listed = inner, isinstance(given, (list, tuple))
        self.maps: list[Tensor] = list(given) if self.listed else [given]
        facts = [repr(inner), *(f"{k} {list(v.shape)}" for k, v in inner.state_dict().items())]
        for module in inner.modules():
            facts.append(str({k: v for k, v in vars(module).items() if type(v) in KNOWN and k not in PLACE}))
        self.shapes = [list(x.shape) for x in self.maps]
        self.key = hashlib.sha256("\n".join([*facts, str(self.shapes)]).encode()).hexdigest()[:16]

    def forward(self, *maps: Tensor) -> Any:
        """Run it."""
        return self.inner(list(maps) if self.listed else maps[0])


def shipped_form(model: str | Path) -> Any:
    """Return a network as it ships, its normalisation random: an untrained one would be timed on denormal numbers."""
    torch.manual_seed(0)
    network: Any = fold_stock(randomize_batchnorm(network_of(open_detector(model))).float().eval())
    return network.fuse(verbose=False).eval()


def parts_of(network: Any, imgsz: int) -> list[Part]:
    """Return the parts of a network that is run on one image of this side, in the order of the run."""
    found: list[Part] = []
    rows = [part for row in network.model for part in ((row.stem, *row.stages) if hasattr(row, "stages") else (row,))]
    head = network.model[-1]
    head.export, head.format = True, "onnx"

    def note(row: nn.Module, given: tuple[Any, ...], _: Any) -> None:
        found.append(Part(row, given[0]))

    with listening(((row, row) for row in rows), note), torch.inference_mode():
        network(torch.rand(1, channels_of(network), imgsz, imgsz))
    return [part for part in found if type(part.inner).__name__ != "Index"]  # takes a map out of a list: nothing


def write_part(part: Part, path: Path) -> Path:
    """Write a part as static ONNX."""
    with torch.no_grad():
        maps = tuple(x.clone() for x in part.maps)
        torch.onnx.export(part.eval(), maps, str(path), opset_version=18, dynamo=False)
    return path


class StageCosts:
    """The table of parts and their times in one back end, kept in a file.

    Args:
        file: of the table; one of another machine, back end or size is made anew.
        backend: a key of ``vanillayolo.study.latency.BACKENDS``.
        imgsz: side of the image, pixels.
        base: the model that is timed whole besides.
    """

    def __init__(self, file: Path, backend: str, imgsz: int, base: str | Path) -> None:
        self.file, self.backend, self.imgsz = file, backend, imgsz
        about = {"processor": machine()["processor"], "cores": machine()["cores"], "backend": backend, "imgsz": imgsz}
        self.record: dict[str, Any] = {**about, "share": None, "stages": {}}
        if file.exists():
            known = read_record(file, {"stages": dict})
            self.record = known if about.items() <= known.items() else self.record
        if self.record["share"] is None:
            self._calibrate(shipped_form(base))

    def _calibrate(self, network: Any) -> None:
        """Time a network whole and note the share of the sum of its parts."""
        parts = self._known(network)
        with tempfile.TemporaryDirectory() as folder:
            call = BACKENDS[self.backend](trace_onnx(network, Path(folder) / "whole.onnx", self.imgsz), self.imgsz)
            whole = measure({"whole": call}, ROUNDS)[0].minimum
        self.record["share"] = whole / sum(self.record["stages"][part.key]["milliseconds"] for part in parts)
        write_record(self.file, self.record)

    def _known(self, network: Any) -> list[Part]:
        """Return a network's parts, those timed that were not yet."""
        parts = parts_of(network, self.imgsz)
        stages = self.record["stages"]
        new = {part.key: part for part in parts if part.key not in stages}
        with tempfile.TemporaryDirectory() as folder:
            files = {key: write_part(part, Path(folder) / f"{key}.onnx") for key, part in new.items()}
            calls = {key: BACKENDS[self.backend](file, self.imgsz) for key, file in files.items()}
            timings = measure(calls, ROUNDS)
        for timing in timings:
            part = new[timing.name]
            about = {"module": type(part.inner).__name__, "inputs": part.shapes}
            stages[timing.name] = {**about, "milliseconds": timing.minimum}
        if new:
            write_record(self.file, self.record)
        return parts

    def predict(self, model: str | Path) -> float:
        """Return the milliseconds of one image, predicted; parts that are not in the table are timed first."""
        parts = self._known(shipped_form(model))
        return float(self.record["share"] * sum(self.record["stages"][part.key]["milliseconds"] for part in parts))
