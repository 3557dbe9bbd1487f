"""A detector up to the last convolutions of its head: the part that a chip computes in integers.

Boxes and scores stay apart: in full int8 one output has one scale, and boxes of hundreds of pixels leave no step for
scores between 0 and 1.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from ultralytics.nn.modules import Detect
from ultralytics.nn.modules.block import DFL as DFL  # so that rewrites need not import Ultralytics

from vanillayolo.errors import UsageError
from vanillayolo.nn import is_merged
from vanillayolo.nn.reparameterize import check_mergeable


class RawMaps(nn.Module):
    """The branches of a head without its decode.

    Args:
        head: Ultralytics' head; of one with two sets of branches, the set that it uses for inference.

    Attributes:
        f: rows whose maps it takes, as Ultralytics' loop over rows reads it.
        i: its own row.
    """

    def __init__(self, head: Detect) -> None:
        super().__init__()
        branches = head.one2one if head.end2end else head.one2many
        self.boxes, self.scores = branches["box_head"], branches["cls_head"]
        self.f, self.i = head.f, head.i

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Map the neck's maps to the box map of every level, then the score map of every level.

        Args:
            maps: ``[batch, channels, height, width]`` of every level.

        Returns:
            ``[batch, 4 * bins, height, width]`` of every level, then ``[batch, classes, height, width]``, both logits.
        """
        pairs = ((self.boxes, maps), (self.scores, maps))
        return [branch(x) for branches, levels in pairs for branch, x in zip(branches, levels, strict=True)]


def with_raw_maps(network: Any) -> nn.Module:
    """Return a merged copy of a detector, ours or stock, in evaluation mode, that ends at its raw maps.

    Raises:
        UsageError: for a network whose head has other outputs than boxes and scores.
        MergeError: when a slope is below 1.
    """
    head = network.model[-1]
    if type(head) is not Detect:
        raise UsageError(f"a network that ends in {type(head).__name__}: give a detector (boxes and scores).")
    if not is_merged(network):
        check_mergeable(network)
    network = copy.deepcopy(network).float().eval().fuse(verbose=False)
    network.model[-1] = RawMaps(network.model[-1])
    return network.eval()
