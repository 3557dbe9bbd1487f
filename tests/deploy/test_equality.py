from __future__ import annotations

import pytest
import torch

from vanillayolo.deploy.equality import Equality, matches
from vanillayolo.yolo.outputs import Outputs
from vanillayolo.yolo.tasks import TASKS


def raw(boxes: list[list[float]], classes: int = 2) -> Outputs:
    """Raw output of one image: xywh and one score of 0.9 for class 0 each, far apart unless said otherwise."""
    out = torch.zeros(1, 4 + classes, len(boxes))
    for i, box in enumerate(boxes):
        out[0, :4, i] = torch.tensor(box)
        out[0, 4, i] = 0.9
    return Outputs(out)


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
    assert matches(box, other) == []
    assert matches(torch.cat([box, box]), box) == [(0, 0)]
    assert matches(box[:0], box) == []


def found(task: str, rows: int, *maps: torch.Tensor) -> Outputs:
    """Outputs of one image with one object of one class, the rest of its rows 0.5."""
    out = torch.full((1, 5 + rows, 1), 0.5)
    out[0, :5, 0] = torch.tensor([50.0, 50, 40, 20, 0.9])
    return Outputs(out, maps, TASKS[task], 1, visible=task == "pose")


def test_every_output_of_every_task_is_compared_by_name_and_in_its_unit() -> None:
    """A change of one number shows in its own output: key points in pixels, angles in degrees."""
    prototypes = torch.rand(1, 32, 16, 16)
    cases = [
        (found("segment", 32, prototypes), -1, "mask coefficients", 0.25),
        (found("pose", 6), -2, "key points", 0.25),
        (found("pose", 6), -1, "visibility", 0.25),
        (found("obb", 1), -1, "angles", 0.25 * 180 / torch.pi),
    ]
    for reference, row, name, difference in cases:
        changed = reference.raw.clone()
        changed[0, row] += 0.25
        equality = Equality()
        equality.add(reference, reference.like([changed, *reference.maps]))
        assert {d.name for d in equality.outputs if d.absolute} == {name}
        assert equality.output(name).absolute == pytest.approx(difference)
    equality = Equality()
    reference = cases[0][0]
    equality.add(reference, reference.like([reference.raw, -prototypes]))
    assert equality.worst.name == "prototypes"
    assert (equality.matched, equality.masks) == (1, 0.0)  # the box is the same, its mask is not
    equality.add(reference, reference)
    assert (equality.matched, equality.masks) == (2, 0.5)


def test_key_points_of_matched_boxes_are_compared() -> None:
    """By their distance as a share of the object, as COCO's similarity has it."""
    reference = found("pose", 6)
    for moved, least, most in ((0.0, 1.0, 1.0), (0.5, 0.99, 1.0), (1000.0, 0.0, 0.01)):
        changed = reference.raw.clone()
        changed[0, -6:-4] += moved
        changed[0, -3:-1] += moved
        equality = Equality()
        equality.add(reference, reference.like([changed]))
        assert equality.matched == 1
        assert least <= (equality.points or 0.0) <= most
    assert "key points agree to 0.0" in str(equality)


def test_turned_boxes_are_matched_by_their_angle() -> None:
    reference = found("obb", 1)
    for turn, matched in ((0.0, 1), (0.01, 1), (1.0, 0)):
        equality = Equality()
        changed = reference.raw.clone()
        changed[0, -1] += turn
        equality.add(reference, reference.like([changed]))
        assert equality.matched == matched
