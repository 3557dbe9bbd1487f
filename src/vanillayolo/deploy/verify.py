"""The numerical proof of an exported file: raw outputs, final boxes and mAP against PyTorch, with tolerances."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vanillayolo.errors import UsageError, VerificationError
from vanillayolo.values import checked
from vanillayolo.yolo import VanillaModel
from vanillayolo.yolo.files import ExportedFile, Suppression, mean_average_precision
from vanillayolo.yolo.inference import dataset_images, letterbox, read_image
from vanillayolo.yolo.opened import Opened, open_checkpoint
from vanillayolo.yolo.outputs import Outputs, raw_outputs
from vanillayolo.yolo.pictures import channels_of, usable_images

from .classifier import verify_classifier
from .equality import Equality
from .graph import precision
from .onnx_graph import suppression_settings
from .operating import operating_point
from .power import Judge, measure_power
from .running import batches, input_sizes, open_file, same_shapes, wrongly_said
from .verification import MeanAveragePrecision, Tolerance, Verification

#: Images that scores of an int8 file are compared on, at most.
OPERATING_IMAGES = 64
#: Score that every trained detector reaches somewhere on images of its own kind.
UNTRAINED = 0.01


def surest(reference: nn.Module, images: list[Tensor], least: float | None = None) -> tuple[float, Tensor]:
    """Return the score from which boxes are compared, and the image that has most of them.

    The score is ``least`` where given, else 0.25, or, where no box is so sure, half the highest score. Where the
    highest is an untrained network's, 0.25 too: which of its thousands of equal boxes suppression leaves is decided by
    rounding.
    """
    scores = [raw_outputs(reference, x).scores.amax(1) for x in images]
    highest = max(float(s.max()) for s in scores)
    conf = least or (highest / 2 if UNTRAINED <= highest < 0.25 else 0.25)
    return conf, images[max(range(len(images)), key=lambda i: int((scores[i] >= conf).sum()))]


def suppression_of(path: Path, file: ExportedFile, x: Tensor, *given: Any) -> Suppression | None:
    """Return how the suppression inside a file is set; None where there is none.

    What the file says, or its graph shows, goes before what is given. How many boxes it gives at most is the length of
    its output.
    """
    if not file.suppressed:
        return None
    longest = int(file(batches([x], file.batch)[0]).shape[1])
    if file.one_to_one:
        return Suppression(conf=0.001, iou=1.0, max_det=longest)
    names = [f.name for f in fields(Suppression)]
    known = {"max_det": longest} | {k: v for k, v in zip(names, given, strict=False) if v is not None}
    shown = suppression_settings(path) if file.format == "onnx" else {}
    return Suppression(**known | shown | file.suppression)


def compare_file(
    file: ExportedFile,
    reference: nn.Module,
    images: list[Tensor],
    conf: float,
    allowed: Tolerance,
    inside: Suppression | None,
) -> Equality:
    """Compare a file with a network on inputs ``[1, channels, height, width]`` of one size, in the file's batches.

    Raises:
        VerificationError: when the shapes of their outputs differ.
    """
    record = Equality()
    for x in batches(images, file.batch):
        expected, found = raw_outputs(reference, x), file.tensors(x)
        if inside:
            for i, boxes in enumerate(found[0]):
                own = [boxes, *(x[i : i + 1] for x in found[1:])]
                record.add_suppressed(expected.image(i), own, inside, conf, allowed.iou, allowed.score)
            continue
        record.add(expected, same_shapes(expected, found, file.name), conf, allowed.iou, allowed.score)
    return record


def judge_of(result: Verification, inside: Suppression | None) -> Judge:
    """Return the judgement of a comparison of raw outputs of PyTorch, as the one of the file is."""
    allowed = result.tolerance

    def judge(expected: Outputs, changed: Outputs) -> bool:
        record = Equality()
        trial = replace(result, records={"": record}, map=None)
        if inside:
            boxes = changed.objects(inside.conf, inside.iou, inside.agnostic_nms, inside.max_det)[0]
            record.add_suppressed(expected, [boxes, *changed.maps], inside, result.conf, allowed.iou, allowed.score)
            return bool(trial.breaches)
        record.add_outputs(expected, changed)
        if trial.breaches:  # boxes need not be asked
            return True
        record.add(expected, changed, result.conf, allowed.iou, allowed.score)
        return bool(trial.breaches)

    return judge


def compare_at_sizes(
    result: Verification,
    path: Path,
    file: ExportedFile,
    network: nn.Module,
    files: list[Path],
    sizes: list[tuple[int, int]],
    *asked: Any,
) -> tuple[Suppression | None, Tensor]:
    """Compare a detector's file with its merged network at every size, and put the records into ``result``.

    Args:
        result: what is known of the file.
        path: the file.
        file: the same, opened.
        network: the merged network.
        files: the images.
        sizes: heights and widths, pixels.
        *asked: conf, iou and agnostic_nms of suppression for a file that does not say its own.

    Returns:
        The suppression inside the file, and the image ``[1, channels, height, width]`` with most boxes.

    Raises:
        VerificationError: when channels or outputs are of other shapes than the network's.
    """
    channels = channels_of(network)
    if file.channels != channels:
        raise VerificationError(f"{path.name}: takes {file.channels} channels, {result.reference} takes {channels}.")
    pictures = [read_image(p, channels) for p in files]
    inputs = {f"{h}x{w}": [letterbox(picture, (h, w)) for picture in pictures] for h, w in sizes}
    first = next(iter(inputs.values()))
    inside = suppression_of(path, file, first[0], *asked)
    # A file with suppression inside has no box below its own threshold: there, only PyTorch has.
    least = inside.conf + result.tolerance.score if inside and not file.one_to_one else None
    result.conf, best = surest(network, first, least)
    for size, batch in inputs.items():
        result.records[size] = compare_file(file, network, batch, result.conf, result.tolerance, inside)
    return inside, best


def begun(path: Path, file: ExportedFile, network: nn.Module, checkpoint: Opened, where: str) -> Verification:
    """Return what is known of a file before it is compared on images from ``where``."""
    said = wrongly_said(file, network, checkpoint.task)
    kind = precision(path, file.format, file.metadata)
    return Verification(path.name, checkpoint.origin.name, file.format, kind, file.suppressed, where, said=said)


@checked
def verify(
    model: str | Path,
    reference: Opened | VanillaModel | str | Path,
    data: str | None = None,
    source: str | Path | None = None,
    imgsz: Any = None,
    split: str = "val",
    images: int = 8,
    conf: float | None = None,
    iou: float | None = None,
    agnostic_nms: bool | None = None,
) -> Verification:
    """Compare an exported file with the checkpoint it was made from. Nothing is raised for a breach: see ``breaches``.

    Args:
        model: the file or folder.
        reference: the checkpoint.
        data: data YAML: with it, mAP of both on the same squares, and its images serve.
        source: image or folder to compare on; images of ``data``, the training's own data, or scenes by default.
        imgsz: side or height and width, pixels, where the file does not say or takes any.
        split: split of ``data`` for mAP.
        images: how many images to compare outputs on, at most.
        conf: smallest score that suppression inside the file lets through, where the file does not say (0.25).
        iou: overlap it suppresses from, likewise (0.7).
        agnostic_nms: whether it suppresses across classes, likewise (no).

    Raises:
        VanillaYOLOError: for what does not exist or fit, a slope below 1, or outputs of other shapes.
    """
    if not (path := Path(model)).exists():
        raise UsageError(f"model={str(model)!r}: no such file; give an exported file or folder.")
    checkpoint = open_checkpoint(reference, "the reference is a checkpoint (.pt)")
    if checkpoint.task == "classify":
        return verify_classifier(path, checkpoint, data, source, imgsz, images)
    checked = checkpoint.checked_data(data, ("val", split)) if data else None
    files, where = checkpoint.images(checked, source, images)
    file = open_file(path)
    network = checkpoint.merged(file.one_to_one)
    sizes = input_sizes(file, imgsz, path.name)
    result = begun(path, file, network, checkpoint, where)
    inside, best = compare_at_sizes(result, path, file, network, files, sizes, conf, iou, agnostic_nms)
    if result.precision == "int8" and not inside and file.batch == 1:
        shown = usable_images(dataset_images(checked, split), OPERATING_IMAGES, file.channels) if checked else files
        inputs = (letterbox(read_image(p, file.channels), sizes[0]) for p in shown)
        result.operating = operating_point(file, network, inputs)
    if checked:
        add_map(result, path, network, sizes[0], checked, split, inside, checkpoint.task)
    if not result.breaches:  # a wrong file needs no proof of what would have been seen
        result.power = measure_power(network, best, judge_of(result, inside))
    return result


def add_map(
    result: Verification,
    path: Path,
    network: nn.Module,
    size: tuple[int, int],
    data: str,
    split: str,
    inside: Suppression | None,
    task: str,
) -> None:
    """Add mAP of file and network, both on letterboxed squares, with the suppression that the file has inside."""
    if size[0] != size[1]:
        result.note = f"mAP not taken: Ultralytics validates on squares, the file takes {size[0]}x{size[1]}"
        return
    file_map, network_map = (mean_average_precision(m, data, size[0], split, inside, task) for m in (path, network))
    result.map = MeanAveragePrecision(data, split, size[0], file_map, network_map)
