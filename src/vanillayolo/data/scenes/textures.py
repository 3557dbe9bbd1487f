"""Grey textures by formula: backgrounds of scenes, and surfaces that tell classes apart.

Every texture is ``(form, vary, side) -> float32 [side, side]`` in 0..1. ``form`` draws what makes the texture, ``vary``
draws what differs between two pieces of it. Dead leaves and noise with a spectrum of 1/f are the two random processes
whose statistics come closest to those of photographs (Baradad et al., Learning to See by Looking at Noise, 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.float32]
Texture = Callable[[np.random.Generator, np.random.Generator, int], Picture]


def _axes(form: np.random.Generator, vary: np.random.Generator, side: int) -> tuple[Picture, Picture]:
    """Return two turned coordinates that count 0..1 over the side, from a random origin."""
    angle, (dx, dy) = form.uniform(0, np.pi), vary.uniform(0, 1, 2)
    axis = np.arange(side, dtype=np.float32) / side
    x, y = axis[None, :] + dx, axis[:, None] + dy
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(x * cos + y * sin, np.float32), np.asarray(y * cos - x * sin, np.float32)


def _soft_sign(values: Picture, softness: float) -> Picture:
    return np.clip(values / np.float32(softness) + np.float32(0.5), 0, 1)


def _stretched(values: npt.NDArray[Any]) -> Picture:
    low, high = np.percentile(values[::3, ::3], [1, 99])
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0, 1), np.float32)


def spectrum(form: np.random.Generator, vary: np.random.Generator, side: int) -> Picture:
    """Return noise whose spectrum falls as a power of the frequency, stretched along a direction or not."""
    power, stretch = form.uniform(0.8, 2.4), form.choice([1.0, 1.0, 3.0])
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    radius = np.maximum(np.hypot(fx * stretch, fy), 1 / side)
    waves = np.fft.rfft2(vary.standard_normal((side, side))) / radius**power
    waves[0, 0] = 0
    return _stretched(np.fft.irfft2(waves, s=(side, side)))


def leaves(form: np.random.Generator, vary: np.random.Generator, side: int) -> Picture:
    """Return dead leaves: discs or quadrangles that cover one another, many small ones and few large ones."""
    least, most, corners = form.uniform(0.01, 0.03), form.uniform(0.12, 0.3), int(form.choice([4, 5, 24]))
    canvas = np.full((side, side), vary.integers(0, 256), np.uint8)
    count = 500
    radii = side * least / np.sqrt(1 - vary.random(count) * (1 - (least / most) ** 2))
    centres, tones = vary.uniform(0, side, (count, 2)), vary.integers(0, 256, count)
    angles = vary.uniform(0, 2 * np.pi, count)[:, None] + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles) * form.uniform(0.5, 1)], axis=2) * radii[:, None, None]
    for points, tone in zip(np.round((ring + centres[:, None]) * 16).astype(np.int32), tones, strict=True):
        cv2.fillPoly(canvas, [points], int(tone), cv2.LINE_AA, 4)
    return np.asarray(canvas / 255, np.float32)


def stripes(form: np.random.Generator, vary: np.random.Generator, side: int) -> Picture:
    """Return stripes, straight or bent, sharp or soft."""
    x, y = _axes(form, vary, side)
    bend = form.choice([0.0, 0.0, 0.05]) * np.sin(2 * np.pi * form.uniform(1, 3) * y)
    wave = np.sin(2 * np.pi * form.uniform(3, 14) * (x + bend)) + form.uniform(-0.5, 0.5)
    return _soft_sign(np.asarray(wave, np.float32), form.choice([0.3, 2.0]))


def checks(form: np.random.Generator, vary: np.random.Generator, side: int) -> Picture:
    """Return a checkerboard."""
    x, y = _axes(form, vary, side)
    count = np.pi * form.uniform(3, 9)
    return _soft_sign(np.asarray(np.sin(x * count) * np.sin(y * count), np.float32), 0.2)


def bricks(form: np.random.Generator, vary: np.random.Generator, side: int) -> Picture:
    """Return rows of tiles with joints; each tile has a tone of its own."""
    x, y = _axes(form, vary, side)
    rows, width, joint = form.uniform(4, 10), form.uniform(1, 3), form.uniform(0.05, 0.15)
    row = np.floor(y * rows)
    along = x * rows / width + 0.5 * (row % 2) * form.integers(0, 2)
    tones = 0.5 + 0.5 * form.uniform(0, 1) * vary.random(251, np.float32)
    face = tones[(along.astype(np.int32) * 7 + row.astype(np.int32) * 31) % 251]
    gap = ((along % 1) * width < joint) | (y * rows % 1 < joint)
    return np.asarray(np.where(gap, 0, face), np.float32)


def waves(form: np.random.Generator, vary: np.random.Generator, side: int) -> Picture:
    """Return a sum of plane waves."""
    total = np.zeros((side, side), np.float32)
    for _ in range(form.integers(2, 6)):
        x, _y = _axes(form, vary, side)
        total += np.sin(2 * np.pi * form.uniform(1, 10) * x).astype(np.float32)
    return _stretched(total)


def grains(form: np.random.Generator, vary: np.random.Generator, side: int) -> Picture:
    """Return cells around random points: plain tones, or the distance to the nearest point."""
    points = np.ones((side, side), np.uint8)
    count = int(form.integers(30, 220))
    points[vary.integers(0, side, count), vary.integers(0, side, count)] = 0
    distance, owner = cv2.distanceTransformWithLabels(points, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    if form.random() < 0.5:
        return _stretched(distance)
    return np.asarray(vary.random(count + 1, np.float32)[np.minimum(owner, count)], np.float32)


def dots(form: np.random.Generator, vary: np.random.Generator, side: int) -> Picture:
    """Return dots on a lattice, or rings."""
    x, y = _axes(form, vary, side)
    count, radius = form.uniform(4, 11), form.uniform(0.2, 0.4)
    distance = np.hypot(x * count % 1 - 0.5, y * count % 1 - 0.5).astype(np.float32)
    edge = radius - distance if form.random() < 0.7 else 0.08 - np.abs(distance - radius)
    return _soft_sign(np.asarray(edge, np.float32), 0.1)


def fibres(form: np.random.Generator, vary: np.random.Generator, side: int) -> Picture:
    """Return many thin lines, of one direction or of all."""
    canvas = np.zeros((side, side), np.uint8)
    count, spread = int(form.integers(40, 200)), form.choice([0.2, np.pi])
    angles = form.uniform(0, np.pi) + vary.uniform(-spread, spread, count)
    starts, lengths = vary.uniform(0, side, (count, 2)), vary.uniform(0.1, 0.5, count) * side
    ends = starts + np.stack([np.cos(angles), np.sin(angles)], axis=1) * lengths[:, None]
    for start, end, tone in zip(starts.astype(int), ends.astype(int), vary.integers(60, 256, count), strict=True):
        cv2.line(canvas, start.tolist(), end.tolist(), int(tone), 1, cv2.LINE_AA)
    return np.asarray(canvas / 255, np.float32)


def ramp(form: np.random.Generator, vary: np.random.Generator, side: int) -> Picture:
    """Return an even slope of brightness."""
    return _stretched(_axes(form, vary, side)[0])


TEXTURES: dict[str, Texture] = {
    function.__name__: function
    for function in (spectrum, leaves, stripes, checks, bricks, waves, grains, dots, fibres, ramp)
}
SURFACES = ("stripes", "checks", "bricks", "waves", "grains", "dots")
"""Textures that look the same wherever they are cut out: one of them can be the mark of a class."""
