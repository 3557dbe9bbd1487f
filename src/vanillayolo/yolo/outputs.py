"""What networks and their files give, every output by its name: what looks at one of them proves one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.utils.metrics import batch_probiou, box_iou, kpt_iou, mask_iou
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import process_mask

from .tasks import TASKS, Task, task_of_head


@dataclass(frozen=True)
class Outputs:
    """The outputs of a network for a batch.

    Attributes:
        raw: the first one: ``[batch, 4 + classes + extra, anchors]``, or a classifier's ``[batch, classes]``.
        maps: those after it, as the task names them.
        task: whose outputs they are.
        classes: number of classes; 0: all rows after the boxes.
        visible: whether the third number of every key point is how visible it is.
        one_to_one: whether every object is found once: boxes are xyxy then, and nothing is suppressed.
    """

    raw: Tensor
    maps: tuple[Tensor, ...] = ()
    task: Task = TASKS["detect"]
    classes: int = 0
    visible: bool = False
    one_to_one: bool = False

    @property
    def parts(self) -> dict[str, Tensor]:
        """Every output by name: boxes in pixels, scores from 0 to 1, then what the task has besides, in its unit."""
        if not self.task.finds_boxes:
            return {"probabilities": self.raw}
        first = 4 + self.classes if self.classes else self.raw.shape[1]
        found = {"boxes": self.raw[:, :4], "scores": self.raw[:, 4:first]}
        if extra := self.task.extra:
            rest = self.raw[:, first:]
            found[extra] = rest * (180 / torch.pi) if self.task.turned else rest
            if self.visible:
                points = rest.reshape(rest.shape[0], -1, 3, rest.shape[2])
                found |= {extra: points[:, :, :2].flatten(1, 2), "visibility": points[:, :, 2]}
        return found | dict(zip(self.task.maps, self.maps, strict=True))

    def extras(self, objects: Tensor) -> dict[str, Tensor]:
        """Return what objects ``[n, 6 + extra]`` have besides box, score and class, by name and in its unit."""
        rest, extra = objects[:, 6:], self.task.extra
        if not extra:
            return {}
        if self.visible:
            points = rest.reshape(len(rest), -1, 3)
            return {extra: points[:, :, :2].flatten(1), "visibility": points[:, :, 2]}
        return {extra: rest * (180 / torch.pi) if self.task.turned else rest}

    @property
    def scores(self) -> Tensor:
        """The scores, or probabilities, of the classes: the second axis."""
        return self.parts["scores" if self.task.finds_boxes else "probabilities"]

    def like(self, tensors: Sequence[Tensor]) -> Outputs:
        """Return other tensors under the names that these have."""
        return replace(self, raw=tensors[0], maps=tuple(tensors[1:]))

    def image(self, number: int) -> Outputs:
        """Return the outputs of one image of the batch."""
        rows = slice(number, number + 1)
        return self.like([self.raw[rows], *(x[rows] for x in self.maps)])

    def with_classes_swapped(self) -> Outputs:
        """Return the same with the surest two classes in each other's places."""
        scores = self.scores
        a, b = scores.flatten(2).amax(2).amax(0).topk(2).indices if scores.dim() > 2 else scores[0].topk(2).indices
        first = 4 if self.task.finds_boxes else 0
        swapped = self.raw.clone()
        swapped[:, first + a], swapped[:, first + b] = self.raw[:, first + b], self.raw[:, first + a]
        return replace(self, raw=swapped)

    def objects(self, conf: float = 0.25, iou: float = 0.7, agnostic: bool = False, max_det: int = 300) -> list[Tensor]:
        """Return what is found in every image after suppression: ``[n, 6 + extra]``.

        Boxes come first, as xyxy in pixels (turned ones as centre, width and height, their angle last), then score,
        class and extra.

        Args:
            conf: smallest score.
            iou: overlap from which the surer box of two stays alone.
            agnostic: whether boxes of different classes suppress each other.
            max_det: how many boxes an image has, at most.
        """
        if self.one_to_one:
            return [surest(raw, self.classes or raw.shape[0] - 4, conf, max_det) for raw in self.raw]
        settings = {"max_det": max_det, "nc": self.classes, "rotated": self.task.turned, "max_time_img": 1.0}
        found: list[Tensor] = non_max_suppression(self.raw.float(), conf, iou, None, agnostic, **settings)
        return found

    def overlaps(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the overlap ``[n, m]`` of objects ``[n, 6 + extra]`` and ``[m, 6 + extra]``."""
        if not self.task.turned:
            return torch.as_tensor(box_iou(a[:, :4], b[:, :4]))
        return torch.as_tensor(batch_probiou(*(torch.cat([x[:, :4], x[:, -1:]], 1) for x in (a, b))))

    def likeness(self, a: Tensor, other: Outputs, b: Tensor, number: int) -> dict[str, Tensor]:
        """Return how alike objects ``[n, 6 + extra]`` of one image are beyond their boxes, one by one: ``[n]``, 0 to 1.

        Masks by their overlap, key points by their similarity; turned boxes overlap as such.
        """
        if self.task.maps:
            return {"masks": mask_overlap(self.masks(a, number), other.masks(b, number))}
        if points := self.task.points:
            return {"points": points_overlap(self.extras(a)[points], other.extras(b)[points], a[:, :4])}
        return {}

    def masks(self, objects: Tensor, number: int) -> Tensor:
        """Return the masks ``[n, height / 4 * width / 4]``, 0 or 1, of the objects of one image."""
        prototypes = self.maps[0][number].float()
        height, width = (4 * side for side in prototypes.shape[1:])
        return torch.as_tensor(process_mask(prototypes, objects[:, 6:], objects[:, :4], (height, width))).flatten(1)


def points_overlap(a: Tensor, b: Tensor, boxes: Tensor) -> Tensor:
    """Return how alike the key points ``[n, 2 * points]`` of objects with boxes ``[n, 4]`` (xyxy) are, one by one.

    It is COCO's similarity of key points (OKS), 1 where they are the same, as Ultralytics' validation takes it for data
    of any key points.
    """
    first, second = (F.pad(x.view(len(x), -1, 2), (0, 1), value=1.0) for x in (a, b))  # all are to be compared
    sides, count = boxes[:, 2:] - boxes[:, :2], first.shape[1]
    return kpt_iou(first, second, sides.prod(1) * 0.53, [1 / count] * count).diagonal()


def surest(raw: Tensor, count: int, conf: float, most: int) -> Tensor:
    """Return what has the highest scores ``[n, 6 + extra]`` of one image ``[4 + count + extra, anchors]``."""
    scores, places = raw[4 : 4 + count].flatten().topk(min(most, raw.shape[1]))  # as many as the head has places
    classes, anchors = places // raw.shape[1], places % raw.shape[1]
    extra = raw[4 + count :, anchors].T
    boxes = torch.cat([raw[:4, anchors].T, scores[:, None], classes[:, None], extra], 1).float()
    return boxes[scores > conf]


def mask_overlap(a: Tensor, b: Tensor) -> Tensor:
    """Return the overlap ``[n]`` of masks ``[n, pixels]``, one by one; that of two empty ones is 1."""
    both_empty = ~(a + b).bool().any(1)
    return torch.as_tensor(mask_iou(a.float(), b.float())).diagonal().masked_fill(both_empty, 1.0)


def tensors_of(out: Any) -> list[Tensor]:
    """Return the decoded outputs of a network of Ultralytics: those in front of what its loss takes."""
    if isinstance(out, Tensor):
        return [out]
    first = out[0]
    if isinstance(first, (tuple, list)):  # of masks: (decoded, prototypes), then the loss'
        return list(first)
    return [x for x in out if isinstance(x, Tensor)]


def raw_outputs(model: nn.Module, x: Tensor) -> Outputs:
    """Return what a network gives for a batch, decoded, before suppression."""
    rows: Any = model.model
    head = rows[-1]
    task = task_of_head(head)
    one_to_one = bool(getattr(head, "end2end", False))
    with torch.inference_mode():
        out = model(x)
        # of a head that chooses boxes itself, what it chooses from: nearly equal scores change places
        raw, *maps = tensors_of(out)
        raw = head._inference(out[1]["one2one"]) if one_to_one else raw
    if not task.finds_boxes:
        return Outputs(raw, (), task)
    shape = getattr(head, "kpt_shape", (0, 0))
    return Outputs(raw, tuple(maps), task, int(head.nc), shape[1] == 3, one_to_one)


def raw_output(model: nn.Module, x: Tensor) -> Tensor:
    """Return the first output of a network; of a detector ``[batch, 4 + classes, anchors]``: xywh in pixels, scores."""
    return raw_outputs(model, x).raw


def suppress(
    raw: Tensor, conf: float = 0.25, iou: float = 0.7, agnostic: bool = False, max_det: int = 300
) -> list[Tensor]:
    """Return the boxes ``[n, 6]`` of every image after suppression of a detector's output; see :class:`Outputs`."""
    return Outputs(raw).objects(conf, iou, agnostic, max_det)
