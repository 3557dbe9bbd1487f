"""One scene: objects painted one over another on a background, with labels of what can be seen of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, floor

import cv2
import numpy as np
import numpy.typing as npt

from vanillayolo.data.scenes.atlas import MARGIN, PICTURE_STREAM, Atlas, Sprite, draw_atlas
from vanillayolo.data.scenes.labels import Labels, Owner, extreme_points, outline, turned_box, visible_box, visible_part
from vanillayolo.data.scenes.layout import CLUTTER_CLASS, Plan, plan_scene
from vanillayolo.data.scenes.light import Picture, paint_background, photograph
from vanillayolo.data.scenes.settings import SceneSettings

MIN_VISIBLE = 0.4  # of an object's area; it is not placed, and nothing is placed on it, where less would show
MIN_PIXELS = 12  # of an object that show; less has no shape
MIN_BOX = 3  # pixels a side of the box around what shows; less is a sliver
GROWTH = (1.0, 1.0, 1.3, 1.7)  # of an object's size from try to try: thin ones vanish when they are small
CONTRAST = 50.0  # between an object's mean colour and what lies behind it, in the channel where it is greatest
CORNERS = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64)

Region = tuple[int, int, int, int]
Points = npt.NDArray[np.float64]
Grey = npt.NDArray[np.uint8]
Layer = tuple[Grey, Grey, Grey, Grey]


@dataclass
class _Board:
    """A scene while it is painted."""

    canvas: Picture
    owner: Owner
    regions: list[Region] = field(default_factory=list)  # of every placed thing, clutter too
    areas: list[float] = field(default_factory=list)  # of whole silhouettes, hidden and cut parts included
    kinds: list[int] = field(default_factory=list)
    squares: list[Points] = field(default_factory=list)  # corners of each sprite's square, [4, 2]
    sprites: list[Sprite] = field(default_factory=list)


class Scenes:
    """Generated pictures and their labels, by index; nothing is stored but the atlas, and nothing is global.

    Picture i of a seed is the same whatever was drawn before, in whichever process. An instance can be pickled: a data
    loader's workers draw from copies of their own.

    Example:
        >>> scenes = Scenes(SceneSettings(pictures=1000, size=160, task="segment"))
        >>> picture, labels = scenes[0]
    """

    def __init__(self, settings: SceneSettings | None = None, atlas: Atlas | None = None) -> None:
        """Draw the atlas, a second or two.

        Args:
            settings: of the set.
            atlas: of other scenes with as many classes or more, the same ``class_seed`` and a size on the same side of
                320 pixels: it would be drawn alike.
        """
        self.settings = settings or SceneSettings()
        self.atlas = atlas or draw_atlas(self.settings)

    def __len__(self) -> int:
        return self.settings.pictures

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], Labels]:
        """Return a picture, uint8 BGR ``[size, size, 3]``, and its labels.

        Raises:
            IndexError: beyond the number of pictures.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        rng = np.random.default_rng(np.random.SeedSequence([self.settings.seed, index, PICTURE_STREAM]))
        picture_class = self.settings.picture_class(index) if self.settings.task == "classify" else None
        plan = plan_scene(rng, self.settings, picture_class)
        board = _Board(
            paint_background(rng, self.atlas, self.settings.size, self.settings.plain),
            np.full((self.settings.size, self.settings.size), -1, np.int16),
        )
        # nothing is drawn from rng while placing: what is rejected there may differ by a pixel between machines
        squares = _squares(plan)
        for number in range(len(plan.kinds)):
            self._place(board, plan, number, squares[number])
        return photograph(rng, self.atlas, board.canvas), self._labels(board, picture_class)

    def _place(self, board: _Board, plan: Plan, number: int, squares: Points) -> None:
        """Paint an object at the first of its places where enough of it, and of those below it, shows."""
        kind = int(plan.kinds[number])
        choice = self.atlas.clutter if kind == CLUTTER_CLASS else self.atlas.objects[kind]
        sprite = choice[plan.forms[number] % len(choice)]
        for square, growth in zip(squares, GROWTH, strict=True):
            region = _region(square, len(board.owner))
            if region[0] >= region[2] or region[1] >= region[3]:
                continue
            layer = _warped(sprite, square, region, plan.sides[number] * growth, int(plan.soft[number]))
            area = sprite.share * cv2.contourArea(square.astype(np.float32))
            if _claim(board, layer[0] > 127, region, area, kind):
                _paint(board.canvas, layer, region, plan, number, sprite.tone)
                board.squares.append(square)
                board.sprites.append(sprite)
                return

    def _labels(self, board: _Board, picture_class: int | None) -> Labels:
        size, task = len(board.owner), self.settings.task
        objects = [index for index, kind in enumerate(board.kinds) if kind != CLUTTER_CLASS]
        parts = [visible_part(board.owner, index, board.regions[index]) for index in objects]
        places = [(part, board.regions[index][:2]) for part, index in zip(parts, objects, strict=True)]
        boxes = [visible_box(part, board.regions[index]) for part, index in zip(parts, objects, strict=True)]
        return Labels(
            classes=np.array([board.kinds[index] for index in objects], np.int64),
            boxes=np.asarray(boxes, np.float64).reshape(-1, 4),
            owner=_renumbered(board.owner, objects, len(board.kinds)),
            outlines=tuple(outline(*place) for place in places) if task == "segment" else None,
            corners=_stacked([turned_box(*p, size) for p in places], 2) if task == "obb" else None,
            keypoints=_stacked([_keypoints(board, i) for i in objects], 3) if task == "pose" else None,
            picture_class=picture_class,
        )


