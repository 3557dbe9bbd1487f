from __future__ import annotations

import cv2
import numpy as np
import pytest

from vanillayolo.data.scenes.atlas import CLUTTER, MARGIN, Atlas, _framed
from vanillayolo.data.scenes.shapes import FAMILIES, class_name
from vanillayolo.data.scenes.textures import TEXTURES

CLASSES = 20


def test_every_object_is_a_solid_of_full_size(atlas: Atlas) -> None:
    side = 128 * (1 - 2 * MARGIN)
    for forms in (*atlas.objects, *((one,) for one in atlas.clutter)):
        for sprite in forms:
            mask = sprite.levels[0][..., 0] > 127
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            assert abs(max(np.ptp(rows), np.ptp(columns)) + 1 - side) <= 4
            assert sprite.share == pytest.approx(mask.mean())
            _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
            areas = stats[1:, cv2.CC_STAT_AREA]
            assert areas[areas > 4].min() > 0.02 * areas.sum()  # no dust
    shares = [sprite.share for forms in atlas.objects for sprite in forms]
    assert min(shares) > 0.06  # no threads


def test_outline_surrounds_the_silhouette(atlas: Atlas) -> None:
    for forms in atlas.objects:
        rows, columns = np.nonzero(forms[0].levels[0][..., 0] > 127)
        ends = (forms[0].outline + 1) * 64
        assert np.abs(ends.min(axis=0) - [columns.min(), rows.min()]).max() <= 0.5
        assert np.abs(ends.max(axis=0) - [columns.max() + 1, rows.max() + 1]).max() <= 0.5


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Return how alike two sprites are in silhouette and paint, at most 1."""
    apart = np.abs(one[..., :1].astype(float) / 255 - other[..., :1] / 255)
    return 1 - float(apart.mean() / max(one[..., 0].mean(), other[..., 0].mean()) * 255)


def test_objects_of_a_class_differ_less_than_classes(atlas: Atlas) -> None:
    # the surface family is told by its texture and fills any outline
    kinds = [kind for kind in range(CLASSES) if not class_name(kind).startswith("surface")]
    within = [likeness(atlas.objects[k][0].levels[2], atlas.objects[k][j].levels[2]) for k in kinds for j in (1, 2, 3)]
    across = [
        likeness(atlas.objects[k][0].levels[2], atlas.objects[j][0].levels[2]) for k in kinds for j in kinds if k < j
    ]
    assert np.mean(within) > np.mean(across) + 0.15
    assert max(within) < 1  # none is drawn twice
    assert np.mean(np.array(across) > 0.97) < 0.02


def test_every_family_and_texture_has_its_place(atlas: Atlas) -> None:
    assert {class_name(kind).split("-")[0] for kind in range(CLASSES)} == set(FAMILIES)
    assert len({class_name(kind) for kind in range(1000)}) == 1000
    assert len(atlas.clutter) == CLUTTER
    assert len({texture.tobytes() for texture in atlas.textures}) == len(atlas.textures)
    assert all(texture.std() > 8 for texture in atlas.textures)  # none is blank


@pytest.mark.parametrize("name", TEXTURES)
def test_textures_are_grey_and_vary(name: str) -> None:
    def piece(form: int, vary: int) -> np.ndarray:
        return TEXTURES[name](np.random.default_rng(form), np.random.default_rng(vary), 64)

    assert piece(0, 1).shape == (64, 64)
    assert piece(0, 1).dtype == np.float32
    assert piece(0, 1).min() >= 0
    assert piece(0, 1).max() <= 1
    assert np.array_equal(piece(0, 1), piece(0, 1))
    assert not np.array_equal(piece(0, 1), piece(2, 1))


def test_specks_beside_an_object_are_taken_away() -> None:
    cover = np.zeros((256, 256), np.uint8)
    cover[100:180, 90:150] = 255
    cover[20:24, 20:24] = 255
    framed, _ = _framed(cover, np.zeros_like(cover), 128)
    count, _, stats, _ = cv2.connectedComponentsWithStats((framed > 0).astype(np.uint8))
    assert count == 2
    assert abs(stats[1, cv2.CC_STAT_HEIGHT] - 112) <= 4
