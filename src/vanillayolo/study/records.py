"""Result files: JSON, written whole, so that a file that is there is a run that has ended."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import t as student_t

from vanillayolo.atomic import write_whole
from vanillayolo.errors import UsageError
from vanillayolo.valid_json import json_text
from vanillayolo.values import shown

Record = dict[str, Any]
#: The task of a protocol that names none: earlier versions had no other.
USUAL = "detect"
#: Keys that folders of earlier versions lack, and may go on without.
ADDED = ("dataset", "files")
#: Keys that a record must have, with the types of their values; a float may be written without a fraction.
Needs = Mapping[str, type]


def write_record(path: Path, record: Mapping[str, Any]) -> Path:
    """Write a record as JSON; an interruption leaves the old file, or none, never half of one."""
    return write_whole(path, json_text(record))


def read_record(path: Path, needs: Needs | None = None) -> Record:
    """Read a record that has the keys needed.

    Raises:
        UsageError: when the file is not one.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a readable record ({error}); remove it to make it anew.") from None
    if not isinstance(record, dict):
        raise UsageError(f"{path}: not a record; remove it to make it anew.")
    for key, kind in (needs or {}).items():
        if key not in record:
            raise UsageError(f"{path}: a record that lacks {key}; remove it to make it anew.")
        value = record[key]
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise UsageError(f"{path}: {key}={shown(value)} is no {kind.__name__}; remove it to make it anew.")
    return record


def _refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which JSON has not."""
    raise ValueError(f"{name} is no value of JSON")


def finished_runs(root: Path, needs: Needs | None = None) -> dict[Path, Record]:
    """Return the records of the runs in a folder that have ended, by their own folders."""
    return {path.parent: read_record(path, needs) for path in sorted(root.glob("*/seed*/record.json"))}


def check_own(command: str, settings: Mapping[str, Any], own: Sequence[str]) -> None:
    """Raise UsageError for a setting that a command makes itself, alike for all that it trains."""
    for key in settings:
        if key in own:
            raise UsageError(f"{command}: {key}= is set by the command; leave it out.")


def keep_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings that all runs of a folder share, or make sure that they are those already there.

    Raises:
        UsageError: naming the first setting that differs: figures of two protocols do not belong in one table.
    """
    settings = json.loads(json.dumps(settings))  # tuples come back as lists
    if not path.exists():
        write_record(path, settings)
        return
    kept = read_record(path)
    for key in sorted({*kept, *settings}):
        if kept.get(key) != settings.get(key) and not (key in ADDED and key not in kept):
            raise UsageError(
                f"{key}={settings.get(key)!r}: the runs in {path.parent} have {key}={kept.get(key)!r}; "
                "give the same, or another folder=."
            )


def as_list(values: object, what: str) -> list[Any]:
    """Return what a command line gives as ``a,b,c``, or one value, as a list without doubles.

    Raises:
        UsageError: when nothing is given.
    """
    if isinstance(values, str):
        values = [part.strip() for part in values.split(",") if part.strip()]
    elif not isinstance(values, Iterable):
        values = [values]
    found = list(dict.fromkeys(values))
    if not found:
        raise UsageError(f"{what} is empty: give one or several, separated by commas.")
    return found


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and standard deviation (of the sample; None for a single value) and the values themselves."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": deviation, "values": list(values)}


def margin(values: Sequence[float]) -> float | None:
    """Return the half width of the 95 % interval of a mean (Student's t); None for a single value."""
    if len(values) < 2:
        return None
    return float(student_t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def with_spread(figure: Mapping[str, Any], digits: int = 3, unit: float = 1.0) -> str:
    """Return a figure of :func:`spread` as ``mean ± standard deviation``."""
    text = f"{figure['mean'] * unit:.{digits}f}"
    return text if figure["std"] is None else f"{text} ± {figure['std'] * unit:.{digits}f}"
