"""Classes of objects by formula: ten families of shapes, each class a draw of its family's parameters.

Every family is ``(form, vary, cover, tone)`` and paints into two empty uint8 ``[side, side]``: ``cover`` becomes the
silhouette, ``tone`` how much of an object's second colour a pixel has. ``form`` starts from the class alone, so it
draws the same parameters for all objects of a class; ``vary`` draws how one object differs from the next.

Contours carry more of what is learned than fractal texture does (Kataoka et al., 2022; Takashima et al., Visual Atoms,
2023), which is why nine of the ten are made of outlines. Fractals are iterated function systems whose singular values
are bounded so that they converge (Anderson and Farrell, Improving Fractal Pre-training, 2022).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from vanillayolo.data.scenes.textures import SURFACES, TEXTURES

Points = npt.NDArray[np.float64]
Grey = npt.NDArray[np.uint8]
Family = Callable[[np.random.Generator, np.random.Generator, Grey, Grey], None]

ANGLES = np.linspace(0, 2 * np.pi, 96, endpoint=False)
SPAN = 0.42  # of the canvas's side that the unit length of a formula takes


def _pixels(points: Points, side: int) -> npt.NDArray[np.int32]:
    return np.round((points * SPAN + 0.5) * side * 16).astype(np.int32)


def _fill(canvas: Grey, points: Points, value: int = 255) -> None:
    cv2.fillPoly(canvas, [_pixels(points, len(canvas))], value, cv2.LINE_AA, 4)


def _stroke(canvas: Grey, points: Points, width: float, value: int = 255, closed: bool = False) -> None:
    """Draw a line; ``width`` counts in units of the formula."""
    thickness = max(2, round(width * SPAN * len(canvas)))
    cv2.polylines(canvas, [_pixels(points, len(canvas))], closed, value, thickness, cv2.LINE_AA, 4)


def _ring(radius: Points | float = 1.0, centre: tuple[float, float] = (0.0, 0.0), squeeze: float = 1.0) -> Points:
    return np.stack([np.cos(ANGLES) * radius * squeeze, np.sin(ANGLES) * radius], axis=1) + centre


def _wavy(form: np.random.Generator, vary: np.random.Generator, orders: tuple[int, int], depth: float) -> Points:
    """Return the radius of a contour at ``ANGLES``: 1 and a few waves around the circle, the greatest value 1."""
    numbers = form.choice(np.arange(*orders), 3, replace=False)[:, None]
    depths, phases = form.dirichlet([1, 1, 1]) * depth, form.uniform(0, 2 * np.pi, 3)
    depths, phases = depths * vary.uniform(0.8, 1.2, 3), phases + vary.normal(0, 0.12, 3)
    radius = 1 + (depths[:, None] * np.cos(numbers * ANGLES + phases[:, None])).sum(axis=0)
    return np.asarray(radius / radius.max())


def contour(form: np.random.Generator, vary: np.random.Generator, cover: Grey, tone: Grey) -> None:
    """Fill a wavy contour, with a second one inside it in some classes."""
    radius, inner = _wavy(form, vary, (2, 11), form.uniform(0.35, 0.8)), form.choice([0.0, 0.45, 0.7])
    _fill(cover, _ring(radius))
    if inner:
        _fill(tone, _ring(radius * inner))


def superformula(form: np.random.Generator, vary: np.random.Generator, cover: Grey, tone: Grey) -> None:
    """Fill a curve of Gielis' superformula."""
    order, bulge, sharp = form.integers(3, 10), form.uniform(0.3, 1.6), form.uniform(0.6, 3, 2)
    bulge, sharp = bulge * vary.uniform(0.9, 1.1), sharp * vary.uniform(0.9, 1.1, 2)
    arms = np.abs(np.cos(order * ANGLES / 4)) ** sharp[0] + np.abs(np.sin(order * ANGLES / 4)) ** sharp[1]
    radius = np.clip(arms ** (-1 / bulge), 0.05, 20)
    radius = np.clip(radius / radius.max(), 0.18, 1)
    _fill(cover, _ring(radius))
    _stroke(tone, _ring(radius * 0.6), form.choice([0.0, 0.15]) or 0.01, closed=True)


