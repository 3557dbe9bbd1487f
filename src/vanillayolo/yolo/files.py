"""Exported files by way of Ultralytics: writing one, reading what it says of itself, running it, its mAP."""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.engine.exporter import Exporter, export_formats
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.backends.base import BaseBackend
from ultralytics.utils.checks import check_version
from ultralytics.utils.nms import non_max_suppression

from vanillayolo.errors import CheckpointError, UsageError, VerificationError, one_line
from vanillayolo.prove import digest_of
from vanillayolo.valid_json import read_json

from .engines import ENGINES
from .exporting import AROUND, any_size, quiet, with_distribution_mean
from .runtimes import own_runtimes
from .tasks import TASKS


@dataclass(frozen=True)
class Suppression:
    """Suppression inside a file, with Ultralytics' defaults.

    Attributes:
        conf: smallest score that it lets through.
        iou: overlap from which the surer box of two stays alone.
        agnostic_nms: whether boxes of different classes suppress each other.
        max_det: how many boxes it gives, at most.
    """

    conf: float = 0.25
    iou: float = 0.7
    agnostic_nms: bool = False
    max_det: int = 300


class DescribingExporter(Exporter):
    """Ultralytics' exporter; the file also says how suppression inside it is set, which Ultralytics leaves out."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; the metadata with what is missing in them."""
        if name == "metadata" and self.args.nms:
            inside = {f.name: getattr(self.args, f.name) for f in fields(Suppression)}
            value = {**value, "args": {**value["args"], **inside}}
        super().__setattr__(name, value)


def metadata_of(path: Path) -> dict[str, Any]:
    """Return what an exporter wrote into a file, read without its library."""
    said = BaseBackend.read_metadata(path)
    BaseBackend.apply_metadata(SimpleNamespace(dynamic=False), said)
    return said


def contract_file(path: Path) -> Path:
    """Return where the contract of a file stands: ``NAME.contract.json`` beside it."""
    return path.with_name(f"{path.name}.contract.json")


#: Version of the keys of a contract and of what they mean; a reader refuses a higher one.
CONTRACT = 1


def own_conf(path: Path) -> float | None:
    """Return the score from which a file's boxes count, as its contract says; None without one of it that is known."""
    try:
        said = read_json(contract_file(path))
        conf = float(said["suppression"]["conf"])
        same = said["contract"] <= CONTRACT and said["sha256"] == digest_of(path)
    except (OSError, ValueError, LookupError, TypeError, OverflowError):
        return None
    return conf if same and 0 <= conf <= 1 and not said["suppression"].get("inside") else None