def _stacked(points: list[Points], width: int) -> npt.NDArray[np.float64]:
    return np.asarray(points, np.float64).reshape(-1, 4, width)


def _renumbered(owner: Owner, objects: list[int], count: int) -> Owner:
    """Return the owner map with clutter taken out and the objects numbered in their order."""
    numbers = np.full(count + 1, -1, np.int16)
    numbers[objects] = np.arange(len(objects))
    return numbers[owner]  # -1, the background, finds the last number


def _keypoints(board: _Board, index: int) -> Points:
    move = cv2.getPerspectiveTransform(CORNERS.astype(np.float32), board.squares[index].astype(np.float32))
    silhouette = cv2.perspectiveTransform(board.sprites[index].outline[None], move)[0]
    return extreme_points(np.asarray(silhouette, np.float64), board.owner, index)


def _squares(plan: Plan) -> Points:
    """Return where the corners of each sprite's square lie in the picture, try by try, ``[n, TRIES, 4, 2]``."""
    cos, sin = np.cos(plan.angles), np.sin(plan.angles)
    turns = np.array([[cos, sin], [-sin, cos]]).transpose(2, 0, 1)
    shape = (CORNERS + plan.bends) * (plan.sides / 2 / (1 - 2 * MARGIN))[:, None, None]
    shape[..., 0] *= plan.squeezes[:, None]
    placed: Points = (shape @ turns)[:, None] * np.array(GROWTH)[:, None, None] + plan.centres[:, :, None]
    return placed


def _region(square: Points, size: int) -> Region:
    """Return left, top, right, bottom of the pixels that a square may touch, within the picture."""
    xs, ys = square.T.tolist()
    left, top, right, bottom = floor(min(xs)), floor(min(ys)), ceil(max(xs)), ceil(max(ys))
    return max(left, 0), max(top, 0), min(right, size), min(bottom, size)


