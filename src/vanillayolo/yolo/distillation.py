"""Whether a teacher can teach: asked before anything is written, where Ultralytics would end in a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ultralytics.nn.distill_model import DistillationModel
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import ONLINE
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

from vanillayolo.errors import CheckpointError, UsageError, one_line

from .checkpoints import check_finite


def levels(model: Any) -> int:
    """Return how many maps a detector's head takes; 0 where it is no head of YOLO's."""
    try:
        return len(DistillationModel.get_distill_layers(model)) - 1  # the last is the head itself
    except ValueError:
        return 0


def check_teacher(teacher: str | Path, model: Any) -> None:
    """Raise unless ``teacher`` can be distilled into ``model``.

    Args:
        teacher: checkpoint of a detector, or the name of one of Ultralytics' own, which it fetches.
        model: the student.

    Raises:
        UsageError: when student or teacher is no detector with YOLO's head, or their levels differ.
        CheckpointError: when the file is missing, damaged or an exported one.
    """
    name = f"distill_model={str(teacher)!r}"
    if not (wanted := levels(model)):
        raise UsageError(f"{name}: only detectors are distilled; omit it.")
    path = Path(teacher)
    if not path.is_file():
        if ONLINE and path.name == str(teacher) and path.name in GITHUB_ASSETS_NAMES:
            return
        raise CheckpointError(f"{name}: no such file; give the checkpoint (.pt) of a detector.")
    try:
        network = load_checkpoint(path)[0]
        found = levels(network)
    except Exception as error:  # a file that is no checkpoint surfaces as any of a dozen error types
        raise CheckpointError(
            f"{name}: not a loadable checkpoint ({one_line(error)}); give that of a detector."
        ) from error
    check_finite(network, name)
    if not found:
        raise UsageError(f"{name}: has no detection head of YOLO's (RT-DETR has none); give a YOLO detector.")
    if found != wanted:
        raise UsageError(f"{name}: its head takes {found} maps, the student's {wanted}; give a teacher with as many.")
