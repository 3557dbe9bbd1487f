from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vanillayolo.data.coco_shapes import Points, clipped, joined, read_outlines
from vanillayolo.errors import DataError

#: What pycocotools (2.0.11) writes for a mask with a hole and two corners.
HOLED = {"size": [7, 9], "counts": "01>4D00MO01300005L"}
MASK = ["100000000", "001111110", "001111110", "001101110", "001111110", "001111110", "000000001"]


def filled(parts: tuple[Points, ...], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Return a mask as Ultralytics draws one polygon: places cut to whole pixels, its outline filled too."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [joined(parts).astype(np.int32)], 1)
    return mask


def in_runs(mask: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Return a mask as uncompressed RLE."""
    flat = mask.T.ravel()
    ends = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    counts = [after - before for before, after in pairwise(ends)]
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def blobs(seed: int, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return a random mask of parts and holes that reach over the picture's edges."""
    noise = np.random.default_rng(seed).random(shape)
    return (cv2.GaussianBlur(noise, (0, 0), 3) > 0.5).astype(np.uint8)


def test_compressed_mask_is_that_of_pycocotools() -> None:
    expected = np.array([[int(pixel) for pixel in row] for row in MASK], np.uint8)
    for rle in (HOLED, in_runs(expected)):
        parts = read_outlines("a", rle, (9, 7))
        assert len(parts) == 3  # the last corner touches the block
        drawn = np.zeros_like(expected)
        cv2.fillPoly(drawn, [part.astype(np.int32) for part in parts], 1)  # without the lines that join them
        np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("seed", range(5))
def test_mask_comes_back_with_its_holes(seed: int) -> None:
    labels, pieces = cv2.connectedComponents(blobs(seed, (83, 61)))
    for piece in range(1, labels):
        mask = (pieces == piece).astype(np.uint8)
        parts = read_outlines("a", in_runs(mask), (61, 83))
        np.testing.assert_array_equal(filled(parts, mask.shape), mask)


def test_parts_are_joined_by_lines_of_a_pixel() -> None:
    mask = np.zeros((60, 60), np.uint8)
    for left in (2, 22, 42):
        mask[20:40, left : left + 10] = 1
    parts = read_outlines("a", in_runs(mask), (60, 60))
    assert len(parts) == 3
    assert filled(parts, mask.shape).sum() - mask.sum() == 20  # two lines of ten pixels
    assert (filled(parts, mask.shape) >= mask).all()


def test_joined_polygons_have_the_edges_of_ultralytics() -> None:
    merge = pytest.importorskip("ultralytics.data.converter").merge_multi_segment
    random = np.random.default_rng(0)
    for count in (2, 3, 6):
        parts = tuple(random.random((int(random.integers(3, 9)), 2)) * 30 + 50 * n for n in range(count))
        assert edges(joined(parts)) == edges(np.concatenate(merge([part.ravel().tolist() for part in parts])))


def edges(outline: Points) -> list[list[tuple[float, ...]]]:
    """Return the edges of a closed outline, whatever its start and direction."""
    loop = [tuple(point) for point in outline.tolist()]
    return sorted(sorted(edge) for edge in pairwise([*loop, loop[0]]) if edge[0] != edge[1])


@pytest.mark.parametrize("seed", range(4))
def test_polygon_is_cut_at_the_edges_of_its_picture(seed: int) -> None:
    random = np.random.default_rng(seed)
    star = random.uniform(0.3, 1, 12)[:, None] * [(np.cos(a), np.sin(a)) for a in np.arange(12) * np.pi / 6]
    points = star * 900 + random.uniform(0, 1000, 2)
    whole, inside = np.zeros((3000, 3000), np.uint8), np.zeros((3000, 3000), np.uint8)
    cv2.fillPoly(whole, [np.round(points + 1000).astype(np.int32)], 1)
    part = clipped(points, (1000, 1000))
    cv2.fillPoly(inside, [np.round(part + 1000).astype(np.int32)], 1)
    whole[:1000] = whole[2001:] = whole[:, :1000] = whole[:, 2001:] = 0
    assert part.min() >= 0
    assert part.max() <= 1000
    assert (whole != inside).mean() < 1e-3  # of a million pixels; edges are rounded


def test_polygon_outside_leaves_nothing() -> None:
    assert len(clipped(np.array([[-5.0, -5], [-1, -5], [-1, -1]]), (10, 10))) == 0


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3, 4, 5, 6, 7]], r"the polygon \[1, 2, 3, .*of 7 numbers; x and y in turn of three points"),
        ([[1, 2, 3, 4]], "of 4 numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "has nan in a polygon"),
        ([[1, 2, 3, 4, 5, None]], "has None in a polygon"),
        ([[[1, 2], [3, 4], [5, 6]]], r"has \[1, 2\] in a polygon"),
        ([1, 2, 3, 4, 5, 6], r"segmentation \[1, 2, 3.*give polygons \[\[x, y"),
        ("mask.png", "segmentation 'mask.png'; give polygons"),
        ({"size": [9, 7], "counts": HOLED["counts"]}, r"RLE of the size \[9, 7\]; its image is \[7, 9\]"),
        ({"counts": HOLED["counts"]}, "of the size None"),
        ({"size": [7, 9]}, "the counts None"),
        ({"size": [7, 9], "counts": [3, 60.0]}, r"the counts \[3, 60.0\]"),
        ({"size": [7, 9], "counts": [3, 10**400]}, "the counts"),
        ({"size": [7, 9], "counts": [64, -1]}, r"the counts \[64, -1\]"),
        ({"size": [7, 9], "counts": [3, 61]}, "which cover 64 pixels; .* 63 in all"),
        ({"size": [7, 9], "counts": "01>4D00MO0130000"}, "which cover"),
        ({"size": [7, 9], "counts": "01>4D00MO01300005LP"}, "counts '01>4"),
        ({"size": [7, 9], "counts": "o" * 9999}, "counts 'ooo"),
        ({"size": [7, 9], "counts": "b'01>4D'"}, "the counts"),
    ],
)
def test_malformed_outline_is_told_in_one_line(segmentation: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_outlines("my.json: annotation 5", segmentation, (9, 7))
    assert str(caught.value).startswith("my.json: annotation 5 ")
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("01>4DMO5Lo", max_size=20),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.sampled_from(["size", "counts"]), inner),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None)
@given(VALUES | st.builds(lambda counts: {"size": [7, 9], "counts": counts}, VALUES))
def test_any_outline_gets_a_verdict(segmentation: object) -> None:
    with suppress(DataError):
        parts = read_outlines("my.json: annotation 5", segmentation, (9, 7))
        assert all(part.ndim == 2 and len(part) > 2 and np.isfinite(part).all() for part in parts)


@pytest.mark.parametrize("segmentation", [None, [], [[]], {}, {"size": [7, 9], "counts": [63]}])
def test_empty_outline_is_none(segmentation: object) -> None:
    assert read_outlines("a", segmentation, (9, 7)) == ()
