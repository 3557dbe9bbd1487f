"""The ablations beside the paper's figures, and what agrees: computed from the numbers, whichever way they fall."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vanillayolo.atomic import write_whole
from vanillayolo.tables import markdown

from .ablate import CONFIGS, gather_ablation
from .paper import PAPER, SOURCE, PaperTable
from .records import Record, margin, spread, with_spread, write_record


@dataclass(frozen=True)
class Claim:
    """One comparison of the paper's, re-made.

    Attributes:
        better: row that is better in the paper.
        worse: row that it beats there.
        paper: by how many points, in the paper.
        ours: mean difference here, points; seeds are paired.
        margin: half width of its 95 % interval (Student's t over seeds); None with fewer than two seeds.
    """

    better: str
    worse: str
    paper: float
    ours: float | None
    margin: float | None

    @property
    def verdict(self) -> str:
        """``agrees`` or ``disagrees`` where the interval leaves out zero, else ``undecided``; ``missing`` runs."""
        if self.ours is None:
            return "missing"
        if self.margin is None or abs(self.ours) <= self.margin:
            return "undecided"
        return "agrees" if self.ours > 0 else "disagrees"

    def __str__(self) -> str:
        """Return the claim and its verdict as a sentence."""
        better, worse = CONFIGS[self.better].label, CONFIGS[self.worse].label
        text = f"{self.verdict}: '{better}' over '{worse}', paper {self.paper:+.2f} points"
        if self.ours is None:
            return f"{text}, not trained here"
        return f"{text}, here {self.ours:+.2f}" + (" (one seed)" if self.margin is None else f" ± {self.margin:.2f}")


def compare_rows(runs: Mapping[str, Any], better: str, worse: str, paper: float) -> Claim:
    """Return a claim of the paper's with the difference found here, over the seeds that both rows have."""
    seeds = [seed for seed in runs.get(better, {}) if seed in runs.get(worse, {})]
    differences = [100 * (runs[better][s]["top1"] - runs[worse][s]["top1"]) for s in seeds]
    if not differences:
        return Claim(better, worse, paper, None, None)
    return Claim(better, worse, paper, statistics.fmean(differences), margin(differences))


def claims(table: PaperTable, runs: Mapping[str, Any]) -> list[Claim]:
    """Return every pair of rows of one of the paper's tables, the one better there first."""
    ranked = sorted(table.top1, key=lambda name: -table.top1[name])
    pairs = itertools.combinations(ranked, 2)
    return [compare_rows(runs, a, b, table.top1[a] - table.top1[b]) for a, b in pairs]


def rows_of(names: Sequence[str], runs: Mapping[str, Any], paper: Mapping[str, float]) -> list[list[str]]:
    """Return table rows: name, the paper's top-1, ours with its spread, seeds, parameters while training."""
    rows = []
    for name in names:
        found = runs.get(name, {})
        ours = with_spread(spread([100 * r["top1"] for r in found.values()]), 2) if found else "-"
        size = f"{next(iter(found.values()))['parameters'] / 1e3:.0f}" if found else "-"
        rows.append([CONFIGS[name].label, f"{paper[name]:.2f}" if name in paper else "-", ours, str(len(found)), size])
    return rows


def ablation_tables(result: Record) -> dict[str, str]:
    """Return the paper's tables with ours beside them, and our own rows, as Markdown by heading."""
    runs = result["runs"]
    header = ["", "paper, top-1 %", "here, top-1 %", "seeds", "thousand parameters in training"]
    tables = {
        f"Paper's table {t.table}: {t.title}": markdown(header, rows_of(list(t.top1), runs, t.top1)) for t in PAPER
    }
    known = {name for t in PAPER for name in t.top1}
    others = [name for name in runs if name not in known]
    if others:
        tables["Not in the paper"] = markdown(header, rows_of(others, runs, {}))
    return tables


def statement(result: Record) -> str:
    """Say what agrees with the paper, what does not and what these seeds cannot tell."""
    # Tables share rows: each ordering counts once.
    found = list(dict.fromkeys(claim for table in PAPER for claim in claims(table, result["runs"])))
    counts = {verdict: sum(c.verdict == verdict for c in found) for verdict in ("agrees", "disagrees", "undecided")}
    lines = [
        f"Of {sum(counts.values())} orderings of the paper's that were re-made, {counts['agrees']} agree, "
        f"{counts['disagrees']} disagree and {counts['undecided']} are undecided (the 95 % interval of the difference "
        "over seeds holds zero)."
    ]
    for table in PAPER:
        lines += [f"\nTable {table.table}, {table.title}:\n"]
        lines += [f"- {claim}" for claim in claims(table, result["runs"])]
    return "\n".join(lines)


def ablation_report(result: Record) -> str:
    """Return the whole report as Markdown."""
    settings, machine = result["settings"], result["machine"]
    parts = [
        "# Ablations",
        f"VanillaNet-6 at {settings['width']:g} of the paper's widths on {settings['data']} (32 px), "
        f"{settings['epochs']} epochs, batch {settings['batch']}, AdamW {settings['lr']:g}, convolutions begun at "
        f"{settings.get('pair_init', 'noise')}; top-1 of the last epoch on val, mean ± standard deviation over seeds. "
        f"{machine['processor']}. Paper: {SOURCE}. Images, width and schedule are others than the paper's: orderings "
        "compare, figures do not.",
    ]
    for title, text in ablation_tables(result).items():
        parts += [f"## {title}", text]
    return "\n\n".join([*parts, "## What agrees", statement(result)]) + "\n"


def write_ablation(folder: str | Path, command: str | None = None) -> dict[str, Path]:
    """Gather a folder of runs and write ``ablate.json`` and ``ablate.md`` into it.

    Raises:
        UsageError: when no run has finished.
    """
    root = Path(folder)
    result = {**gather_ablation(root), "command": command}
    text = write_whole(root / "ablate.md", ablation_report(result))
    return {"json": write_record(root / "ablate.json", result), "md": text}
