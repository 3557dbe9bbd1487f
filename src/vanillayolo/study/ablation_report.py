"""The rows of the paper's ablations, trained here, and which differences are more than the spread of the seeds."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vanillayolo.atomic import write_whole
from vanillayolo.tables import markdown

from .ablate import CONFIGS, gather_ablation
from .records import Record, margin, spread, with_spread, write_record

#: What the paper's ablations vary, and their rows.
TABLES = {
    "series number n": ("n0", "n1", "n2", "n3", "n4"),
    "deep training and series activation": ("shallow-n0", "n0", "shallow-n3", "n3"),
    "shortcut": ("n3", "n3-shortcut-before", "n3-shortcut-after"),
}
REST = "further rows"


@dataclass(frozen=True)
class Difference:
    """One row over another.

    Attributes:
        row: the row.
        other: the row that it is held against.
        points: mean difference in top-1, points; seeds are paired. None where a run is missing.
        margin: half width of its 95 % interval (Student's t over seeds); None with fewer than two seeds.
    """

    row: str
    other: str
    points: float | None
    margin: float | None

    @property
    def verdict(self) -> str:
        """``more`` or ``less`` where the interval leaves out zero, else ``undecided``; ``not trained``."""
        if self.points is None:
            return "not trained"
        if self.margin is None or abs(self.points) <= self.margin:
            return "undecided"
        return "more" if self.points > 0 else "less"

    def __str__(self) -> str:
        """Return the difference and its verdict as a phrase."""
        text = f"{self.verdict}: '{CONFIGS[self.row].label}' over '{CONFIGS[self.other].label}'"
        if self.points is None:
            return text
        return f"{text}, {self.points:+.2f}" + (" (one seed)" if self.margin is None else f" ± {self.margin:.2f}")


def difference(runs: Mapping[str, Any], row: str, other: str) -> Difference:
    """Return the difference between two rows over the seeds that both have."""
    seeds = [seed for seed in runs.get(row, {}) if seed in runs.get(other, {})]
    points = [100 * (runs[row][s]["top1"] - runs[other][s]["top1"]) for s in seeds]
    if not points:
        return Difference(row, other, None, None)
    return Difference(row, other, statistics.fmean(points), margin(points))


def differences(names: tuple[str, ...], runs: Mapping[str, Any]) -> list[Difference]:
    """Return every pair of rows of a table, the later row over the earlier one."""
    return [difference(runs, row, other) for other, row in itertools.combinations(names, 2)]


def rows_of(names: tuple[str, ...], runs: Mapping[str, Any]) -> list[list[str]]:
    """Return table rows: name, top-1 with its spread, seeds, parameters while training."""
    rows = []
    for name in names:
        found = runs.get(name, {})
        top1 = with_spread(spread([100 * r["top1"] for r in found.values()]), 2) if found else "-"
        size = f"{next(iter(found.values()))['parameters'] / 1e3:.0f}" if found else "-"
        rows.append([CONFIGS[name].label, top1, str(len(found)), size])
    return rows


def ablation_tables(result: Record) -> dict[str, str]:
    """Return the rows of the paper's tables, and our own, as Markdown by heading."""
    runs = result["runs"]
    header = ["", "top-1 %", "seeds", "thousand parameters in training"]
    known = {name for names in TABLES.values() for name in names}
    others = tuple(name for name in runs if name not in known)
    tables = {**TABLES, **({REST: others} if others else {})}
    return {title.capitalize(): markdown(header, rows_of(names, runs)) for title, names in tables.items()}


def statement(result: Record) -> str:
    """Say which differences these seeds decide."""
    # Tables share rows: each difference counts once.
    found = list(dict.fromkeys(d for names in TABLES.values() for d in differences(names, result["runs"])))
    counts = {verdict: sum(d.verdict == verdict for d in found) for verdict in ("more", "less", "undecided")}
    lines = [
        f"Of {sum(counts.values())} differences in top-1, {counts['more'] + counts['less']} are decided and "
        f"{counts['undecided']} undecided (the 95 % interval over seeds holds zero). In points:"
    ]
    for title, names in TABLES.items():
        lines += [f"\n{title.capitalize()}:\n"]
        lines += [f"- {d}" for d in differences(names, result["runs"])]
    return "\n".join(lines)


def ablation_report(result: Record) -> str:
    """Return the whole report as Markdown."""
    settings, machine = result["settings"], result["machine"]
    parts = [
        "# Ablations",
        f"VanillaNet-6 at {settings['width']:g} of the paper's widths on {settings['data']} (32 px), "
        f"{settings['epochs']} epochs, batch {settings['batch']}, AdamW {settings['lr']:g}, convolutions begun at "
        f"{settings.get('pair_init', 'noise')}; top-1 of the last epoch on val, mean ± standard deviation over seeds. "
        f"{machine['processor']}. Images, width and schedule are others than the paper's (arXiv 2305.12972).",
    ]
    for title, text in ablation_tables(result).items():
        parts += [f"## {title}", text]
    return "\n\n".join([*parts, "## What the seeds decide", statement(result)]) + "\n"


def write_ablation(folder: str | Path, command: str | None = None) -> dict[str, Path]:
    """Gather a folder of runs and write ``ablate.json`` and ``ablate.md`` into it.

    Raises:
        UsageError: when no run has finished.
    """
    root = Path(folder)
    result = {**gather_ablation(root), "command": command}
    text = write_whole(root / "ablate.md", ablation_report(result))
    return {"json": write_record(root / "ablate.json", result), "md": text}