def polygon(form: np.random.Generator, vary: np.random.Generator, cover: Grey, tone: Grey) -> None:
    """Fill a polygon or a star of straight edges, regular or not."""
    corners, depth, slim = int(form.integers(3, 9)), form.choice([1.0, 1.0, 0.75, 0.5, 0.35]), form.uniform(0.5, 1)
    uneven = form.choice([0.0, 0.25]) * form.uniform(-1, 1, 2 * corners)
    angles = np.arange(2 * corners) * np.pi / corners - np.pi / 2
    middle = depth * np.cos(np.pi / corners) if depth == 1 else depth
    radius = np.where(np.arange(2 * corners) % 2, middle, 1) * (1 + uneven) * (1 + vary.normal(0, 0.03, 2 * corners))
    points = np.stack([np.cos(angles) * slim, np.sin(angles)], axis=1) * radius[:, None]
    _fill(cover, points)
    if form.random() < 0.5:  # two faces, as a solid has
        _fill(tone, np.concatenate([points[: corners + 1], [[0, 0]]]))


def glyph(form: np.random.Generator, vary: np.random.Generator, cover: Grey, tone: Grey) -> None:
    """Draw two or three strokes through the points of a lattice, like a letter of an unknown script."""
    width = form.uniform(0.22, 0.38) * vary.uniform(0.85, 1.2)
    grid = np.array([(x, y) for x in (-0.75, 0, 0.75) for y in (-1.0, 0, 1.0)])
    lattice = grid + vary.normal(0, 0.06, grid.shape)
    last = int(form.integers(9))
    for _ in range(form.integers(2, 4)):
        path = np.concatenate([[last], form.choice(9, int(form.integers(2, 4)), replace=False)])
        last = int(path[-1])
        points = lattice[path]
        if form.random() < 0.4 and len(points) > 2:  # a bow instead of a corner
            t = np.linspace(0, 1, 16)[:, None]
            points = (1 - t) ** 2 * points[0] + 2 * t * (1 - t) * points[1] + t**2 * points[-1]
        _stroke(cover, points, width)


def profile(form: np.random.Generator, vary: np.random.Generator, cover: Grey, tone: Grey) -> None:
    """Fill a mirror-symmetric outline of bulges and waists with bands across, like something turned on a lathe."""
    knots = int(form.integers(4, 8))
    widths, smooth = form.uniform(0.12, 0.65, knots), form.random() < 0.6
    widths[-1] = max(widths[-1], 0.35)
    widths = widths * vary.uniform(0.88, 1.12, knots)
    heights = np.linspace(-1, 1, 64)
    places = (heights + 1) / 2 * (knots - 1)
    blend = places % 1
    blend = (1 - np.cos(np.pi * blend)) / 2 if smooth else np.clip(blend * 3 - 1, 0, 1)
    low = np.minimum(places.astype(int), knots - 2)
    half = np.where(places >= knots - 1, widths[-1], widths[low] * (1 - blend) + widths[low + 1] * blend)
    _fill(cover, np.concatenate([np.stack([half, heights], 1), np.stack([-half, heights], 1)[::-1]]))
    for band, thick in zip(form.uniform(-0.8, 0.9, form.integers(0, 4)), form.uniform(0.08, 0.3, 4), strict=False):
        _fill(tone, np.array([(-1, band), (1, band), (1, band + thick), (-1, band + thick)]))


def orbit(form: np.random.Generator, vary: np.random.Generator, cover: Grey, tone: Grey) -> None:
    """Draw one to three wavy rings with open middles."""
    rings, width = int(form.integers(1, 4)), form.uniform(0.16, 0.3)
    for scale in np.linspace(1, 0.3, rings) if rings > 1 else (1.0,):
        radius = _wavy(form, vary, (2, 9), form.uniform(0.1, 0.5)) * scale
        _stroke(cover, _ring(radius), width / max(1, rings - 1) ** 0.5, closed=True)
    if form.random() < 0.4:
        _stroke(cover, np.array([(-0.8, 0), (0.8, 0)]), width)


def cell(form: np.random.Generator, vary: np.random.Generator, cover: Grey, tone: Grey) -> None:
    """Fill a roundish body with a nucleus of one to four lobes, a paler middle, or grains."""
    squeeze = form.uniform(0.6, 1)
    _fill(cover, _ring(_wavy(form, vary, (2, 6), form.uniform(0.05, 0.25)), squeeze=squeeze * vary.uniform(0.92, 1.08)))
    lobes, size, reach = int(form.integers(0, 5)), form.uniform(0.2, 0.45), form.uniform(0.1, 0.45)
    start = vary.uniform(0, 2 * np.pi)
    for lobe in range(lobes):
        angle = start + 2 * np.pi * lobe / lobes + vary.normal(0, 0.25)
        place = (np.cos(angle) * reach * squeeze, np.sin(angle) * reach)
        _fill(tone, _ring(size * vary.uniform(0.85, 1.15), place if lobes > 1 else (place[0] / 2, place[1] / 2)))
    if not lobes:
        _fill(tone, _ring(size, (0.0, 0.0), squeeze), 160)
    for spot in vary.uniform(-0.75, 0.75, (int(form.choice([0, 0, 12, 30])), 2)):
        _fill(tone, _ring(form.uniform(0.04, 0.08), (spot[0], spot[1])), 220)


