"""A detector up to the last convolutions of its head: the part that a chip computes in integers.

Boxes and scores stay apart: in full int8 one output has one scale, and boxes of hundreds of pixels leave no step for
scores between 0 and 1.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
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


class Decode(nn.Module):
    """Boxes and scores of raw maps, as Ultralytics' head computes them.

    Args:
        strides: of the levels, pixels.
        bins: of the distribution of every box side; 1: the side itself.
        size: height and width of the input, pixels.
        shares: give boxes as shares of the input's width and height, not in pixels.
    """

    cells: Tensor
    scale: Tensor
    weights: Tensor

    def __init__(self, strides: Sequence[int], bins: int, size: Sequence[int], shares: bool = False) -> None:
        super().__init__()
        self.bins = bins
        cells, scales = [], []
        for stride in strides:
            y, x = torch.meshgrid(*(torch.arange(side // stride) + 0.5 for side in size), indexing="ij")
            cells.append(torch.stack([x, y]).flatten(1))
            scales.append(torch.full((1, x.numel()), float(stride)))
        unit = torch.tensor([size[1], size[0]] * 2).view(4, 1) if shares else torch.ones(4, 1)
        self.register_buffer("cells", torch.cat(cells, 1))  # [2, anchors]: x, y
        self.register_buffer("scale", torch.cat(scales, 1) / unit)  # [4, anchors]
        self.register_buffer("weights", torch.arange(float(bins)).view(1, 1, bins, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map what :class:`RawMaps` gives to ``[batch, 4 + classes, anchors]``: xywh, scores."""
        levels = len(maps) // 2
        sides, scores = (torch.cat([x.flatten(2) for x in part], 2) for part in (maps[:levels], maps[levels:]))
        if self.bins > 1:
            sides = sides.view(len(sides), 4, self.bins, -1).softmax(2).mul(self.weights).sum(2)
        first, last = self.cells - sides[:, :2], self.cells + sides[:, 2:]
        boxes = torch.cat([(first + last) / 2, last - first], 1) * self.scale
        return torch.cat([boxes, scores.sigmoid()], 1)


class Decoded(nn.Module):
    """A body of raw maps with what follows it.

    Args:
        body: of :func:`with_raw_maps`.
        decode: :class:`Decode`, or nothing.
    """

    def __init__(self, body: nn.Module, decode: nn.Module) -> None:
        super().__init__()
        self.body, self.decode = body, decode

    def forward(self, x: Tensor) -> Any:
        """Map images to what the decode gives."""
        return self.decode(self.body(x))


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
