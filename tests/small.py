"""A network small enough to train in seconds, and a choice of cases small enough to run between two edits."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import pytest


def shrink(cfg: dict[str, Any], dims: list[int], neck_width: float = 0.125) -> dict[str, Any]:
    """Return a copy of a model YAML with these backbone widths and a narrow neck.

    The ``Index`` rows state the channels of the maps they take out, so they change with the widths.
    """
    cfg = copy.deepcopy(cfg)
    arguments = cfg["backbone"][0][3][0]
    arguments["dims"] = dims
    halvings = [i for i, stride in enumerate(arguments["strides"]) if stride == 2]
    ends = [*(i - 1 for i in halvings[1:]), len(arguments["strides"]) - 1]
    for row, end in zip(cfg["backbone"][1:], ends, strict=True):
        row[3][0] = dims[end + 1]
    cfg["scales"] = {cfg["scale"]: [0.33, neck_width, 1024]}  # below 0.125 C2PSA would have no attention head
    return cfg


def slow_but(few: str | Iterable[str], cases: Iterable[str]) -> list[Any]:
    """Return the cases of a test, marked as slow but for those named."""
    kept = [few] if isinstance(few, str) else list(few)
    return [case if case in kept else pytest.param(case, marks=pytest.mark.slow) for case in cases]