def surface(form: np.random.Generator, vary: np.random.Generator, cover: Grey, tone: Grey) -> None:
    """Fill any simple outline with the texture of the class: here the surface tells, not the shape."""
    corners, squeeze = int(vary.choice([3, 4, 4, 5, 96])), vary.uniform(0.6, 1)
    _fill(cover, _ring(squeeze=squeeze)[np.linspace(0, 96, corners, endpoint=False).astype(int)])
    side = len(cover)
    texture = TEXTURES[str(form.choice(SURFACES))](form, vary, 2 * side)[:side, :side]
    tone[...] = texture * 255


def compound(form: np.random.Generator, vary: np.random.Generator, cover: Grey, tone: Grey) -> None:
    """Put limbs on a body, like a beast or a tool."""
    slim = form.uniform(0.35, 0.7)
    _fill(cover, _ring(0.6, squeeze=slim))
    for limb in range(int(form.integers(2, 6))):
        angle, length = (
            form.uniform(0, 2 * np.pi) + vary.normal(0, 0.15),
            form.uniform(0.65, 1) * vary.uniform(0.9, 1.1),
        )
        width, knob = form.uniform(0.15, 0.3), form.choice([0.0, 0.18, 0.28])
        end = np.array([np.cos(angle), np.sin(angle)]) * length
        paint = (cover, tone) if limb % 2 else (cover,)
        for canvas in paint:
            _stroke(canvas, np.array([(0.0, 0.0), end]), width)
            if knob:
                _fill(canvas, _ring(knob, (end[0], end[1])))


def _maps(form: np.random.Generator) -> tuple[Points, Points]:
    """Return the matrices ``[n, 2, 2]`` and offsets ``[n, 2]`` of an iterated function system that converges."""
    count = int(form.integers(2, 5))
    turns, first, second = (
        form.uniform(0, 2 * np.pi, (2, count)),
        form.uniform(0.4, 0.9, count),
        form.uniform(0, 1, count),
    )
    values = np.stack([first, first * second], axis=1)
    values *= form.uniform(5 + count, 6 + count) / 2 / (values @ [1, 2]).sum()  # the sum decides how dense it is
    values = np.minimum(values, 0.92)
    one, other = (np.stack([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]).transpose(2, 0, 1) for t in turns)
    return one * values[:, None, :] @ other, form.uniform(-1, 1, (count, 2))


def _attractor(matrices: Points, offsets: Points, side: int) -> Grey:
    """Return the silhouette of a system: where some ten thousand points lie close after all orders of its maps."""
    points = np.zeros((1, 2))
    for _ in range(round(np.log(10_000) / np.log(len(matrices)))):
        points = (points @ matrices.transpose(0, 2, 1) + offsets[:, None]).reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    places = (points - (low + high) / 2) / max(float((high - low).max()), 1e-9) * 2 * SPAN + 0.5
    x, y = (places * side).astype(int).T
    hits = np.bincount(y * side + x, minlength=side * side).reshape(side, side)
    near = cv2.GaussianBlur(np.minimum(hits, 4).astype(np.float32), (0, 0), side / 50)
    return np.asarray(np.clip(near * (side / 64) ** 2 * 200, 0, 255), np.uint8)


def fractal(form: np.random.Generator, vary: np.random.Generator, cover: Grey, tone: Grey) -> None:
    """Draw the attractor of an iterated function system, as a silhouette."""
    for _ in range(30):  # a class is the first system that is neither a thread nor a blot
        matrices, offsets = _maps(form)
        count, _, stats, _ = cv2.connectedComponentsWithStats(
            (_attractor(matrices, offsets, 64) > 127).astype(np.uint8)
        )
        if count < 2:
            continue
        _, _, width, height, area = stats[1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])]
        if 0.25 < area / (width * height) < 0.8 and area > 0.9 * stats[1:, cv2.CC_STAT_AREA].sum() and area > 500:
            break
    jitter = vary.normal(0, 0.025, matrices.shape)
    cover[...] = _attractor(matrices + jitter, offsets + vary.normal(0, 0.03, offsets.shape), len(cover))


FAMILIES: dict[str, Family] = {
    function.__name__: function
    for function in (contour, polygon, cell, profile, fractal, glyph, surface, compound, superformula, orbit)
}


def class_name(number: int) -> str:
    """Return the name of a class: its family and its number within it."""
    return f"{list(FAMILIES)[number % len(FAMILIES)]}-{number // len(FAMILIES)}"
