"""The numerical proof of an exported classifier: its probabilities against PyTorch's, on images."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vanillayolo.errors import UsageError
from vanillayolo.yolo.inference import cropped, read_image
from vanillayolo.yolo.opened import Opened
from vanillayolo.yolo.outputs import Outputs, raw_outputs

from .equality import ProbabilityEquality
from .graph import precision
from .power import FAULTS, OUTPUTS, Judge, doubts, measure_power
from .running import batches, input_sizes, open_file, same_shapes, wrongly_said
from .verification import Verification

#: By precision of the file, how far a probability may be from PyTorch's. It is a softmax, so its own scale is 1.
TOLERANCES = {"float32": 1e-4, "float16": 0.03}
#: The comparison's settings that a classifier has no use for.
OF_DETECTORS = ("conf", "iou", "nms", "max_det", "agnostic_nms")


@dataclass
class ClassifierVerification(Verification):
    """What an exported classifier was found to compute; ``records`` are of :class:`ProbabilityEquality`.

    Which of two nearly equal classes comes first is decided by rounding, so the probabilities alone are judged.
    """

    records: dict[str, Any] = field(default_factory=dict)

    @property
    def allowed(self) -> float:
        """How far a probability may be from PyTorch's."""
        return TOLERANCES[self.precision]

    @property
    def breaches(self) -> list[str]:
        """What is wrong of what the file says, then what is out of tolerance, one line each."""
        return self.said + [
            f"probabilities at {size} differ by {record.outputs[0].absolute:.3g} (allowed {self.allowed:g})"
            for size, record in self.records.items()
            if not record.outputs[0].absolute <= self.allowed
        ]

    @property
    def doubts(self) -> list[str]:
        """Why this comparison proves nothing: a softmax that is sure hides small faults, so a layer at 0 is asked."""
        return doubts(self.power, FAULTS[2], OUTPUTS)

    def to_dict(self) -> dict[str, Any]:
        """Return everything that a classifier has as plain data."""
        plain = {k: v for k, v in asdict(self).items() if k not in ("suppressed", "conf", "map")}
        return {**plain, "tolerance": {"probabilities": self.allowed}, **self.judgement()}

    def __str__(self) -> str:
        """Return the record, a line a size."""
        lines = [
            f"  {size}: probabilities differ by {record.outputs[0].absolute:.2e} at most (allowed {self.allowed:g}), "
            f"same class {record.agreed}/{record.images} ({self.source})"
            for size, record in self.records.items()
        ]
        lines += [f"  {self.power}"] if self.power else []
        head = f"{self.file} ({self.format}, {self.precision}) against {self.reference}: {self.verdict}"
        return "\n".join([head, *lines])


def verify_classifier(
    path: Path,
    checkpoint: Opened,
    data: str | None = None,
    source: str | Path | None = None,
    imgsz: Any = None,
    images: int = 8,
) -> ClassifierVerification:
    """Compare an exported classifier with its checkpoint; see :func:`vanillayolo.deploy.verify`.

    Args:
        path: the file or folder.
        checkpoint: what it was made from.
        data: classification folder whose validation images serve; the training's own by default.
        source: image or folder instead.
        imgsz: side, pixels, where the file does not say or takes any.
        images: how many images to compare on, at most.

    Raises:
        UsageError: for a size that is not square, or a precision that is not compared.
        VerificationError: when the file gives another number of classes.
    """
    network = checkpoint.merged()
    files, where = checkpoint.images(checkpoint.checked_data(data) if data else None, source, images)
    file = open_file(path)
    sizes = [size for size in input_sizes(file, imgsz, path.name) if size[0] == size[1]]  # the centre crop is square
    if not sizes:
        raise UsageError(f"{path.name}: takes inputs that are not square; a classifier's images are cropped square.")
    kind = precision(path, file.format, file.metadata)
    if kind not in TOLERANCES:
        raise UsageError(f"{path.name}: {kind}; a classifier is compared in {' and '.join(TOLERANCES)}.")
    origin = checkpoint.origin.name
    said = wrongly_said(file, network, checkpoint.task)
    result = ClassifierVerification(path.name, origin, file.format, kind, False, where, said=said)
    for size in sizes:
        record = result.records[f"{size[0]}x{size[1]}"] = ProbabilityEquality()
        inputs = [cropped(read_image(image, checkpoint.channels), size[0]) for image in files]
        for x in batches(inputs, file.batch):
            expected = raw_outputs(network, x)
            record.add(expected, same_shapes(expected, file.tensors(x), path.name))
    if not result.breaches:  # a wrong file needs no proof of what would have been seen
        result.power = measure_power(network, inputs[0], told_apart(result.allowed))
    return result


def told_apart(allowed: float) -> Judge:
    """Return the judgement of a comparison of probabilities."""

    def judge(expected: Outputs, changed: Outputs) -> bool:
        record = ProbabilityEquality()
        record.add(expected, changed)
        return not record.outputs[0].absolute <= allowed

    return judge
