from __future__ import annotations

import numpy as np
import pytest

from vanillayolo.data.coco_keypoints import flip_order, read_names, read_points
from vanillayolo.errors import DataError

PERSON = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip


def test_order_in_a_mirror_image_is_that_of_left_and_right() -> None:
    assert flip_order(PERSON) == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]  # as coco-pose.yaml has it
    assert flip_order(["left", "top", "right", "bottom"]) == [2, 1, 0, 3]
    assert flip_order(["Right hand", "Left hand"]) == [1, 0]


@pytest.mark.parametrize("names", [(), ("top", "bottom"), ("left_eye", "nose"), ("left", "right", "Left", "Right")])
def test_order_that_nobody_can_tell_is_left_out(names: tuple[str, ...]) -> None:
    assert flip_order(names) == []


def test_points_are_none_where_none_is_labelled() -> None:
    points = read_points("a", [1, 2, 2, 0, 0, 0, 5, 6, 1.0], ())
    np.testing.assert_array_equal(points, [[1, 2, 2], [0, 0, 0], [5, 6, 1]])
    for given in (None, [], [0] * 9, [3, 4, 0] * 3):
        assert read_points("a", given, ()) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1, 2, 2, 3], r"has 4 numbers as keypoints; x, y, visibility of each of its category's 2 \('a, b'\)"),
        ([1, 2, 2], "has 3 numbers as keypoints"),
        ({"a": [1, 2]}, r"has \{.* as keypoints"),
        ([1, 2, 2, float("nan"), 4, 2], "has nan in its keypoints"),
        ([1, 2, 2, 3, 4, True], "has True in its keypoints"),
        ([1, 2, 2, 3, 4, 5], "has the visibility 5 at key point 2; 0 is not labelled, 1 hidden, 2 visible"),
    ],
)
def test_malformed_points_are_told_in_one_line(given: object, message: str) -> None:
    with pytest.raises(DataError, match="my.json: annotation 5 " + message) as caught:
        read_points("my.json: annotation 5", given, ("a", "b"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["nose", ["nose", 3], ["nose", "nose"], [" "]])
def test_names_that_are_none_are_told_in_one_line(given: object) -> None:
    with pytest.raises(DataError, match=r"category 1 has the keypoints .*; give a list of their names, each once"):
        read_names("my.json: category 1", given)
