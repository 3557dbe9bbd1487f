"""What a search found: every candidate, the frontier of accuracy over latency, and the best, ready to be trained."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import yaml

from vanillayolo.atomic import write_whole
from vanillayolo.tables import markdown

from .latency import in_words, machine
from .protocol import measure_latency
from .records import Record, read_record, write_record
from .results import frontier, metric_names

if TYPE_CHECKING:
    from .search import Search

#: What became of a candidate, by the state that Optuna has for it.
FATES = {"COMPLETE": "trained", "PRUNED": "too slow", "FAIL": "failed", "RUNNING": "begun", "WAITING": "begun"}
EARLY = "ended early"


def row_of(search: Search, trial: Any) -> Record:
    """Return one candidate's row of ``tune.json``."""
    row = {
        "trial": trial.number,
        "fate": EARLY if trial.state.name == "PRUNED" and "reason" in trial.user_attrs else FATES[trial.state.name],
        "values": trial.params,
        "map50_95": None,
        "milliseconds": None,
    }
    row |= {key: trial.user_attrs.get(key) for key in ("predicted", "reason")}
    if trial.state.name == "COMPLETE":
        record = read_record(search.folder(trial.number) / "record.json")
        row |= {"map50_95": record["val"]["map50_95"], "map50": record["val"]["map50"], **record["cost"]["merged"]}
        row |= {"milliseconds": record["latency"]["median"], "training_seconds": record["training_seconds"]}
        row["shipped"] = str((search.folder(trial.number) / record["shipped"]).relative_to(search.root).as_posix())
    return row


def write_report(search: Search, study: Any, settings: Mapping[str, Any]) -> Record:
    """Time all that was trained in turns, choose, and write ``tune.json``, ``tune.md`` and ``best.yaml``."""
    rows = [row_of(search, trial) for trial in study.get_trials()]
    ended = {row["trial"]: row for row in rows if row["map50_95"] is not None}
    if ended:  # all in turns: a machine drifts in the days of a search
        runs = {str(number): search.folder(number) for number in ended}
        timed = measure_latency(search.root, runs, search.training["imgsz"], [search.backend], search.rounds)
        for number, row in ended.items():
            row["in_turns"] = timed["milliseconds"][search.backend][str(number)]
    points = {n: (row["in_turns"]["median"], row["map50_95"]) for n, row in ended.items()}
    edge = frontier(list(points.values()))
    front = sorted((n for n, point in points.items() if point in edge), key=lambda n: points[n])
    fast = [n for n in front if search.limit is None or points[n][0] <= search.limit]
    best = max(fast, key=lambda n: float(points[n][1]), default=None)
    record = {"date": date.today().isoformat(), "settings": dict(settings), "machine": machine(), "best": best}
    record |= {"frontier": front, "trials": rows}
    write_record(search.root / "tune.json", record)
    if best is not None:
        write_best(search, best, ended[best]["values"])
    write_whole(search.root / "tune.md", text(record))
    return record


def write_best(search: Search, number: int, values: Mapping[str, Any]) -> None:
    """Write the best candidate's settings, as ``train cfg=best.yaml`` takes them, and its network beside."""
    model = search.folder(number) / "model.yaml"
    named = search.model
    if model.exists():
        named = str(write_whole(search.root / "best-model.yaml", model.read_bytes()))
    settings = {"model": named, "data": search.data, **search.settings(values), "seed": search.seed}
    write_whole(search.root / "best.yaml", yaml.safe_dump(settings, sort_keys=False))


def text(record: Record) -> str:
    """Return the report: the frontier, the best, all candidates."""
    rows = {row["trial"]: row for row in record["trials"]}
    keys, accuracy = list(record["settings"]["space"]), metric_names(record)["map50_95"]
    limit = record["settings"]["latency"]
    within = "" if limit is None else f" within {limit:g} ms"
    lines = ["# Search", ""]
    if record["frontier"]:
        head = ["trial", accuracy, "ms, in turns", "predicted ms", "M parameters", *keys]
        table = []
        for row in (rows[number] for number in record["frontier"]):
            cells = [row["trial"], f"{row['map50_95']:.3f}", in_words(row["in_turns"]), _figure(row["predicted"], 1)]
            table.append([*cells, f"{row['parameters'] / 1e6:.2f}", *_values(row, keys)])
        lines += ["No other candidate is both faster and more accurate:", "", markdown(head, table), ""]
    if record["best"] is None:
        lines += [f"No candidate was measured{within}; give more trials, or another latency."]
    else:
        lines += [f"Best{within}: trial {record['best']}. `vanillayolo train cfg=best.yaml` trains it anew."]
    head = ["trial", "fate", accuracy, "ms", "predicted ms", *keys]
    table = []
    for row in rows.values():
        times = [_figure(row[key], 1) for key in ("milliseconds", "predicted")]
        cells = [row["trial"], row["reason"] or row["fate"], _figure(row["map50_95"])]
        table.append([*cells, *times, *_values(row, keys)])
    about = f"{record['machine']['processor']}, {record['machine']['cores']} cores, {record['settings']['backend']}"
    lines += ["", "All candidates:", "", markdown(head, table), "", f"{about}, {record['date']}."]
    return "\n".join(lines) + "\n"


def _values(row: Record, keys: list[str]) -> list[str]:
    return [_figure(row["values"].get(key)) for key in keys]


def _figure(value: Any, digits: int | None = None) -> str:
    if isinstance(value, float):
        return f"{value:.{digits}f}" if digits is not None else f"{value:.3g}"
    return "" if value is None else str(value)
