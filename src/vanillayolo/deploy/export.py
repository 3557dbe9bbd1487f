"""From a checkpoint to a file of another library, proven by itself: what is not proven does not keep its name."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vanillayolo.atomic import whole_set
from vanillayolo.errors import DataError, UsageError, closest
from vanillayolo.places import check_folder
from vanillayolo.values import FLAG, NONE, PATH, Kind, check_values, checked, whole
from vanillayolo.yolo import VanillaModel
from vanillayolo.yolo.arguments import check_device
from vanillayolo.yolo.files import format_settings, quantize_word, write_file
from vanillayolo.yolo.kinds import KINDS
from vanillayolo.yolo.opened import Opened, open_checkpoint

from .classifier import OF_DETECTORS
from .formats import FORMATS, INT8, check_format, check_packages
from .int8 import QuantizeSettings
from .quantize import quantize_export
from .verification import Verification
from .verify import verify

#: Settings of our own, beside Ultralytics' of the format.
OWN = {"imgsz", "device", "half", "int8", "quantize", "source", "split", "verify", "verbose"}
NMS = {"conf", "iou", "max_det", "agnostic_nms"}
#: What the values of settings may be, the quantiser's among them.
VALUES: dict[str, Kind] = {
    **{key: kind | NONE for key, kind in KINDS.items()},
    "batch": whole(1, 65536) | NONE,
    "source": PATH | NONE,
    "verify": FLAG,
    **QuantizeSettings.KINDS,
    "equalize": QuantizeSettings.KINDS["equalize"] | NONE,
}
UNVERIFIED = "-unverified"


@dataclass
class Exported:
    """What an export wrote.

    Attributes:
        path: the file or folder.
        format: its format.
        verification: its proof; None where it was not asked for.
        record: the proof as JSON, beside the file.
    """

    path: Path
    format: str
    verification: Verification | None = None
    record: Path | None = None

    def __str__(self) -> str:
        """Return path and proof."""
        return f"{self.path}: not verified" if self.verification is None else f"{self.path}\n{self.verification}"


def asked_precision(format: str, settings: dict[str, Any]) -> Any:
    """Return the precision asked for (Ultralytics' ``quantize``), or refuse what the format has not.

    Raises:
        UsageError: for a setting or value that the format does not take.
    """
    check_values(settings, VALUES)
    check_device(settings.get("device"))
    word = quantize_word(settings)
    known = OWN | format_settings(format) | NMS  # of boxes: as with Ultralytics, without nms=True they do nothing
    for key in settings:
        if word != 8 and key not in known:
            raise UsageError(f"export format={format} has no key {key!r}: {closest(key, sorted(known))}")
    chosen = FORMATS[format]
    if word == 8 and not chosen.int8:
        raise UsageError(f"int8 is not available for {format}; it is for {', '.join(INT8)}.")
    if word == 16 and not chosen.half:
        raise UsageError(f"float16 is not available for {format} on a CPU; give half=False.")
    if word not in (None, 8, 16):
        raise UsageError(f"quantize={settings.get('quantize')!r}: allowed are 32, 16 and 8.")
    return word


def write_int8(model: Opened, target: Path, format: str, data: str, settings: dict[str, Any]) -> Path:
    """Write an int8 file calibrated on the training split."""
    kept = {k: v for k, v in settings.items() if k not in {"half", "int8", "quantize", "device", "verbose", "batch"}}
    return Path(quantize_export(model, format=format, data=data, path=target, **kept))


def check_classifier(word: Any, settings: dict[str, Any]) -> None:
    """Refuse what a classifier's file has not.

    Raises:
        UsageError: for int8, or suppression of boxes.
    """
    if word == 8:
        raise UsageError("int8 is for detectors; a classifier exports in float32 and float16.")
    for key in OF_DETECTORS:
        if settings.get(key) is not None:
            raise UsageError(f"export of a classifier has no key {key!r}: it finds no boxes.")


def unverified(target: Path, ending: str) -> Path:
    """Return the name of a file that is not what its checkpoint computes: ``best-unverified.onnx``."""
    return target.with_name(f"{target.name.removesuffix(ending)}{UNVERIFIED}{ending}")


@checked
def export(
    model: Opened | VanillaModel | str | Path, format: str = "torchscript", data: str | None = None, **settings: Any
) -> Exported:
    """Write the merged network in another format beside its checkpoint, and compare the file with PyTorch.

    Args:
        model: a trained detector or classifier, or its checkpoint.
        format: one of ``FORMATS``.
        data: data YAML for mAP of file and PyTorch; with int8, also for calibration. A classifier: folder whose
            validation images it is compared on.
        **settings: Ultralytics' export settings of the format (``imgsz``, ``half``, ``dynamic``, ``nms`` ...); with
            ``int8=True``, those of the quantiser; ``source`` and ``split`` of the comparison; ``verify=False`` leaves
            it out.

    Raises:
        UsageError: for an unknown format or setting, or missing packages.
        DataError: for int8 without data.
        MergeError: when a slope is below 1.
        VerificationError: when the file is not what the checkpoint computes; it is kept with ``-unverified`` in its
            name.
    """
    format = check_format(format)
    word = asked_precision(format, settings)
    if word == 8 and not data:
        raise DataError("data is missing: int8 is calibrated on the training split of data=FILE.yaml.")
    check_packages(format)
    opened = open_checkpoint(model, "export takes a checkpoint (.pt)")
    if opened.task == "classify":
        check_classifier(word, settings)
    opened.check_whole()
    checked = opened.checked_data(data, ("train", "val") if word == 8 else ("val",)) if data else None
    comparison = {k: settings.pop(k) for k in ("source", "split") if k in settings}
    proven = settings.pop("verify", True)

    origin = opened.origin
    ending = INT8[format].ending if word == 8 else FORMATS[format].ending
    target = origin.with_name(f"{origin.stem}{ending}") if origin.suffix == ".pt" else Path(f"{origin.stem}{ending}")
    check_folder("the checkpoint's folder", target.parent)
    with whole_set(target) as stage, tempfile.TemporaryDirectory(dir=stage) as name:
        folder = Path(name)
        if word == 8:
            made = write_int8(opened, folder / target.name, format, str(checked), settings)
        else:
            asked = {k: v for k, v in settings.items() if k not in {"half", "int8"} and v is not None}
            asked |= {"format": format, "quantize": word, "task": opened.task}
            made = write_file(opened.network, folder, origin.stem, asked, opened.callbacks)
        result = None
        if proven:
            inside = {k: settings[k] for k in ("conf", "iou", "agnostic_nms") if settings.get("nms") and k in settings}
            result = verify(made, opened, checked, **comparison, **inside)
            target = unverified(target, ending) if result.breaches else target
            result.file = target.name
            result.save(stage / target.name)
        made.replace(stage / target.name)
    if result is None:
        return Exported(target, format)
    result.check()
    return Exported(target, format, result, result.record_of(target))