class ExportedFile:
    """An exported detector, run by its own library in float32 where the file is float32.

    Args:
        path: the file or folder.

    Attributes:
        name: of the file or folder.
        format: Ultralytics' word for the format (``onnx``).
        metadata: what the exporter wrote into the file; empty where it is another's.
        imgsz: height and width of its input, pixels; None where the file does not say.
        dynamic: whether it takes other sizes.
        suppressed: whether suppression is inside: it returns final boxes.
        one_to_one: whether it has no suppression, because its head finds every object once; it returns final boxes too.
        suppression: what the file says of the settings of that, by the names of :class:`Suppression`.
        channels: of its images.
        batch: images to give it at once: its own number; two where it takes any, so that both are seen to be right.
    """

    def __init__(self, path: str | Path) -> None:
        with own_runtimes(), quiet():
            self._backend = AutoBackend(str(path), device=torch.device("cpu"), verbose=False)
        self.name = Path(path).name
        self.format = str(self._backend.format)
        self.metadata: dict[str, Any] = dict(self._backend.metadata)
        size = self.metadata.get("imgsz")
        self.imgsz = None if size is None else ((size, size) if isinstance(size, int) else (int(size[0]), int(size[1])))
        self.dynamic = bool(self.metadata.get("dynamic"))
        self.suppressed = bool(self.metadata.get("end2end"))
        said = self.metadata.get("args") or {}
        self.one_to_one = self.suppressed and not said.get("nms")
        self.suppression = {f.name: said[f.name] for f in fields(Suppression) if said.get(f.name) is not None}
        self.channels = int(self.metadata.get("channels") or 3)
        self.batch = 2 if self.dynamic else int(self.metadata.get("batch") or 1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the first of :meth:`tensors`."""
        return self.tensors(x)[0]

    def tensors(self, x: Tensor) -> list[Tensor]:
        """Return all that the file computes from ``[batch, 3, height, width]``.

        Returns:
            The outputs of its task (:class:`vanillayolo.yolo.outputs.Outputs`), the first of a detector
            ``[batch, 4 + classes, anchors]`` (xywh in pixels, scores), or, with suppression inside,
            ``[batch, boxes, 6]`` (xyxy in pixels, score, class; score 0 where there is no box).

        Raises:
            VerificationError: when it does not run on such an input.
        """
        try:
            with torch.inference_mode():
                out = self._backend(x)
        except Exception as error:  # each library raises types of its own
            reason = one_line(error) or type(error).__name__
            size = "x".join(map(str, x.shape))
            raise VerificationError(f"{self.name}: does not run on {size} ({reason}); export it again.") from error
        return [torch.as_tensor(np.array(x)) for x in (out if isinstance(out, (tuple, list)) else [out])]


def check_runs(path: str, name: str, task: str, device: torch.device, imgsz: Any = None) -> None:
    """Raise CheckpointError unless an exported file opens, takes images and gives what its task asks for.

    Args:
        path: the file or folder.
        name: what to call it.
        task: what it is for.
        device: where it is to run.
        imgsz: pixels, for a file that does not say its size.
    """
    try:
        with quiet(), own_runtimes(float32=False):
            backend = AutoBackend(path, device=device, verbose=False)
            said = backend.metadata
            size = said.get("imgsz") or imgsz or 640
            height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
            image = torch.zeros(int(said.get("batch") or 1), int(said.get("channels") or 3), height, width)
            with torch.inference_mode():
                found = backend(image.to(device))
        found = [torch.as_tensor(x) for x in (found if isinstance(found, (list, tuple)) else [found])]
        if not all(x.isfinite().all() for x in found):
            raise ValueError("gives values that are not finite")
        shapes = [list(x.shape) for x in found]
        shape, points = shapes[0], said.get("kpt_shape") or (0, 0)
        classes = len(backend.names) if said.get("names") else None
    except Exception as error:  # every library has its own
        raise CheckpointError(f"{name}: cannot be opened and run ({one_line(error)}); export it again.") from error
    if task == "classify":
        fits, wanted = len(shape) == 2 and classes in (None, shape[1]), f"[images, {classes or 'classes'}]"
    else:
        known = {"detect": 0, "obb": 1, "pose": points[0] * points[1], "segment": shapes[-1][1]}
        extra, maps = known[task], len(shapes) == 1 + len(TASKS[task].maps)
        more = f" + {extra}" if extra else ""
        if said.get("end2end"):
            fits, wanted = len(shape) == 3 and shape[2] == 6 + extra and maps, f"[images, boxes, 6{more}]"
        else:
            rows = shape[1] if len(shape) == 3 else 0
            fits = rows > 4 + extra and classes in (None, rows - 4 - extra) and maps
            wanted = f"[images, 4 + {classes or 'classes'}{more}, anchors]"
    if not fits:
        raise CheckpointError(f"{name}: gives {shape}, where {wanted} is to be; export it again.")


class SingleLabelValidator(DetectionValidator):
    """Validation with one class a box, as suppression inside an exported file has it; Ultralytics counts several."""

    def postprocess(self, preds: Tensor) -> list[dict[str, Tensor]]:
        """Suppress with the best class of each box only."""
        a = self.args
        boxes = non_max_suppression(
            preds, a.conf, a.iou, agnostic=a.agnostic_nms, max_det=a.max_det, end2end=self.end2end
        )
        return [{"bboxes": x[:, :4], "conf": x[:, 4], "cls": x[:, 5], "extra": x[:, 6:]} for x in boxes]


def mean_average_precision(
    model: nn.Module | Path,
    data: str,
    imgsz: int,
    split: str = "val",
    inside: Suppression | None = None,
    task: str = "detect",
) -> tuple[float, float]:
    """Return mAP50-95 and mAP50 of a network or an exported file, on images letterboxed to squares.

    They are those that the task is judged by: of boxes, masks, key points or turned boxes.

    Args:
        model: a detector, or the path of a file.
        data: a checked data YAML.
        imgsz: side of the square, pixels.
        split: split of the data.
        inside: suppression as an exported file has it inside, one class a box; that of Ultralytics' validation
            where not given.
        task: what the network is for.
    """
    settings = {"data": data, "imgsz": imgsz, "split": split, "batch": 4, "rect": False, "plots": False}
    settings |= {"verbose": False, "mode": "val", "task": task, "device": "cpu"}
    settings |= asdict(inside) if inside else {}
    with tempfile.TemporaryDirectory() as folder, own_runtimes(), quiet():
        kind = SingleLabelValidator if inside else ENGINES[task]["validator"]
        validator = kind(args=settings, save_dir=Path(folder) / "val")
        validator(model=copy.deepcopy(model) if isinstance(model, nn.Module) else str(model))
    found = getattr(validator.metrics, TASKS[task].metric)
    return float(found.map), float(found.map50)


def format_settings(format: str) -> set[str]:
    """Return the settings, beside size and precision, that Ultralytics' exporter takes for one of its formats."""
    table = export_formats()
    return set(table["Arguments"][table["Argument"].index(format)])


def quantize_word(settings: dict[str, Any]) -> Any:
    """Return the precision asked for as Ultralytics' ``quantize``: None (float32), 16, 8 or another of its words.

    Raises:
        UsageError: for a word that is none.
    """
    asked = settings.get("quantize") or (8 if settings.get("int8") else 16 if settings.get("half") else None)
    try:
        word = get_cfg(overrides={"quantize": asked}).quantize
    except (TypeError, ValueError, SyntaxError) as error:
        raise UsageError(f"export: {one_line(error, 1000)}") from error
    return None if word == 32 else word


def missing_packages(requirements: Iterable[str]) -> list[str]:
    """Return those of ``name>=1.2`` that are not installed in such a version."""
    from importlib.metadata import PackageNotFoundError, version

    missing = []
    for requirement in requirements:
        name = re.split("[<>=]", requirement)[0]
        try:
            fits = check_version(version(name), requirement[len(name) :])
        except PackageNotFoundError:
            fits = False
        if not fits:
            missing.append(requirement)
    return missing


def write_file(network: nn.Module, folder: Path, stem: str, settings: dict[str, Any], callbacks: Any = None) -> Path:
    """Export a copy of a network into a folder with Ultralytics' exporter, with nothing of this machine inside.

    Args:
        network: the detector; the exporter merges it.
        folder: an empty folder.
        stem: name of the file without suffix.
        settings: Ultralytics' export settings.
        callbacks: Ultralytics' callbacks.
    """
    network = with_distribution_mean(copy.deepcopy(network), settings["format"])
    args = dict(getattr(network, "args", None) or {})
    network.pt_path = str(folder / f"{stem}.pt")  # type: ignore[assignment]  # the exporter names its file by it
    network.args = {"imgsz": args.get("imgsz", 640), "data": ""}  # type: ignore[assignment]  # it describes the file
    fixed = {"imgsz": args.get("imgsz", 640), "batch": 1, "verbose": False, "mode": "export", "task": "detect"}
    # quiet: it would name the folder, which is not where the file will be
    with AROUND.get(settings["format"], nullcontext)(), quiet(), any_size():
        return Path(str(DescribingExporter(overrides={**fixed, **settings}, _callbacks=callbacks)(model=network)))
