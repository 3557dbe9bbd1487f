"""What scenes are put together from, drawn once: objects of every class in a few forms, clutter, textures, noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vanillayolo.data.scenes.settings import SceneSettings
from vanillayolo.data.scenes.shapes import FAMILIES, Family, Grey
from vanillayolo.data.scenes.textures import TEXTURES

VARIANTS = 6  # forms of each class
CLUTTER = 24  # things of no class
PIECES = 6  # of each background texture
MARGIN = 1 / 16  # of a sprite's side, free around the object
LEAST_LEVEL = 8  # side in pixels of the smallest copy of a sprite
ATLAS_STREAM, PICTURE_STREAM = 0, 1  # the last numbers of the seeds, so that classes and pictures never share one


@dataclass(frozen=True)
class Sprite:
    """One object as it is stored: a square that its longer side fills but for the margin.

    Attributes:
        levels: uint8 ``[s, s, 4]``, s halved from one to the next: cover, tone, and the slope of the surface to the
            right and downwards around 128.
        outline: points around the silhouette, float32 ``[n, 2]`` as x, y; the square spans -1..1.
        share: of the square that the silhouette covers.
        tone: mean tone of the object, 0..1.
    """

    levels: tuple[Grey, ...]
    outline: npt.NDArray[np.float32]
    share: float
    tone: float


@dataclass(frozen=True)
class Atlas:
    """All that a scene takes its parts from.

    Attributes:
        objects: sprites by class, then form.
        clutter: sprites of things that are no class.
        textures: uint8 ``[t, t]`` each.
        noise: standard normal noise times 32, int8 ``[2 t, 2 t]``.
    """

    objects: tuple[tuple[Sprite, ...], ...]
    clutter: tuple[Sprite, ...]
    textures: tuple[Grey, ...]
    noise: npt.NDArray[np.int8]


def draw_atlas(settings: SceneSettings) -> Atlas:
    """Draw the atlas of a set of classes. It takes a second or two and some 40 MB, four times that above 320 px."""
    side = 128 if settings.size <= 320 else 256
    families, textures = list(FAMILIES.values()), list(TEXTURES.values())

    def stream(*numbers: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([settings.class_seed, *numbers, ATLAS_STREAM]))

    def forms(kind: int) -> tuple[Sprite, ...]:
        family = families[kind % len(families)]
        return tuple(_sprite(family, stream(0, kind), stream(1, kind, form), side) for form in range(VARIANTS))

    def texture(number: int) -> Grey:
        rng = stream(3, number)
        return np.asarray(textures[number % len(textures)](rng, rng, 2 * side) * 255, np.uint8)

    noise = np.clip(stream(4).standard_normal((4 * side, 4 * side), np.float32) * 32, -127, 127)
    return Atlas(
        objects=tuple(forms(kind) for kind in range(settings.classes)),
        clutter=tuple(_sprite(_clutter, stream(2, n), stream(2, n, 1), side) for n in range(CLUTTER)),
        textures=tuple(texture(number) for number in range(PIECES * len(textures))),
        noise=noise.astype(np.int8),
    )


def _clutter(form: np.random.Generator, vary: np.random.Generator, cover: Grey, tone: Grey) -> None:
    """Draw a thing of no class: a bent open line, or a long bar."""
    side = len(cover)
    heading, points = form.uniform(0, 2 * np.pi), [np.zeros(2)]
    for _ in range(int(form.integers(1, 6))):
        points.append(points[-1] + np.array([np.cos(heading), np.sin(heading)]))
        heading += form.uniform(-0.9, 0.9)
    path = np.asarray(points)
    path = (path - (path.min(0) + path.max(0)) / 2) / max(float(np.ptp(path, axis=0).max()), 1e-9) * 0.8 + 0.5
    width = max(2, round(side * form.choice([0.02, 0.04, 0.08, 0.14])))
    cv2.polylines(cover, [np.round(path * side * 16).astype(np.int32)], False, 255, width, cv2.LINE_AA, 4)


def _sprite(family: Family, form: np.random.Generator, vary: np.random.Generator, side: int) -> Sprite:
    drawing = np.zeros((2, 2 * side, 2 * side), np.uint8)
    family(form, vary, drawing[0], drawing[1])
    cover, tone = _framed(drawing[0], drawing[1], side)
    height = _height(cover, vary.choice(["dome", "bevel", "flat"]))
    slopes = [cv2.Sobel(height, cv2.CV_32F, *axis, ksize=3) * 12 + 128 for axis in ((1, 0), (0, 1))]
    tone = _finished(vary, cover, tone)
    full = np.dstack([cover, tone, *(np.clip(slope, 0, 255).astype(np.uint8) for slope in slopes)])
    levels = [full]
    while len(levels[-1]) > LEAST_LEVEL:
        half = len(levels[-1]) // 2
        levels.append(cv2.resize(levels[-1], (half, half), interpolation=cv2.INTER_AREA))
    contours, _ = cv2.findContours((cover > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = np.concatenate(contours)[:, 0, :].astype(np.float32)
    return Sprite(
        levels=tuple(levels),
        outline=(outline + 0.5) * (2 / side) - 1,
        share=float(np.mean(cover > 127)),
        tone=float(np.mean(tone[cover > 127]) / 255),
    )


def _framed(cover: Grey, tone: Grey, side: int) -> tuple[Grey, Grey]:
    """Free a drawing of specks and let it fill a square of the given side but for the margin."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats((cover > 127).astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    large = (areas >= 0.05 * areas[1:].max(initial=1)) & (np.arange(count) > 0)
    solid = large.astype(np.uint8)[parts]
    cover = np.minimum(cover, cv2.dilate(solid, np.ones((3, 3), np.uint8)) * 255)
    x, y, w, h = cv2.boundingRect(solid)
    scale = side * (1 - 2 * MARGIN) / max(w, h)
    shift = side / 2 - scale * np.array([x + w / 2, y + h / 2])
    move = np.array([[scale, 0, shift[0] + scale / 2 - 0.5], [0, scale, shift[1] + scale / 2 - 0.5]])
    if scale < 1:  # else fine lines would be stepped over
        cover, tone = (cv2.GaussianBlur(grey, (0, 0), 0.4 / scale) for grey in (cover, tone))
    both = cv2.warpAffine(np.dstack([cover, tone]), move, (side, side), flags=cv2.INTER_LINEAR)
    return both[..., 0], both[..., 1]


