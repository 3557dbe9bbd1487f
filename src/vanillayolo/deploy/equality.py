"""How equal two networks are, in numbers: every output, and what is found, on the same images."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from vanillayolo.yolo.files import Suppression
from vanillayolo.yolo.outputs import Outputs

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
        name: as in :attr:`vanillayolo.yolo.outputs.Outputs.parts`: ``boxes`` (xywh, pixels), ``scores`` (0 to 1) ...
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
        return max(self.outputs, key=lambda d: d.relative, default=Difference("outputs"))

    def output(self, name: str) -> Difference:
        """The output of a name; a new one where there is none yet."""
        found = next((d for d in self.outputs if d.name == name), None)
        if found is None:
            self.outputs.append(found := Difference(name))
        return found

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
        masks: mean overlap of the masks of matched boxes; None of networks without masks.
        points: mean similarity of the key points of matched boxes; None of networks without key points.
    """

    images: int = 0
    outputs: list[Difference] = field(default_factory=list)
    boxes: int = 0
    matched: int = 0
    extra: int = 0
    masks: float | None = None
    points: float | None = None

    def __str__(self) -> str:
        """Return the record in one line."""
        parts = [f"{d.name} {d.absolute:.2g} ({d.relative:.1e} relative)" for d in self.outputs]
        found = ", their ".join([f"boxes matched {self.matched}/{self.boxes}", *self.alike])
        return f"{self.images} images: largest difference {', '.join(parts)}; {found}"

    @property
    def alike(self) -> list[str]:
        """How alike matched boxes are in what else they have, in words."""
        words = {"masks overlap by": self.masks, "key points agree to": self.points}
        return [f"{said} {value:.4f}" for said, value in words.items() if value is not None]

    def add(
        self,
        reference: Outputs,
        other: Outputs,
        conf: float = 0.25,
        iou: float = MATCH_IOU,
        score: float = MATCH_SCORE,
    ) -> None:
        """Add one batch of outputs of both networks."""
        self.add_outputs(reference, other)
        least = max(conf - score, conf / 2)
        for i, (a, b) in enumerate(zip(reference.objects(least), other.objects(least), strict=True)):
            pairs = self.add_boxes(a, b, conf, iou, score, reference)
            if pairs:
                ours, theirs = zip(*pairs, strict=True)
                self.add_likeness(reference.likeness(a[[*ours]], other, b[[*theirs]], i))

    def add_likeness(self, alike: dict[str, Tensor]) -> None:
        """Add how alike the boxes that were matched last are: their masks or key points, ``[n]``."""
        for name, values in alike.items():
            before = (getattr(self, name) or 0.0) * (self.matched - len(values))
            setattr(self, name, (before + float(values.sum())) / max(self.matched, 1))

    def add_outputs(self, reference: Outputs, other: Outputs) -> None:
        """Add the differences of one batch of outputs, not what is found by them."""
        others = other.parts
        for name, part in reference.parts.items():
            self.output(name).add(part.double(), others[name].double())

    def add_suppressed(
        self, raw: Outputs, found: list[Tensor], inside: Suppression, conf: float, iou: float, score: float
    ) -> None:
        """Add what a file that chooses boxes itself found in one image, against the reference's raw output.

        Args:
            raw: the reference's outputs for one image.
            found: the file's: objects ``[n, 6 + extra]``, score 0 where there is none, then maps ``[1, ...]``.
            inside: the settings of the suppression in the file.
            conf: score from which boxes are compared.
            iou: overlap from which a box is found.
            score: difference of its scores up to which it is.
        """
        boxes, *maps = found
        for name, values in (("boxes", boxes), ("scores", raw.raw)):
            self.output(name).add(values, values)  # infinite where not finite: neither > 0 nor suppression shows that
        least = max(conf - 2 * score, conf / 4)
        wanted = raw.objects(least, inside.iou, inside.agnostic_nms, MANY)[0]
        if len(wanted) > inside.max_det:  # which of nearly equal boxes is the last one is decided by rounding
            conf = max(conf, float(wanted[inside.max_det - 1, 4]) + score)
        boxes = boxes[boxes[:, 4] > 0]
        pairs = self.add_boxes(wanted, boxes, conf, iou, score, raw)
        for name, ours, theirs in zip(raw.task.maps, raw.maps, maps, strict=True):
            self.output(name).add(ours.double(), theirs.double())
        if pairs:
            wanted, boxes = wanted[[a for a, _ in pairs]], boxes[[b for _, b in pairs]]
            others = raw.extras(boxes)
            for name, part in raw.extras(wanted).items():
                self.output(name).add(part.double(), others[name].double())
            self.add_likeness(raw.likeness(wanted, replace(raw, maps=tuple(maps)), boxes, 0))

    def add_boxes(
        self,
        reference: Tensor,
        other: Tensor,
        conf: float,
        iou: float = MATCH_IOU,
        score: float = MATCH_SCORE,
        like: Outputs | None = None,
    ) -> list[tuple[int, int]]:
        """Add what is found in one image, ``[n, 6 + extra]``, and return the pairs of rows that match.

        Boxes with a score of ``conf`` have to be found by the other network; a bit below, they may be: a box whose
        score is rounded across the threshold is no difference. Suppression gives the surest first.
        """
        self.images += 1
        sure, other_sure = (boxes[boxes[:, 4] >= conf] for boxes in (reference, other))
        found = matches(sure, other, iou, score, like)
        self.boxes += len(sure)
        self.matched += len(found)
        self.extra += len(other_sure) - len(matches(other_sure, reference, iou, score, like))
        return found


def matches(
    a: Tensor, b: Tensor, iou: float = MATCH_IOU, score: float = MATCH_SCORE, like: Outputs | None = None
) -> list[tuple[int, int]]:
    """Return the rows of objects ``[n, 6 + extra]`` that are of the same class, score and place, each used once."""
    if not len(a) or not len(b):
        return []
    near = (a[:, None, 4] - b[None, :, 4]).abs() <= score
    overlap = (like or Outputs(a)).overlaps(a, b) * (a[:, 5:6] == b[None, :, 5]) * near
    found = []
    while overlap.numel() and float(overlap.max()) >= iou:
        row, column = divmod(int(overlap.argmax()), overlap.shape[1])
        overlap[row], overlap[:, column] = 0.0, 0.0
        found.append((row, column))
    return found


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

    def add(self, reference: Outputs, other: Outputs) -> None:
        """Add one batch of both networks; the logarithms of their probabilities are compared."""
        for scores in (reference.scores, other.scores):
            self.outputs[0].add(scores, scores)  # infinite where not finite: clamping would hide that
        a, b = (x.scores.double().clamp_min(1e-30).log() for x in (reference, other))
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

    def add(self, reference: Outputs, other: Outputs) -> None:
        """Add one batch of both networks."""
        output = self.outputs[0]
        output.add(reference.scores.double(), other.scores.double())
        output.relative = output.absolute
        self.count(reference.scores, other.scores)
