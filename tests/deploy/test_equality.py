from __future__ import annotations

import torch

from vanillayolo.deploy.equality import Equality, count_matches


def raw(boxes: list[list[float]], classes: int = 2) -> torch.Tensor:
    """Raw output of one image: xywh and one score of 0.9 for class 0 each, far apart unless said otherwise."""
    out = torch.zeros(1, 4 + classes, len(boxes))
    for i, box in enumerate(boxes):
        out[0, :4, i] = torch.tensor(box)
        out[0, 4, i] = 0.9
    return out


def test_equal_outputs_have_no_difference() -> None:
    equality = Equality()
    equality.add(raw([[50, 50, 20, 20], [150, 50, 20, 20]]), raw([[50, 50, 20, 20], [150, 50, 20, 20]]))
    assert (equality.images, equality.boxes, equality.matched, equality.extra) == (1, 2, 2, 0)
    assert equality.worst.absolute == 0


def test_largest_difference_over_batches_is_kept() -> None:
    equality = Equality()
    equality.add(raw([[50, 50, 20, 20]]), raw([[50, 50.5, 20, 20]]))
    equality.add(raw([[50, 50, 20, 20]]), raw([[50, 50, 20, 20]]))
    boxes = equality.outputs[0]
    assert boxes.absolute == 0.5
    assert boxes.relative == 0.01
    assert equality.worst is boxes


def test_a_lost_box_and_a_new_one_are_counted() -> None:
    equality = Equality()
    equality.add(raw([[50, 50, 20, 20], [150, 50, 20, 20]]), raw([[50, 50, 20, 20], [250, 250, 20, 20]]))
    assert (equality.boxes, equality.matched, equality.extra) == (2, 1, 1)
    assert "1/2" in str(equality)


def test_class_counts_and_each_box_matches_once() -> None:
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0, 0.9, 0.0]])
    other = box.clone()
    other[0, 5] = 1
    assert count_matches(box, other) == 0
    assert count_matches(torch.cat([box, box]), box) == 1
    assert count_matches(box[:0], box) == 0