def _warped(sprite: Sprite, square: Points, region: Region, side: float, soft: int) -> Layer:
    """Return a sprite as it lies in a region of the picture, from the copy of the nearest size.

    Its cover, tone and two slopes, uint8 ``[h, w]`` each.
    """
    level = 0
    while level + 1 < len(sprite.levels) and len(sprite.levels[level + 1]) * (1 - 2 * MARGIN) >= 0.8 * side:
        level += 1
    source = sprite.levels[min(level + soft, len(sprite.levels) - 1)]
    # cv2 counts from the middle of the first pixel, we from its corner
    start = ((CORNERS + 1) / 2 * len(source) - 0.5).astype(np.float32)
    move = cv2.getPerspectiveTransform(start, (square - region[:2] - 0.5).astype(np.float32))
    shape = (region[2] - region[0], region[3] - region[1])
    cover, tone, right, down = cv2.split(cv2.warpPerspective(source, move, shape, flags=cv2.INTER_LINEAR))
    return cover, tone, right, down


def _claim(board: _Board, mask: npt.NDArray[np.bool_], region: Region, area: float, kind: int) -> bool:
    """Give the pixels of a mask to a new object, if all objects then still show enough; tell whether they do."""
    left, top, right, bottom = region
    index, here = len(board.areas), board.owner[top:bottom, left:right]
    below = np.flatnonzero(np.bincount(here[mask] + 1, minlength=1)[1:]).tolist()
    before = here.copy()
    here[mask] = index
    board.regions.append(region)
    board.areas.append(area)
    board.kinds.append(kind)
    if all(_shows(board, i) for i in (index, *below) if board.kinds[i] != CLUTTER_CLASS):
        return True
    here[...] = before
    for kept in (board.regions, board.areas, board.kinds):
        kept.pop()
    return False


def _shows(board: _Board, index: int) -> bool:
    part = visible_part(board.owner, index, board.regions[index])
    left, top, right, bottom = visible_box(part, board.regions[index])
    enough = cv2.countNonZero(part) >= max(MIN_VISIBLE * board.areas[index], MIN_PIXELS)
    return bool(enough and min(right - left, bottom - top) >= MIN_BOX)


def _paint(canvas: Picture, layer: Layer, region: Region, plan: Plan, number: int, tone: float) -> None:
    """Paint an object in place: two colours by its tone, shaded by the slope of its surface."""
    left, top, right, bottom = region
    here = canvas[:, top:bottom, left:right]
    cover = layer[0] * np.float32(plan.cover[number] / 255)
    mixed = plan.colours[number] * (1 - tone) + plan.seconds[number] * tone
    distances = np.abs(mixed - here.mean(axis=(1, 2))).max(axis=1)
    if plan.shadow is not None:
        _cast(canvas, cover, region, plan.shadow)
    far = np.flatnonzero(distances * plan.cover[number] > CONTRAST)
    first = plan.colours[number, far[0] if len(far) else distances.argmax()]
    cos, sin = np.cos(plan.angles[number]), np.sin(plan.angles[number])
    light = plan.light[0] * cos + plan.light[1] * sin, plan.light[1] * cos - plan.light[0] * sin
    body = _column(plan.seconds[number] - first) * (layer[1] * np.float32(1 / 255)) + _column(first)
    if plan.light.any():
        body *= (
            np.float32(1 + sum(light)) - layer[2] * np.float32(light[0] / 128) - layer[3] * np.float32(light[1] / 128)
        )
    body -= here
    body *= cover
    here += body


def _column(colour: Points) -> Picture:
    return colour.astype(np.float32)[:, None, None]


def _cast(canvas: Picture, cover: Picture, region: Region, offset: Points) -> None:
    """Darken the canvas beside an object, as if light fell from the other side."""
    size, (dx, dy) = canvas.shape[1], np.round(offset).astype(int).tolist()
    left, top, right, bottom = region
    x0, y0, x1, y1 = max(left + dx, 0), max(top + dy, 0), min(right + dx, size), min(bottom + dy, size)
    if x0 < x1 and y0 < y1:
        dark = cv2.blur(cover, (5, 5))[y0 - top - dy : y1 - top - dy, x0 - left - dx : x1 - left - dx]
        canvas[:, y0:y1, x0:x1] *= 1 - np.float32(0.5) * dark
