"""What a generated set of scenes is: its settings, their ranges, and what each task writes."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vanillayolo.errors import UsageError, closest

GENERATOR_VERSION = 1  # raise it when pictures or labels change
LICENCE = "CC0-1.0"
TASKS = ("detect", "segment", "pose", "obb", "classify")
LIMITS = {
    "pictures": (1, 100_000_000),
    "size": (64, 2048),
    "seed": (0, 2**32 - 1),
    "classes": (2, 300),  # each takes half a megabyte in the atlas, above 320 pixels two
    "class_seed": (0, 2**32 - 1),
    "objects": (1, 300),
    "val_every": (2, 1_000_000),
}
"""Least and greatest value of every whole number among the settings."""


@dataclass(frozen=True)
class SceneSettings:
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
    """

    pictures: int = 1000
    size: int = 160
    task: str = "detect"
    seed: int = 0
    classes: int = 60
    class_seed: int = 0
    objects: int = 60
    val_every: int = 10

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            UsageError: for a value of the wrong kind or out of range.
        """
        if self.task not in TASKS:
            raise UsageError(f"scenes: task={self.task}: {closest(str(self.task), TASKS)}")
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise UsageError(f"scenes: {name}={value}: give a whole number from {least} to {most}.")

    def is_val(self, index: int) -> bool:
        """Return whether a picture is for validation."""
        return index % self.val_every == self.val_every - 1

    def picture_class(self, index: int) -> int:
        """Return the class of a picture of the task classify; in both splits all classes are equally frequent."""
        block, rest = divmod(index, self.val_every)
        return (block if self.is_val(index) else block * (self.val_every - 1) + rest) % self.classes


SETTING_NAMES = tuple(field.name for field in fields(SceneSettings))
