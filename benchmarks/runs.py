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


def grouped(runs: list[dict[str, Any]], *keys: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Return runs by the values of some fields, in the order in which these first come."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(tuple(run[key] for key in keys), []).append(run)
    return groups


def about_runs(runs: list[dict[str, Any]]) -> str:
    """Return where and when runs were made, with their commands."""
    machines = {f"{r['machine']['processor']}, torch {r['machine']['versions']['torch']}" for r in runs}
    dates = " to ".join(sorted({runs[0]["date"], runs[-1]["date"]}))
    commands = " ".join(f"`{c}`" for c in dict.fromkeys(r["command"] for r in runs))
    return f"{', '.join(sorted(machines))}, one core a run, {dates}. {commands}"
