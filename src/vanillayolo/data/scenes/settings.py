"""What a generated set of scenes is: its settings, their ranges, and what each task writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vanillayolo.settings import Settings
from vanillayolo.values import FLAG, Kind, one_of, whole

GENERATOR_VERSION = 1  # raise it when pictures or labels change
LICENCE = "CC0-1.0"
TASKS = ("detect", "segment", "pose", "obb", "classify")
MOST_PICTURES = 100_000_000


@dataclass(frozen=True)
class SceneSettings(Settings):
    """What decides every picture and label.

    Attributes:
        pictures: number of pictures. Picture i is the same however many there are.
        size: side of the square pictures in pixels.
        task: what is labelled: detect, segment, pose, obb or classify.
        seed: of the pictures.
        classes: number of object classes. Class k is the same however many there are.
        class_seed: of the formulas behind the classes: another one gives other classes.
        objects: most objects in a picture.
        val_every: each picture of this many, the last one, is for validation.
        plain: few large objects, one colour a class, on pale even backgrounds: learnt in minutes.
    """

    SECTION = "scenes"
    KINDS: ClassVar[dict[str, Kind]] = {
        "pictures": whole(1, MOST_PICTURES, exact=True),
        "size": whole(64, 2048, exact=True),
        "task": one_of(*TASKS),
        "seed": whole(0, 2**32 - 1, exact=True),
        "classes": whole(2, 300, exact=True),  # each takes half a megabyte in the atlas, above 320 pixels two
        "class_seed": whole(0, 2**32 - 1, exact=True),
        "objects": whole(1, 300, exact=True),
        "val_every": whole(2, 1_000_000, exact=True),
        "plain": FLAG,
    }
    pictures: int = 1000
    size: int = 160
    task: str = "detect"
    seed: int = 0
    classes: int = 60
    class_seed: int = 0
    objects: int = 60
    val_every: int = 10
    plain: bool = False

    def is_val(self, index: int) -> bool:
        """Return whether a picture is for validation."""
        return index % self.val_every == self.val_every - 1

    def picture_class(self, index: int) -> int:
        """Return the class of a picture of the task classify; in both splits all classes are equally frequent."""
        block, rest = divmod(index, self.val_every)
        return (block if self.is_val(index) else block * (self.val_every - 1) + rest) % self.classes
