"""From the records of runs to one result: mean and spread over seeds, cost, latency, memory, curves, by model."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from vanillayolo.errors import UsageError
from vanillayolo.yolo.tasks import TASKS

from .records import USUAL, Record, finished_runs, read_record, spread

#: What runs are judged by, and its name.
METRICS = {"map50": "mAP50", "map50_95": "mAP50-95"}


def summarize_split(runs: Sequence[Record], split: str) -> dict[str, Any] | None:
    """Return mean and spread of both metrics, over all classes and per class; None where a run lacks the split.

    Of a task that is judged by something else than boxes, of these too.
    """
    if not all(split in run for run in runs):
        return None
    classes = list(runs[0][split]["per_class"])
    boxes = [run[split]["boxes"] for run in runs if "boxes" in run[split]]
    return {
        **{metric: spread([run[split][metric] for run in runs]) for metric in METRICS},
        **({"boxes": {metric: spread([found[metric] for found in boxes]) for metric in METRICS}} if boxes else {}),
        "per_class": {
            name: {metric: spread([run[split]["per_class"][name][metric] for run in runs]) for metric in METRICS}
            for name in classes
        },
    }


def mean_curve(curves: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Return mean, smallest and largest of every epoch that all runs have."""
    epochs = list(zip(*curves, strict=False))
    return {
        "mean": [round(statistics.fmean(values), 5) for values in epochs],
        "low": [round(min(values), 5) for values in epochs],
        "high": [round(max(values), 5) for values in epochs],
    }


def summarize_model(runs: Sequence[Record]) -> dict[str, Any]:
    """Return one model's figures from its runs, one per seed."""
    cost = runs[0]["cost"]
    keys = runs[0]["curve"]
    return {
        "seeds": [run["seed"] for run in runs],
        **{s: figures for s in ("val", "test") if (figures := summarize_split(runs, s)) is not None},
        "parameters": cost["merged"]["parameters"],
        "gflops": cost["merged"]["gflops"],
        "training_form": cost.get("training form"),
        "saved_bytes": runs[0]["saved_bytes"],
        "training_seconds": spread([run["training_seconds"] for run in runs]),
        "merge_equality": [run["equality"] for run in runs] if runs[0]["equality"] else None,
        "curve": {key: mean_curve([run["curve"][key] for run in runs]) for key in keys},
    }


def gather(folder: str | Path, command: str | None = None, order: Sequence[str] = ()) -> Record:
    """Return the result of a folder of runs.

    Args:
        folder: as ``vanillayolo.study.protocol.compare`` left it, finished or not.
        command: the command that made it, for the record.
        order: models to come first; the others follow by name.

    Returns:
        ``date``, ``command``, ``settings``, ``machine``, ``latency`` (None where not measured) and ``models``: for each
        ``seeds``, ``val`` and ``test`` with mean and spread, cost of the merged and of the training form, memory in
        bytes, training time in seconds, learning curves.

    Raises:
        UsageError: when no run has finished.
    """
    root = Path(folder)
    records = list(finished_runs(root).values())
    if not records:
        raise UsageError(f"folder={folder}: no finished runs there.")
    found = {record["model"] for record in records}
    models: dict[str, list[Record]] = {m: [] for m in (*order, *sorted(found)) if m in found}
    for record in sorted(records, key=lambda r: int(r["seed"])):
        models[record["model"]].append(record)
    latency = root / "latency.json"
    return {
        "date": date.today().isoformat(),
        "command": command,
        "settings": read_record(root / "protocol.json"),
        "machine": records[-1]["machine"],
        "models": {model: summarize_model(runs) for model, runs in models.items()},
        "latency": read_record(latency) if latency.exists() else None,
    }


def judged_split(result: Record) -> str:
    """Return ``test`` where every model has been scored on it, else ``val``."""
    return "test" if all("test" in model for model in result["models"].values()) else "val"


def metric_names(result: Record) -> dict[str, str]:
    """Return what tables and pictures call both metrics: of what, where that is not a detector's boxes."""
    judged = TASKS[result["settings"].get("task", USUAL)].judged
    return {key: name + ("" if judged == TASKS[USUAL].judged else f" of {judged}") for key, name in METRICS.items()}


def milliseconds(result: Record, backend: str, model: str) -> float | None:
    """Return the median latency of a model in a back end, where it was measured."""
    timing = ((result["latency"] or {}).get("milliseconds", {}).get(backend) or {}).get(model)
    return None if timing is None else float(timing["median"])


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other beats in both: not slower and more accurate, or faster and as accurate.

    Args:
        points: pairs of latency and accuracy.

    Returns:
        The frontier, fastest first.
    """
    best: list[tuple[float, float]] = []
    for latency, accuracy in sorted(points, key=lambda p: (p[0], -p[1])):
        if not best or accuracy > best[-1][1]:
            best.append((latency, accuracy))
    return best