def _height(cover: Grey, kind: str) -> npt.NDArray[np.float32]:
    """Return the height of a surface over a silhouette, in pixels: round, flat with round edges, or level."""
    if kind == "flat":
        return np.zeros(cover.shape, np.float32)
    inside = cv2.distanceTransform((cover > 127).astype(np.uint8), cv2.DIST_L2, 5)
    top = float(inside.max()) if kind == "dome" else min(float(inside.max()), len(cover) / 16)
    rise = 1 - np.clip(inside / max(top, 1e-6), 0, 1)
    return np.asarray(cv2.GaussianBlur(top * np.sqrt(1 - rise**2), (0, 0), len(cover) / 64), np.float32)


def _finished(vary: np.random.Generator, cover: Grey, tone: Grey) -> Grey:
    """Return the tone with what differs between objects of a class: clouds in the paint, a rim, or neither."""
    side = len(cover)
    values = tone.astype(np.float32)
    if vary.random() < 0.4:
        coarse = vary.random((int(vary.integers(3, 12)),) * 2, np.float32) - 0.5
        values += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC) * vary.uniform(40, 140)
    if vary.random() < 0.35:
        width = max(1, round(side * vary.uniform(0.015, 0.05)))
        inner = cv2.erode(cover, np.ones((2 * width + 1, 2 * width + 1), np.uint8))
        values = np.where(inner < 128, 230, values)
    return np.asarray(np.clip(values, 0, 255), np.uint8)
