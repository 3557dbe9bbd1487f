"""Settings that Ultralytics takes as they come, although nobody means them: checked before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ultralytics.utils import ROOT

from vanillayolo.errors import UsageError, closest

from .fine_tuning import check_stages, freeze_entries
from .trainer import check_settings

SMALLEST_IMGSZ = 32
#: What acts on pairs or stages of ours.
DEEP_KEYS = ("decay", "layer_decay", "backbone_lr")

#: By key: whether a number will do, and what will. Ultralytics checks types, and the ranges of its other keys.
NUMBERS: dict[str, tuple[Callable[[float], bool], str]] = {
    "batch": (lambda x: x == -1 or 0 < x < 1 or (x >= 1 and x == int(x)), "1 or more, -1 (what fits), or a share of 1"),
    "time": (lambda x: x > 0, "more than 0 hours"),
    "workers": (lambda x: x >= 0, "0 or more"),
}


def check_imgsz(imgsz: object) -> None:
    """Raise UsageError unless ``imgsz`` is one or two whole numbers of pixels that the strides fit into."""
    sizes: list[Any] = list(imgsz) if isinstance(imgsz, (list, tuple)) else [imgsz]
    if not 1 <= len(sizes) <= 2 or not all(isinstance(s, int) and not isinstance(s, bool) for s in sizes):
        raise UsageError(f"imgsz={imgsz!r}: give a whole number of pixels, or [height, width].")
    if min(sizes) < SMALLEST_IMGSZ:
        raise UsageError(f"imgsz={imgsz!r}: the coarsest map has stride 32; give at least {SMALLEST_IMGSZ} pixels.")


def check_numbers(settings: dict[str, Any]) -> None:
    """Raise UsageError for a number outside its range; types are Ultralytics' to check."""
    for key, (fits, allowed) in NUMBERS.items():
        value = settings.get(key)
        if isinstance(value, (int, float)) and not fits(value):
            raise UsageError(f"{key}={value}: give {allowed}.")


def check_training(network: Any, name: str, settings: dict[str, Any]) -> None:
    """Raise UsageError for training settings, ours among them, that do not suit a network.

    Args:
        network: what is to be trained.
        name: what to call it.
        settings: keyword arguments of ``train``.
    """
    check_quantize(settings.get("quantize"))
    check_freeze(settings.get("freeze"), len(network.model))
    check_stages(freeze_entries(None, settings.get("freeze_stages")), network)
    check_settings(settings, settings.get("freeze"))
    for key in () if getattr(network, "collapses", True) else DEEP_KEYS:
        if settings.get(key) not in (None, 0, 1):
            raise UsageError(
                f"{key}={settings[key]}: {name} has no pairs to train deep and no stages of ours; leave {key} out."
            )


def check_freeze(freeze: Any, rows: int) -> None:
    """Raise UsageError for a ``freeze`` that names no row of the network, or leaves nothing to train.

    Args:
        freeze: Ultralytics' setting: how many rows from the first on, or a list of rows or of parts of names.
        rows: rows of the network.
    """
    if freeze is None:
        return
    listed = isinstance(freeze, (list, tuple))
    entries = list(freeze) if listed else [freeze]
    named = [x for x in entries if listed and isinstance(x, str)]
    numbers = [x for x in entries if isinstance(x, int) and not isinstance(x, bool) and 0 <= x < rows]
    if len(named) + len(numbers) < len(entries):
        raise UsageError(f"freeze={freeze}: give a count of rows, 0 to {rows - 1}, or a list of rows, like [0,4].")
    if len(set(numbers)) == rows:
        raise UsageError(f"freeze={freeze}: holds every row, so that nothing trains; leave one out.")


def check_quantize(quantize: Any) -> None:
    """Raise UsageError for training with fake quantisation: its pairs would not merge exactly."""
    if str(quantize) not in {"None", "32"}:
        raise UsageError(
            f"quantize={quantize}: a network trained with rounded weights does not merge exactly; train without, "
            "then 'vanillayolo export int8=True data=...'."
        )


def check_classes(classes: Any) -> None:
    """Raise UsageError unless ``classes`` is a class number or a list of them."""
    numbers = classes if isinstance(classes, (list, tuple)) else [classes]
    if classes is not None and not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise UsageError(f"classes={classes}: give class numbers, like 0 or [0,2].")


def check_tracker(tracker: Any) -> None:
    """Raise UsageError for a tracker that is neither a YAML file nor one of Ultralytics' own."""
    folder = ROOT / "cfg" / "trackers"
    if tracker is not None and not Path(tracker).is_file() and not (folder / str(tracker)).is_file():
        known = sorted(file.name for file in folder.glob("*.yaml"))
        raise UsageError(f"tracker={str(tracker)!r}: no such file; {closest(str(tracker), known)}")
