"""The paint of the synthetic scenes: outlines of the shapes, backgrounds, fills and the camera."""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Picture: TypeAlias = npt.NDArray[np.float32]

SUBPIXEL_BITS = 4  # cv2 draws polygons in fixed point; 1/16 pixel is finer than a label needs


def _ring(count: int, radii: tuple[float, ...]) -> npt.NDArray[np.float64]:
    angles = np.arange(count) * (2 * np.pi / count) - np.pi / 2
    radius = np.resize(np.asarray(radii), count)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _cross() -> npt.NDArray[np.float64]:
    arm = 0.5 / 3  # arms of one third of the width
    corner = [(arm, -0.5), (arm, -arm), (0.5, -arm)]
    points = []
    for turn in range(4):
        cos, sin = (1, 0, -1, 0)[turn], (0, 1, 0, -1)[turn]
        points += [(x * cos - y * sin, x * sin + y * cos) for x, y in corner]
    return np.asarray(points)


OUTLINES: dict[str, npt.NDArray[np.float64]] = {
    "circle": _ring(72, (0.5,)),
    "square": np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]),
    "triangle": _ring(3, (0.55,)),
    "star": _ring(10, (0.55, 0.22)),
    "cross": _cross(),
}
"""Corner points of each shape, about 1 wide and centred on the origin; ``[n, 2]`` as x, y."""


def place_outline(
    kind: str, side: float, centre: tuple[float, float], angle: float, squeeze: float
) -> npt.NDArray[np.float64]:
    """Return the corners of a shape in pixels, ``[n, 2]``, turned by ``angle`` radians and narrowed by ``squeeze``."""
    points = OUTLINES[kind] * np.array([squeeze, 1.0]) * side
    cos, sin = np.cos(angle), np.sin(angle)
    turned: npt.NDArray[np.float64] = points @ np.array([[cos, sin], [-sin, cos]]) + np.asarray(centre)
    return turned


def coverage(points: npt.NDArray[np.float64], size: int, line: int = 0) -> Picture:
    """Return how much of each pixel a polygon covers, ``[size, size]`` in 0..1.

    Args:
        points: Corners in pixels, where the first pixel spans 0 to 1.
        size: Side of the picture.
        line: Width of the outline to draw instead of the filled polygon, in pixels; 0 fills it.
    """
    mask = np.zeros((size, size), np.uint8)
    # cv2 puts the middle of the first pixel at 0, we put its corner there
    fixed = np.round((points - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)
    if line:
        cv2.polylines(mask, [fixed], True, 255, line, cv2.LINE_AA, SUBPIXEL_BITS)
    else:
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return np.asarray(mask / 255, np.float32)


def random_colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Picture:
    """Return a random BGR colour, 3 numbers in 0..255, with saturation and value drawn from the given ranges (0..1)."""
    hsv = np.array([[[rng.uniform(0, 360), rng.uniform(*saturation), rng.uniform(*value)]]], np.float32)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0] * 255, np.float32)


