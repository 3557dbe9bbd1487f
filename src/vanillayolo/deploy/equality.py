"""How equal two detectors are, in numbers: raw outputs and final boxes on the same images."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from vanillayolo.yolo.files import Suppression
from vanillayolo.yolo.inference import suppress

#: A box is matched when the other network has one of its class that overlaps at least so much,
MATCH_IOU = 0.9
#: with a score that differs by at most so much.
MATCH_SCORE = 0.02
#: More boxes than suppression leaves of an image.
MANY = 100_000


@dataclass
class Difference:
    """Difference of one output over all images.

    Attributes:
        name: ``boxes`` (xywh, pixels) or ``scores`` (0 to 1).
        absolute: largest absolute difference, in the output's unit.
        relative: that divided by the reference's largest magnitude.
    """

    name: str
    absolute: float = 0.0
    relative: float = 0.0

    def add(self, reference: Tensor, other: Tensor) -> None:
        """Add the same part of both networks' outputs; where one of them is not finite, the difference is infinite."""
        if not reference.numel():  # a file with suppression inside may give no box at all
            return
        largest, scale = float((reference - other).abs().max()), float(reference.abs().max())
        if not (math.isfinite(largest) and math.isfinite(scale)):  # max() and > would let a NaN through
            largest, scale = math.inf, 1.0
        self.absolute = max(self.absolute, largest)
        self.relative = max(self.relative, largest / scale if scale else largest)


class Compared:
    """What records of comparisons have in common: ``outputs``, one entry an output."""

    outputs: list[Difference]

    @property
    def worst(self) -> Difference:
        """The output with the largest relative difference."""
        return max(self.outputs, key=lambda d: d.relative)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return asdict(self)  # type: ignore[call-overload]  # a dataclass


@dataclass
class Equality(Compared):
    """The record of a comparison.

    Attributes:
        images: how many images were compared.
        outputs: one entry an output.
        boxes: boxes that the reference finds after suppression.
        matched: how many of them the other network finds too.
        extra: boxes that only the other network finds.
    """

    images: int = 0
    outputs: list[Difference] = field(default_factory=lambda: [Difference("boxes"), Difference("scores")])
    boxes: int = 0
    matched: int = 0
    extra: int = 0

    def __str__(self) -> str:
        """Return the record in one line."""
        parts = [f"{d.name} {d.absolute:.2g} ({d.relative:.1e} relative)" for d in self.outputs]
        return f"{self.images} images: largest difference {', '.join(parts)}; boxes matched {self.matched}/{self.boxes}"

    def add(
        self,
        reference: Tensor,
        other: Tensor,
        conf: float = 0.25,
        iou: float = MATCH_IOU,
        score: float = MATCH_SCORE,
    ) -> None:
        """Add one batch of raw outputs ``[batch, 4 + classes, anchors]`` of both networks."""
        self.add_outputs(reference, other)
        least = max(conf - score, conf / 2)
        both = (suppress(raw.float(), least) for raw in (reference, other))
        for a, b in zip(*both, strict=True):
            self.add_boxes(a, b, conf, iou, score)

    def add_outputs(self, reference: Tensor, other: Tensor) -> None:
        """Add the differences of one batch of raw outputs, not their boxes."""
        reference, other = reference.double(), other.double()
        for output, part in zip(self.outputs, (slice(0, 4), slice(4, None)), strict=True):
            output.add(reference[:, part], other[:, part])

    def add_suppressed(
        self, raw: Tensor, boxes: Tensor, inside: Suppression, conf: float, iou: float, score: float
    ) -> None:
        """Add what suppression inside a file left of one image, against the reference's raw output.

        Args:
            raw: ``[1, 4 + classes, anchors]`` of the reference.
            boxes: ``[n, 6]`` of the file; score 0 where there is no box.
            inside: the settings of the suppression in the file.
            conf: score from which boxes are compared.
            iou: overlap from which a box is found.
            score: difference of its scores up to which it is.
        """
        for output, values in zip(self.outputs, (boxes, raw), strict=True):
            output.add(values, values)  # infinite where not finite: neither > 0 nor suppression shows that
        least = max(conf - 2 * score, conf / 4)
        wanted = suppress(raw.float(), least, inside.iou, inside.agnostic_nms, MANY)[0]
        if len(wanted) > inside.max_det:  # which of nearly equal boxes is the last one is decided by rounding
            conf = max(conf, float(wanted[inside.max_det - 1, 4]) + score)
        self.add_boxes(wanted, boxes[boxes[:, 4] > 0], conf, iou, score)

    def add_boxes(
        self, reference: Tensor, other: Tensor, conf: float, iou: float = MATCH_IOU, score: float = MATCH_SCORE
    ) -> None:
        """Add the final boxes ``[n, 6]`` of one image.

        Boxes with a score of ``conf`` have to be found by the other network; a bit below, they may be: a box whose
        score is rounded across the threshold is no difference.
        """
        self.images += 1
        sure, other_sure = (boxes[boxes[:, 4] >= conf] for boxes in (reference, other))
        self.boxes += len(sure)
        self.matched += count_matches(sure, other, iou, score)
        self.extra += len(other_sure) - count_matches(other_sure, reference, iou, score)


