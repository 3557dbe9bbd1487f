"""One JSON file of many runs: each is added when it has ended, and is not done again where it is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vanillayolo.study.records import read_record, write_record


def runs_of(path: Path) -> list[dict[str, Any]]:
    """Return the runs of a file; none where there is no file yet."""
    return list(read_record(path)["runs"]) if path.exists() else []


def has_run(path: Path, **key: Any) -> bool:
    """Return whether a file has a run of these fields."""
    return any(key.items() <= run.items() for run in runs_of(path))


def add_run(path: Path, run: dict[str, Any]) -> None:
    """Add a run to a file, which is written whole or not at all."""
    write_record(path, {"runs": [*runs_of(path), run]})
