"""Where the objects of a scene stand, of which classes and sizes: drawn before anything is painted.

Nothing here depends on a painted pixel, so a machine that rounds a pixel otherwise still draws the same plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vanillayolo.data.scenes.settings import SceneSettings

Numbers = npt.NDArray[np.float64]
Draw = tuple[npt.NDArray[np.int64], Numbers, Numbers]  # classes [n], sides [n], centres [n, TRIES, 2]; shares of a side

TRIES = 4  # places for each object
LEAST_SIDE, MOST_SIDE = 0.03, 0.8  # of an object, as a share of the picture's side
LEAST_PIXELS = 5.0  # least side of an object in pixels
CLUTTER_CLASS = -1


@dataclass(frozen=True)
class Plan:
    """The objects of a scene in the order in which they are painted; lengths in pixels.

    Attributes:
        kinds: class of each, -1 for clutter; ``[n]``.
        forms: which of its class's sprites; ``[n]``.
        sides: length of the longer side; ``[n]``.
        centres: places to try; ``[n, TRIES, 2]``.
        angles: turn in radians; ``[n]``.
        squeezes: narrowing; ``[n]``.
        bends: shift of each corner in shares of half a side, for perspective; ``[n, 4, 2]``.
        colours: two to four candidates for the first colour, BGR 0..255; ``[n, 4, 3]``.
        seconds: the other colour of each; ``[n, 3]``.
        soft: halvings of the resolution, for objects out of focus; ``[n]``.
        cover: how opaque they are, 0..1; ``[n]``.
        light: slope of brightness to the right and downwards, for shading; ``[2]``.
        shadow: offset of cast shadows; ``[2]``, or None.
    """

    kinds: npt.NDArray[np.int64]
    forms: npt.NDArray[np.int64]
    sides: Numbers
    centres: Numbers
    angles: Numbers
    squeezes: Numbers
    bends: Numbers
    colours: Numbers
    seconds: Numbers
    soft: npt.NDArray[np.int64]
    cover: Numbers
    light: Numbers
    shadow: Numbers | None


def _log_uniform(rng: np.random.Generator, least: float, most: float) -> float:
    return float(np.exp(rng.uniform(np.log(least), np.log(max(most, least)))))


def _scatter(rng: np.random.Generator, settings: SceneSettings) -> Draw:
    """Objects of any class anywhere, of sizes around one that the picture draws; now and then none at all."""
    anchor = _log_uniform(rng, 0.045, 0.55)
    count = round(_log_uniform(rng, 0.4, min(settings.objects, 0.7 / anchor**2)))
    sides = anchor * np.exp(rng.normal(0, 0.45, count))
    return rng.integers(0, settings.classes, count), sides, rng.uniform(0, 1, (count, TRIES, 2))


def _crowd(rng: np.random.Generator, settings: SceneSettings) -> Draw:
    """Many of one class, about equal in size, and a few of a second one, as cells under a microscope."""
    side = _log_uniform(rng, 0.05, 0.22)
    count = min(settings.objects, max(2, round(rng.uniform(0.2, 0.8) / side**2)))
    most, other = rng.integers(0, settings.classes, 2)
    minor = rng.random(count) < rng.uniform(0, 0.25)
    sides = side * np.exp(rng.normal(0, 0.08, count)) * np.where(minor, rng.uniform(0.35, 1.6), 1)
    return np.where(minor, other, most), sides, rng.uniform(0, 1, (count, TRIES, 2))


def _rows(rng: np.random.Generator, settings: SceneSettings) -> Draw:
    """Objects in rows and columns of one pitch, some places empty, as on a board or a shelf; or in one line."""
    columns, rows = int(rng.integers(2, 9)), int(rng.choice([1, 1, 1, 2, 3, 4, 6, 8]))
    pitch = rng.uniform(0.7, 1) / max(columns, rows)
    turn = rng.choice([0.0, rng.uniform(-1, 1)])
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=2).reshape(-1, 2) + 0.5
    kept = rng.permutation(len(cells))[: max(1, min(settings.objects, round(len(cells) * rng.uniform(0.3, 1))))]
    places = (cells[kept] - [columns / 2, rows / 2]) * pitch
    places = places @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + rng.uniform(0.4, 0.6, 2)
    few = rng.integers(0, settings.classes, int(rng.integers(1, 7)))
    sides = pitch * rng.uniform(0.45, 1.1) * np.exp(rng.normal(0, 0.08, len(kept)))
    centres = places[:, None] + rng.normal(0, 0.06 * pitch, (len(kept), TRIES, 2))
    return few[rng.integers(0, len(few), len(kept))], sides, centres


def _portrait(rng: np.random.Generator, settings: SceneSettings) -> Draw:
    """One large object, or two."""
    count = min(settings.objects, int(rng.choice([1, 1, 2])))
    return (
        rng.integers(0, settings.classes, count),
        rng.uniform(0.35, MOST_SIDE, count),
        rng.uniform(0.25, 0.75, (count, TRIES, 2)),
    )


def _few(rng: np.random.Generator, settings: SceneSettings) -> Draw:
    """One to five objects, none of them small: what plain scenes are of."""
    count = min(settings.objects, int(rng.integers(1, 6)))
    sides, centres = rng.uniform(0.2, 0.4, count), rng.uniform(0.15, 0.85, (count, TRIES, 2))
    return rng.integers(0, settings.classes, count), sides, centres


LAYOUTS: tuple[tuple[Callable[[np.random.Generator, SceneSettings], Draw], float], ...] = (
    (_scatter, 0.45),
    (_crowd, 0.22),
    (_rows, 0.2),
    (_portrait, 0.13),
)
"""What scenes look like, and how often."""


def random_colours(rng: np.random.Generator, count: int) -> Numbers:
    """Return colours, BGR 0..255, ``[count, 3]``: from grey to full, from dark to bright."""
    grey, hue = rng.uniform(20, 240, (count, 1)), rng.uniform(-1, 1, (count, 3))
    hue -= hue.mean(axis=1, keepdims=True)
    return np.clip(grey + hue * rng.uniform(0, 130, (count, 1)), 0, 255)


def plan_scene(rng: np.random.Generator, settings: SceneSettings, picture_class: int | None = None) -> Plan:
    """Draw the plan of a scene.

    Args:
        rng: source of every choice.
        settings: the set's.
        picture_class: for the task classify: one object of this class, large or of middle size.
    """
    if picture_class is None:
        draw = _few if settings.plain else LAYOUTS[rng.choice(len(LAYOUTS), p=[share for _, share in LAYOUTS])][0]
        kinds, sides, centres = draw(rng, settings)
    else:
        kinds, sides = np.array([picture_class]), rng.uniform(0.3, MOST_SIDE, 1)
        centres = rng.uniform(0.3, 0.7, (1, TRIES, 2))
    clutter = 0 if settings.plain else int(rng.choice([0, 0, 0, 1, 2, 4]))
    kinds = np.concatenate([kinds, np.full(clutter, CLUTTER_CLASS)])
    sides = np.concatenate([np.clip(sides, LEAST_SIDE, MOST_SIDE), rng.uniform(0.1, 0.5, clutter)])
    centres = np.concatenate([centres, rng.uniform(0, 1, (clutter, TRIES, 2))])
    # mostly the large ones first, so that few small ones are hidden
    order = np.argsort(-sides * np.exp(rng.normal(0, 0.5, len(sides))), kind="stable")
    sides = np.maximum(sides * settings.size, LEAST_PIXELS)
    plan = _dressed(rng, kinds[order], sides[order], centres[order] * settings.size)
    return _plainly(plan) if settings.plain else plan


def _plainly(plan: Plan) -> Plan:
    """Give each class a colour of its own, far from those of its neighbours; nothing glassy, nothing out of focus."""
    angle = 2 * np.pi * (plan.kinds * 0.381966)[:, None] + np.array([0, 2, 4]) * np.pi / 3
    colours = 95 + 85 * np.cos(angle)
    return replace(
        plan,
        colours=np.repeat(colours[:, None], 4, axis=1),
        seconds=0.5 * colours,
        soft=np.zeros_like(plan.soft),
        cover=np.ones_like(plan.cover),
    )


def _dressed(rng: np.random.Generator, kinds: npt.NDArray[np.int64], sides: Numbers, centres: Numbers) -> Plan:
    """Add turns, perspective, colours, focus and light to classes, sizes and places."""
    count = len(kinds)
    turn = rng.choice([0.12, 0.5, np.pi])  # how far the objects of this picture are turned
    colours, seconds = random_colours(rng, 4 * count).reshape(count, 4, 3), random_colours(rng, count)
    if rng.random() < 0.6:  # objects of a class are alike in colour
        seen, number = np.unique(kinds, return_inverse=True)
        colours, seconds = (
            random_colours(rng, 4 * len(seen)).reshape(-1, 4, 3)[number],
            random_colours(rng, len(seen))[number],
        )
        shade = rng.normal(0, 10, (count, 1))
        colours, seconds = colours + shade[:, None] + rng.normal(0, 4, (count, 1, 3)), seconds + shade
    bends = rng.normal(0, rng.choice([0.0, 0.05, 0.1]), (count, 4, 2))
    glassy, blurred, angle = rng.random() < 0.12, rng.random() < 0.25, rng.uniform(0, 2 * np.pi)
    return Plan(
        kinds=kinds,
        forms=rng.integers(0, 1 << 16, count),
        sides=sides,
        centres=centres,
        angles=rng.uniform(-turn, turn, count),
        squeezes=rng.uniform(0.75, 1, count),
        bends=np.clip(bends, -0.2, 0.2),
        colours=np.clip(colours, 0, 255),
        seconds=np.clip(seconds, 0, 255),
        soft=rng.integers(0, 2, count) * blurred,
        cover=rng.uniform(0.55, 0.9, count) if glassy else np.ones(count),
        light=np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(0, 0.9),
        shadow=_shadow(rng, angle, sides),
    )


def _shadow(rng: np.random.Generator, angle: float, sides: Numbers) -> Any:
    far = rng.uniform(0.05, 0.2) * (float(np.median(sides)) if len(sides) else 1.0)
    return np.array([-np.cos(angle), -np.sin(angle)]) * far if rng.random() < 0.3 else None