def count_matches(a: Tensor, b: Tensor, iou: float = MATCH_IOU, score: float = MATCH_SCORE) -> int:
    """Return how many boxes ``[n, 6]`` of ``a`` have one of the same class and score in ``b``, each used once."""
    return len(matches(a, b, iou, score))


def matches(a: Tensor, b: Tensor, iou: float, score: float) -> list[tuple[int, int]]:
    """Return the places in ``a`` and ``b`` of boxes ``[n, 6]`` of one class and score, best overlap first."""
    if not len(a) or not len(b):
        return []
    near = (a[:, None, 4] - b[None, :, 4]).abs() <= score
    overlap = box_iou(a[:, :4], b[:, :4]) * (a[:, 5:6] == b[None, :, 5]) * near
    found = []
    while overlap.numel() and float(overlap.max()) >= iou:
        row, column = divmod(int(overlap.argmax()), overlap.shape[1])
        overlap[row], overlap[:, column] = 0.0, 0.0
        found.append((row, column))
    return found


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the overlap ``[n, m]`` of boxes ``[n, 4]`` and ``[m, 4]`` (xyxy)."""
    from torchvision.ops import box_iou as torchvision_iou

    return torch.as_tensor(torchvision_iou(a, b))


@dataclass
class LogitEquality(Compared):
    """The record of a comparison of two classifiers.

    Attributes:
        images: how many images were compared.
        outputs: one entry an output: ``logits``, up to the constant that a softmax does not see.
        agreed: images to which both give the same class.
    """

    images: int = 0
    outputs: list[Difference] = field(default_factory=lambda: [Difference("logits")])
    agreed: int = 0

    def __str__(self) -> str:
        """Return the record in one line."""
        worst = self.worst
        return (
            f"{self.images} images: largest difference {worst.name} {worst.absolute:.2g} "
            f"({worst.relative:.1e} relative); same class {self.agreed}/{self.images}"
        )

    def add(self, reference: Tensor, other: Tensor) -> None:
        """Add one batch of probabilities ``[batch, classes]`` of both networks; their logarithms are compared."""
        for scores in (reference, other):
            self.outputs[0].add(scores, scores)  # infinite where not finite: clamping would hide that
        a, b = (scores.double().clamp_min(1e-30).log() for scores in (reference, other))
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        self.outputs[0].add(a, b)
        self.count(a, b)

    def count(self, a: Tensor, b: Tensor) -> None:
        """Count images and those to which both give the same class, by scores ``[batch, classes]``."""
        self.images += a.shape[0]
        self.agreed += int((a.argmax(1) == b.argmax(1)).sum())


@dataclass
class ProbabilityEquality(LogitEquality):
    """The same of ``probabilities`` themselves; their absolute and relative differences are one."""

    outputs: list[Difference] = field(default_factory=lambda: [Difference("probabilities")])

    def add(self, reference: Tensor, other: Tensor) -> None:
        """Add one batch of probabilities ``[batch, classes]`` of both."""
        output = self.outputs[0]
        output.add(reference.double(), other.double())
        output.relative = output.absolute
        self.count(reference, other)
