"""From a checkpoint to a file of another library, proven by itself: what is not proven does not keep its name."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vanillayolo.atomic import whole_set
from vanillayolo.errors import DataError, UsageError, closest
from vanillayolo.places import check_folder
from vanillayolo.values import FLAG, NONE, PATH, Kind, check_values, checked, whole
from vanillayolo.yolo import VanillaModel
from vanillayolo.yolo.arguments import check_device, fitting_imgsz
from vanillayolo.yolo.files import format_settings, quantize_word, write_file
from vanillayolo.yolo.kinds import KINDS
from vanillayolo.yolo.opened import Opened, open_checkpoint
from vanillayolo.yolo.tasks import TASKS

from .body import write_outside
from .classifier import OF_DETECTORS
from .contract import contract_of, write_contract
from .formats import FORMATS, INT8, check_format, check_int8, check_packages
from .int8 import QuantizeSettings
from .proof import add_proof
from .quantize import quantize_export
from .rewrites import rewritten
from .targets import target_row
from .verification import Verification
from .verify import verify
from .web import check_page, write_page

#: Settings of our own, beside Ultralytics' of the format.
OF_PROOF = {"source", "split", "verify"}
OWN = OF_PROOF | {"imgsz", "device", "half", "int8", "quantize", "verbose"}
#: Settings of a float file without decode.
BARE = {"decode", "imgsz", "device", "int8", "half", "quantize", "verbose"}
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


def asked_precision(format: str, settings: dict[str, Any], data: str | None) -> Any:
    """Return the precision asked for (Ultralytics' ``quantize``), or refuse what the format has not.

    Raises:
        UsageError: for a setting or value that the format does not take.
        DataError: for int8 without data.
    """
    check_values(settings, VALUES)
    check_device(settings.get("device"))
    word = quantize_word(settings)
    known = OWN | format_settings(format) | NMS  # of boxes: as with Ultralytics, without nms=True they do nothing
    if word is None and format == "onnx":
        known = OF_PROOF | BARE if settings.get("decode") == "outside" else known | {"decode"}
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
    if word == 8 and not data:
        raise DataError("data is missing: int8 is calibrated on the training split of data=FILE.yaml.")
    return word


def write(
    opened: Opened,
    place: Path,
    format: str,
    word: Any,
    data: str | None,
    rewrites: Sequence[str],
    settings: dict[str, Any],
) -> Path:
    """Write a file into an empty folder, in int8 calibrated on the training split, and return it.

    Args:
        opened: the checkpoint.
        place: the file; a float one has its name from the folder and the checkpoint.
        format: its format.
        word: its precision, as :func:`asked_precision` has it.
        data: checked data YAML.
        rewrites: exact changes of the network.
        settings: the user's.
    """
    if word == 8:
        left = OF_PROOF | {"half", "int8", "quantize", "device", "verbose", "batch"}
        kept = {k: v for k, v in settings.items() if k not in left}
        return Path(quantize_export(opened, format, str(data), path=place, rewrites=rewrites, **kept))
    if settings.get("decode") == "outside":
        size = fitting_imgsz(settings.get("imgsz") or opened.imgsz or 640)
        sides = (size, size) if isinstance(size, int) else (size[0], size[-1])
        return write_outside(rewritten(opened.merged(), rewrites), place, sides)
    asked = {k: v for k, v in settings.items() if k not in OF_PROOF | {"half", "int8", "decode"} and v is not None}
    asked |= {"format": format, "quantize": word, "task": opened.task}
    network = rewritten(opened.merged(), rewrites) if rewrites else opened.network
    return write_file(network, place.parent, opened.origin.stem, asked, opened.callbacks)


def for_target(target: str | None, format: str | None, settings: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return the format and the rewrites of a file, of a chip or for none; a chip's settings join the user's, in place.

    Raises:
        UsageError: for an unknown chip, or another format or precision than its compiler takes.
    """
    if target is None:
        format = check_format(format or "torchscript")
        return format, FORMATS[format].rewrites
    chip = target_row(target)
    if not chip.format:
        raise UsageError(f"target={target}: its tool takes no exported file; cost target={target} builds it.")
    if format not in (None, chip.format):
        raise UsageError(f"format={format}: target={target} takes {chip.format}; omit format.")
    for key, value in chip.settings:
        settings.setdefault(key, value)
    if ("int8", True) in chip.settings and quantize_word(settings) != 8:
        raise UsageError(f"target={target}: takes int8 alone; omit int8 and quantize.")
    return chip.format, chip.rewrites


def check_task(task: str, word: Any, format: str, settings: dict[str, Any]) -> None:
    """Refuse what files of a task have not.

    Raises:
        UsageError: for int8 that the format has not of it, or suppression inside of other tasks than detection.
    """
    if word == 8:
        check_int8(format, task)
    if task == "detect":
        return
    for key in (*OF_DETECTORS, "target"):
        if settings.get(key) and (key in ("nms", "target") or not TASKS[task].finds_boxes):
            raise UsageError(f"export of task={task} has no key {key!r}: it is for detectors.")


def unverified(target: Path, ending: str) -> Path:
    """Return the name of a file that is not what its checkpoint computes: ``best-unverified.onnx``."""
    return target.with_name(f"{target.name.removesuffix(ending)}{UNVERIFIED}{ending}")


def place_of(origin: Path, ending: str) -> Path:
    """Return where the file of a checkpoint goes: beside it, or here where it was never saved.

    Raises:
        UsageError: where nothing can be written.
    """
    path = origin.with_name(f"{origin.stem}{ending}") if origin.suffix == ".pt" else Path(f"{origin.stem}{ending}")
    check_folder("the checkpoint's folder", path.parent)
    return path


def put(made: Path, target: Path, contract: dict[str, Any], result: Verification | None, page: bool) -> None:
    """Put a file, or the page that runs it, in its place, with its contract and its proof beside it."""
    if result:
        add_proof(result, made, contract)
    if page:
        write_page(made, contract, target)
    else:
        write_contract(target, contract)
        made.replace(target)
    if result:
        result.save(target)


@checked
def export(
    model: Opened | VanillaModel | str | Path,
    format: str | None = None,
    data: str | None = None,
    target: str | None = None,
    **settings: Any,
) -> Exported:
    """Write the merged network in another format beside its checkpoint, and compare the file with PyTorch.

    Args:
        model: a trained detector or classifier, or its checkpoint.
        format: one of ``FORMATS``; the target's, or ``torchscript``, where not given.
        data: data YAML for mAP of file and PyTorch; with int8, also for calibration. A classifier: folder whose
            validation images it is compared on.
        target: a chip, a row of ``TARGETS``: the exact rewrites for it are applied; its name stands in the file's.
        **settings: Ultralytics' export settings of the format; with ``int8=True``, those of the quantiser; ``source``
            and ``split`` of the comparison; ``verify=False`` leaves it out.

    Raises:
        UsageError, DataError: for an unknown format or setting, missing packages, int8 without data.
        MergeError: when a slope is below 1.
        VerificationError: when the file, kept with ``-unverified`` in its name, is not what the checkpoint computes.
    """
    asked, rewrites = for_target(target, format, settings)
    format = FORMATS[asked].page_of or asked
    word = asked_precision(format, settings, data)
    if asked != format:
        check_page(settings)
    opened = open_checkpoint(model, "export takes a checkpoint (.pt)")
    check_task(opened.task, word, format, {**settings, "target": target, "format": asked})
    check_packages(format, int8=word == 8)  # last: nobody installs packages to hear of what there is not
    opened.check_whole()
    checked = opened.checked_data(data, ("train", "val") if word == 8 else ("val",)) if data else None
    inside = ("conf", "iou", "agnostic_nms") if settings.get("nms") else ()
    comparison = {k: settings[k] for k in ("source", "split", *inside) if k in settings}
    ending = INT8[format].ending if word == 8 else FORMATS[format].ending
    path = place_of(opened.origin, f"{f'_{target}' if target else ''}{ending}")
    with whole_set(path) as stage, tempfile.TemporaryDirectory(dir=stage) as folder:
        made = write(opened, Path(folder) / path.name, format, word, checked, rewrites, settings)
        result = verify(made, opened, checked, **comparison) if settings.get("verify", True) else None
        if result:
            path = unverified(path, ending) if result.breaches else path
            result.file, result.target, result.rewrites = path.name, target or "", list(rewrites)
        contract = contract_of(made, path.name, format, opened.task, result) | {"target": target, "rewrites": rewrites}
        page = asked != format and not (result and result.breaches)
        path = place_of(opened.origin, FORMATS[asked].ending) if page else path
        put(made, stage / path.name, contract, result, page)
    if result:
        result.check()
    return Exported(path, asked, result, result.record_of(path) if result else None)
