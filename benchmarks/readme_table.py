"""Put the figures of the benchmark files into the README: python benchmarks/readme_table.py [--check].

A table of the README stands between `<!-- table: KIND -->` and `<!-- end table -->`, with the record's file where it
is not the kind's own: `<!-- table: compare compare_bccd_2026-11-24.json -->`. `compare.json` and `ablate.json` of
`vanillayolo compare` and `vanillayolo ablate` are such records as they are: copy them here under a dated name.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vanillayolo.study.ablation_report import ablation_tables, statement
from vanillayolo.study.records import markdown
from vanillayolo.study.report import accuracy_table, cost_table, latency_text, protocol_text
from vanillayolo.study.results import judged_split

ROOT = Path(__file__).parents[1]
MARK = re.compile(r"<!-- table: (?P<kind>\w+)(?: (?P<file>[\w.-]+))? -->\n.*?<!-- end table -->", re.S)


def models_table(record: dict[str, Any]) -> str:
    """Return the table of models: both forms' parameters and GFLOPs, latency of the merged one."""
    timed = record["milliseconds"]["onnxruntime"]
    size = record["imgsz"]
    rows = [
        f"| model | M parameters, training / merged | GFLOPs at {size} px, training / merged | merged, ms |",
        "|---|---:|---:|---:|",
    ]
    for name, forms in record["cost"].items():
        parameters = " / ".join(f"{form['parameters'] / 1e6:.2f}" for form in forms.values())
        gflops = " / ".join(f"{form['gflops']:.1f}" for form in forms.values())
        t = timed[name]
        time = f"{t['median']:.0f} ({t['minimum']:.0f} to {t['maximum']:.0f})"
        if (training := timed.get(f"{name} (training form)")) is not None:
            time += f"; training form {training['median']:.0f}"
        rows.append(f"| `{name}` | {parameters} | {gflops} | {time} |")
    machine = record["machine"]
    runtime = machine["versions"]["onnxruntime"]
    rows += [
        "",
        f"{machine['processor']}, {machine['cores']} cores, ONNX Runtime {runtime}, {record['date']}: median "
        f"(minimum to maximum) of {record['rounds']} rounds. `{record['command']}`",
    ]
    return "\n".join(rows)


def compare_tables(record: dict[str, Any]) -> str:
    """Return accuracy and cost of a comparison, with its protocol and command."""
    parts = [markdown(*accuracy_table(record, judged_split(record))), markdown(*cost_table(record))]
    return "\n\n".join([*parts, protocol_text(record), f"{latency_text(record)} `{record['command']}`"])


def ablate_tables(record: dict[str, Any]) -> str:
    """Return the ablations beside the paper's figures, and what agrees."""
    parts = [f"{title}\n\n{text}" for title, text in ablation_tables(record).items()]
    return "\n\n".join([*parts, statement(record), f"`{record['command']}`"])


#: What makes the table of a kind, and the kind's own file where it has one.
KINDS: dict[str, tuple[Callable[[dict[str, Any]], str], str | None]] = {
    "models": (models_table, "family_latency.json"),
    "compare": (compare_tables, None),
    "ablate": (ablate_tables, None),
}


def table(match: re.Match[str], folder: Path) -> str:
    """Return one table, made anew, between its marks."""
    if match["kind"] not in KINDS:
        raise SystemExit(f"table {match['kind']!r}: known are {', '.join(KINDS)}")
    render, own = KINDS[match["kind"]]
    file = match["file"] or own
    if file is None or not (folder / file).is_file():
        raise SystemExit(f"table {match['kind']}: no record {file!r} in {folder}")
    text = render(json.loads((folder / file).read_text(encoding="utf-8")))
    mark = match[0].split("\n", 1)[0]
    return f"{mark}\n{text}\n<!-- end table -->"


def rendered(text: str, folder: Path = ROOT / "benchmarks") -> str:
    """Return the README with every table made anew."""
    return MARK.sub(lambda match: table(match, folder), text)


def main() -> int:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    new = rendered(text)
    if "--check" in sys.argv:
        return int(new != text)
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
