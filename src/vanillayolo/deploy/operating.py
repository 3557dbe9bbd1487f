"""The score from which an int8 file finds as many of the known objects as the float network does from 0.25.

Rounding moves scores, so that a threshold that was chosen on the float network passes more or fewer boxes of the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from torch import Tensor, nn

from vanillayolo.yolo.files import ExportedFile, Suppression
from vanillayolo.yolo.outputs import raw_outputs

from .equality import matches

#: Ultralytics' own threshold.
USUAL = Suppression.conf
#: Boxes below it are not matched; the lowest threshold that is given.
LEAST = 0.05
#: Overlap from which two boxes of a class are one object, as in mAP50.
SAME = 0.5
#: Fewer boxes say nothing of a threshold: one of 20 is 5 % of the recall.
ENOUGH = 20


@dataclass(frozen=True)
class OperatingPoint:
    """How the scores of a file lie against the float network's.

    Attributes:
        images: how many were compared.
        boxes: what the float network finds there from 0.25 on.
        shift: median of the file's score less the float network's, of these boxes; 0 is the score of one not found.
        found: share of them that the file gives from 0.25 on.
        conf: score from which the file gives as many known objects.
        kept: share of the boxes that the file gives from there on.
    """

    images: int
    boxes: int
    shift: float
    found: float
    conf: float
    kept: float

    def __str__(self) -> str:
        """Return it in one line."""
        return (
            f"scores shift by {self.shift:+.3f}; of {self.boxes} boxes in {self.images} images {self.found:.1%} are "
            f"found from {USUAL:g} on, {self.kept:.1%} from conf={self.conf:g} on, which predict uses"
        )


def operating_point(file: ExportedFile, network: nn.Module, inputs: Iterable[Tensor]) -> OperatingPoint | None:
    """Return the operating point of a file without suppression inside; None where there are too few boxes.

    Args:
        file: of batch 1.
        network: merged, in float.
        inputs: ``[1, channels, height, width]``.
    """
    pairs: list[tuple[float, float]] = []
    images = 0
    for x in inputs:
        images += 1
        outputs = raw_outputs(network, x)
        own, other = (found.objects(LEAST)[0] for found in (outputs, outputs.like(file.tensors(x))))
        found = dict(matches(own, other, SAME, 1.0, outputs))
        pairs += [(float(box[4]), float(other[found[i], 4]) if i in found else 0.0) for i, box in enumerate(own)]
    sure = [(before, after) for before, after in pairs if before >= USUAL]
    if len(sure) < ENOUGH:
        return None
    last = sorted((after for _, after in pairs), reverse=True)[len(sure) - 1]
    conf = max(LEAST, math.floor(last * 1000) / 1000)
    shift = median(after - before for before, after in sure)
    found_share, kept = (sum(after >= least for _, after in sure) / len(sure) for least in (USUAL, conf))
    return OperatingPoint(images, len(sure), shift, found_share, conf, kept)
