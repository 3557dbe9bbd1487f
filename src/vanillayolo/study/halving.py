"""Asynchronous successive halving (ASHA, arXiv 1810.05934): a candidate that is poor at a rung ends there.

Rungs lie at 1/9 and 1/3 of the epochs. There a training notes its best mAP50-95 in a file and goes on if it is in the
best third of all that have come there so far. Nothing but these files is asked: no training waits for another, on
whichever machine, and a decision stays after a kill.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .protocol import learning_curve
from .records import read_record, write_record

#: One of so many goes on from rung to rung.
REDUCTION = 3


class Ended(Exception):
    """A candidate that ends at a rung."""


def rungs(epochs: int) -> list[int]:
    """Return after how many epochs a candidate of so many is compared with the others."""
    return sorted({epochs // REDUCTION**2, epochs // REDUCTION} - {0, epochs})


def goes_on(folder: Path, epoch: int, value: float) -> bool:
    """Note what a candidate has reached at a rung, beside the others' folders, and return whether it goes on."""
    path = folder / f"rung{epoch:04}.json"
    if not path.exists():
        others = [read_record(other)["map50_95"] for other in folder.parent.glob(f"trial*/{path.name}")]
        best = math.ceil((len(others) + 1) / REDUCTION)
        write_record(path, {"map50_95": value, "goes_on": sum(other > value for other in others) < best})
    return bool(read_record(path)["goes_on"])


def reason_ended(folder: Path) -> str:
    """Return at which rung a candidate ended, in words; nothing where it did not."""
    for path in sorted(folder.glob("rung*.json")):
        if not (noted := read_record(path))["goes_on"]:
            return f"ended early, after epoch {int(path.stem[4:])}: mAP50-95 {noted['map50_95']:.3f}"
    return ""


@dataclass(frozen=True)
class Halving:
    """Ends a training at a rung, from Ultralytics' callback at the end of every epoch.

    Attributes:
        folder: of the candidate.
        epochs: length of its training.
    """

    folder: Path
    epochs: int

    def __call__(self, trainer: Any) -> None:
        """Compare where the epoch is a rung.

        Raises:
            Ended: where the candidate is not good enough; its last checkpoint is there.
        """
        done = trainer.epoch + 1
        if done in rungs(self.epochs):
            best = max(learning_curve(self.folder / "results.csv", trainer.args.task)["map50_95"])
            if not goes_on(self.folder, done, best):
                raise Ended(reason_ended(self.folder))
