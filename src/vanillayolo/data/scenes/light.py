"""Behind and in front of the objects: backgrounds, uneven light, and what a camera does to a picture."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vanillayolo.data.scenes.atlas import Atlas
from vanillayolo.data.scenes.layout import random_colours

Picture = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def _piece(rng: np.random.Generator, atlas: Atlas, size: int) -> Bytes:
    """Return a turned and scaled piece of a texture, ``[size, size]``."""
    texture = atlas.textures[rng.integers(len(atlas.textures))]
    # from three times enlarged to half the size; outside, the texture is mirrored
    scale = np.exp(rng.uniform(np.log(0.5), np.log(3))) * size / len(texture)
    angle, centre = rng.uniform(0, 2 * np.pi), rng.uniform(0, len(texture), 2)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    move = np.array([[cos, -sin, centre[0]], [sin, cos, centre[1]]])
    move[:, 2] -= move[:, :2] @ [size / 2, size / 2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(texture, move, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101))


def _coloured(rng: np.random.Generator, grey: Bytes, plain: bool) -> Picture:
    """Return a grey piece in two to four colours that follow one another, BGR ``[3, size, size]``; pale where plain."""
    stops = random_colours(rng, int(rng.integers(2, 5)))
    stops = stops[0] + (stops - stops[0]) * rng.choice([0.0, 0.15, 0.4, 1.0])  # many real backgrounds are nearly plain
    stops = 215 + stops / 8 if plain else stops
    values = np.linspace(0, 255, len(stops))
    table = np.stack([np.interp(np.arange(256), values, stops[:, channel]) for channel in range(3)])
    return np.take(table.astype(np.float32), grey, axis=1)


def paint_background(rng: np.random.Generator, atlas: Atlas, size: int, plain: bool = False) -> Picture:
    """Return a background, float BGR ``[3, size, size]`` in 0..255: one texture, or two that share the picture."""
    canvas = _coloured(rng, _piece(rng, atlas, size), plain)
    if rng.random() < 0.35:
        other = _coloured(rng, _piece(rng, atlas, size), plain)
        share = np.clip(
            (_piece(rng, atlas, size).astype(np.float32) - rng.uniform(60, 200)) / rng.uniform(5, 120), 0, 1
        )
        canvas += (other - canvas) * share
    return canvas


def _uneven(rng: np.random.Generator, size: int) -> Picture:
    """Return a factor for every pixel: soft patches of light, darker corners, and sometimes the edge of a shadow."""
    cells, depth = int(rng.integers(2, 6)), rng.uniform(0, 0.35)
    grid = 1 + rng.uniform(-depth, depth, (cells, cells)).astype(np.float32)
    factor = np.asarray(cv2.resize(grid, (size, size), interpolation=cv2.INTER_LINEAR))
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    if rng.random() < 0.3:
        factor *= 1 - np.float32(rng.uniform(0.1, 0.35)) * (axis[None, :] ** 2 + axis[:, None] ** 2)
    if rng.random() < 0.2:
        angle, place, soft = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6), rng.uniform(0.02, 0.3)
        side = axis[None, :] * np.float32(np.cos(angle)) + axis[:, None] * np.float32(np.sin(angle))
        factor *= 1 - np.float32(rng.uniform(0.2, 0.5)) * np.clip((side - place) / soft, 0, 1)
    return factor


def _noise(rng: np.random.Generator, atlas: Atlas, size: int) -> Picture:
    """Return noise of one strength, alike in the three channels or not, ``[1 or 3, size, size]``."""
    strength, count = min(rng.exponential(4.0), 20.0), int(rng.choice([1, 3]))
    repeats = -(-size // len(atlas.noise))
    tile = atlas.noise if repeats == 1 else np.tile(atlas.noise, (repeats, repeats))
    starts = rng.integers(0, len(tile) - size + 1, (3, 2))[:count]
    planes = np.stack([tile[y : y + size, x : x + size] for y, x in starts])
    return planes * np.float32(strength / 32)


def photograph(rng: np.random.Generator, atlas: Atlas, canvas: Picture) -> Bytes:
    """Return a canvas as a camera would see it: light, blur, noise, colour cast, lost detail.

    Args:
        rng: source of every choice.
        atlas: where the noise comes from.
        canvas: float BGR ``[3, size, size]`` in 0..255; it is used up.

    Returns:
        uint8 BGR ``[size, size, 3]``.
    """
    size = canvas.shape[1]
    canvas *= _uneven(rng, size)
    blur, small, quality = rng.exponential(0.35) * size / 160, rng.random() < 0.1, int(rng.integers(25, 90))
    if blur > 0.3:
        for plane in canvas:
            plane[...] = cv2.GaussianBlur(plane, (0, 0), min(blur, 1.6 * size / 160))
    canvas += _noise(rng, atlas, size)
    picture = cv2.merge(list(np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)))
    if small:
        picture = cv2.resize(cv2.resize(picture, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA), (size, size))
    cast, bend = rng.normal(1, 0.08, 3), np.exp(rng.normal(0, 0.2))
    ramp = np.arange(256) / 255
    table = np.stack([255 * np.minimum(ramp**bend * factor, 1) for factor in cast], axis=1)
    picture = cv2.LUT(picture, np.round(table).astype(np.uint8)[None])
    if rng.random() < 0.05:
        picture = cv2.merge([cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)] * 3)
    if rng.random() < 0.3:
        picture = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return np.asarray(picture)