def _noise(rng: np.random.Generator, size: int, cell: float) -> Picture:
    """Return smooth noise in 0..1 whose grains are about ``cell`` pixels wide."""
    coarse = max(2, round(size / cell))
    grid = rng.random((coarse, coarse), np.float32)
    return np.asarray(cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def _ramp(rng: np.random.Generator, size: int) -> Picture:
    """Return the position along a random direction, ``[size, size]``, spanning about -0.7..0.7."""
    angle = rng.uniform(0, 2 * np.pi)
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    return np.asarray(axis[None, :] * np.cos(angle) + axis[:, None] * np.sin(angle), np.float32)


def _relief(rng: np.random.Generator, size: int) -> Picture:
    """Return one of several brightness patterns in about -0.5..0.5, none of them one of the classes."""
    kind = rng.choice(["plain", "stripes", "grain", "patches", "clouds"])
    if kind == "stripes":
        return np.asarray(0.5 * np.sin(_ramp(rng, size) * 2 * np.pi * rng.uniform(5, 18)), np.float32)
    if kind == "grain":
        return _noise(rng, size, size / 80) - 0.5
    if kind == "patches":
        patches = (_noise(rng, size, size / rng.uniform(3, 7)) > 0.55).astype(np.float32)
        return np.asarray(cv2.GaussianBlur(patches, (0, 0), size / 45), np.float32) - 0.5
    if kind == "clouds":
        return np.asarray(_noise(rng, size, size / 4) * 0.6 + _noise(rng, size, size / 12) * 0.4 - 0.5, np.float32)
    return np.zeros((size, size), np.float32)


def paint_background(rng: np.random.Generator, size: int) -> Picture:
    """Return a background, float BGR ``[size, size, 3]`` in 0..255: a gradient, a pattern and stray lines."""
    one = random_colour(rng, (0.0, 0.5), (0.2, 0.9))
    other = np.clip(one + rng.uniform(-70, 70, 3).astype(np.float32), 0, 255)
    blend = np.clip(_ramp(rng, size) + 0.5, 0, 1)[..., None]
    canvas = one * (1 - blend) + other * blend
    canvas = canvas + _relief(rng, size)[..., None] * rng.uniform(15, 70)
    canvas = np.ascontiguousarray(np.clip(canvas, 0, 255), np.float32)
    for _ in range(rng.integers(0, 5)):
        _stray_line(rng, canvas)
    return canvas


def _stray_line(rng: np.random.Generator, canvas: Picture) -> None:
    """Draw a bent open line: it has edges and colour like a shape and is none."""
    size = len(canvas)
    start, heading = rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi)
    points = [start]
    for _ in range(rng.integers(1, 5)):
        points.append(points[-1] + rng.uniform(0.1, 0.35) * size * np.array([np.cos(heading), np.sin(heading)]))
        heading += rng.uniform(-0.8, 0.8)
    fixed = np.round(np.asarray(points) * (1 << SUBPIXEL_BITS)).astype(np.int32)
    colour = tuple(float(c) for c in random_colour(rng, (0.0, 0.9), (0.1, 1.0)))
    cv2.polylines(canvas, [fixed], False, colour, int(rng.integers(1, 4)), cv2.LINE_AA, SUBPIXEL_BITS)


def visible_colour(rng: np.random.Generator, canvas: Picture, cover: Picture) -> Picture:
    """Return a colour, BGR 0..255, that stands out from what surrounds the shape on the canvas."""
    grown = cv2.dilate(cover, np.ones((5, 5), np.uint8))
    around = canvas[(grown > 0.5) & (cover < 0.5)]
    best, best_distance = random_colour(rng, (0.35, 1.0), (0.3, 1.0)), -1.0
    for _ in range(12):
        colour = random_colour(rng, (0.35, 1.0), (0.3, 1.0))
        # the fifth part of the surroundings that is nearest in colour: an edge may fade, most of them must not
        distance = float(np.quantile(np.linalg.norm(around - colour, axis=1), 0.2)) if len(around) else 255.0
        if distance > best_distance:
            best, best_distance = colour, distance
        if best_distance > 85:
            break
    return best


def paint_shape(
    rng: np.random.Generator, canvas: Picture, points: npt.NDArray[np.float64], cover: Picture, side: float
) -> None:
    """Paint a shape onto the canvas in place: plain, shaded, striped or grained, sometimes with a rim."""
    size = len(canvas)
    colour = visible_colour(rng, canvas, cover)
    fill = rng.choice(["plain", "plain", "shaded", "striped", "grained"])
    shade = np.zeros((size, size), np.float32)
    if fill == "shaded":
        shade = _ramp(rng, size) * min(1.0, size / side / 3)
    elif fill == "striped":
        shade = np.sign(np.sin(_ramp(rng, size) * 2 * np.pi * size / side * rng.uniform(2, 4))).astype(np.float32) * 0.5
    elif fill == "grained":
        shade = _noise(rng, size, max(2.0, side / 8)) - 0.5
    body = np.clip(colour * (1 + shade * rng.uniform(0.2, 0.5))[..., None], 0, 255)
    canvas += (body - canvas) * cover[..., None]
    if rng.random() < 0.3:
        rim = np.minimum(coverage(points, size, line=max(2, round(side * 0.1))), cover)
        tint = colour * 0.35 if colour.mean() > 110 else colour * 0.4 + 150
        canvas += (np.asarray(tint, np.float32) - canvas) * rim[..., None]


def photograph(rng: np.random.Generator, canvas: Picture) -> npt.NDArray[np.uint8]:
    """Return the canvas as a camera would see it, uint8 BGR: uneven light, slight blur, sensor noise."""
    size = len(canvas)
    light = rng.uniform(0.7, 1.15) * (1 + rng.uniform(0, 0.35) * _ramp(rng, size))
    picture = canvas * light[..., None] + rng.uniform(-12, 12)
    if (sigma := rng.uniform(0, 0.9) * size / 320) > 0.3:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32)
    picture = picture + rng.standard_normal(picture.shape, np.float32) * rng.uniform(1, 9)
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)
