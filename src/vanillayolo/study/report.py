"""A comparison as text: Markdown tables, one HTML file with tables and pictures inside. Nothing is measured here."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from vanillayolo.atomic import write_whole
from vanillayolo.tables import markdown

from .plots import BACKEND_NAMES, PLOTS, write_plots
from .records import Record, with_spread, write_record
from .results import METRICS, gather, judged_split, metric_names, milliseconds

DEFAULT_NBS = 64  # Ultralytics' own
Table = tuple[list[str], list[list[str]]]

CSS = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } .wide { overflow-x: auto; }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { border-bottom: 2px solid #888; }
td.best { font-weight: 700; } img { max-width: 100%; } .note { color: #555; }
"""


def accuracy_table(result: Record, split: str) -> Table:
    """Return both metrics of every model over all classes, those of its boxes, and mAP50-95 of every class."""
    shown = next(iter(result["models"].values()))[split]
    classes, boxes = list(shown["per_class"]), METRICS if "boxes" in shown else {}
    names = metric_names(result)
    header = ["model", "seeds", *names.values(), *(f"{name} of boxes" for name in boxes.values())]
    header += [f"{names['map50_95']} {name}" for name in classes]
    rows = []
    for model, figures in result["models"].items():
        scores = figures[split]
        per_class = [with_spread(scores["per_class"][name]["map50_95"]) for name in classes]
        overall = [with_spread(x[m]) for x, keys in ((scores, METRICS), (scores.get("boxes"), boxes)) for m in keys]
        rows.append([model, str(len(figures["seeds"])), *overall, *per_class])
    return header, rows


def class_table(result: Record, split: str) -> Table:
    """Return mAP50 of every class."""
    classes = list(next(iter(result["models"].values()))[split]["per_class"])
    rows = [
        [model, *(with_spread(figures[split]["per_class"][name]["map50"]) for name in classes)]
        for model, figures in result["models"].items()
    ]
    return ["model", *(f"{metric_names(result)['map50']} {name}" for name in classes)], rows


def cost_table(result: Record) -> Table:
    """Return parameters, arithmetic, latency, memory and training time of every model."""
    backends = list((result["latency"] or {}).get("milliseconds", {}))
    header = ["model", "M parameters", "training form", "GFLOPs", "training form"]
    header += [f"ms {BACKEND_NAMES.get(b, b)}" for b in backends]
    header += ["MB kept for backward", "minutes of training"]
    rows = []
    for model, figures in result["models"].items():
        form = figures["training_form"]
        cells = [f"{figures['parameters'] / 1e6:.2f}", f"{form['parameters'] / 1e6:.2f}" if form else "same"]
        cells += [f"{figures['gflops']:.2f}", f"{form['gflops']:.2f}" if form else "same"]
        times = (milliseconds(result, b, model) for b in backends)
        cells += ["" if t is None else f"{t:.1f}" for t in times]
        cells += [f"{figures['saved_bytes'] / 1e6:.0f}", with_spread(figures["training_seconds"], 1, 1 / 60)]
        rows.append([model, *cells])
    return header, rows


def tables(result: Record) -> dict[str, Table]:
    """Return every table by its heading, the split that was judged first."""
    judged = judged_split(result)
    splits = [judged, *(s for s in ("val",) if s != judged)]
    return {
        **{f"Accuracy on {s}": accuracy_table(result, s) for s in splits},
        "Cost": cost_table(result),
        **{f"{metric_names(result)['map50']} per class on {s}": class_table(result, s) for s in splits},
    }


def protocol_text(result: Record) -> str:
    """Say in one paragraph what was the same for all."""
    settings, machine = result["settings"], result["machine"]
    said = ("data", "task", "epochs", "imgsz", "batch", "updates", "pretrained")
    before = {} if "updates" in settings else {"nbs": DEFAULT_NBS}  # of records made when nothing chose it
    extra = ", ".join(f"{k}={v}" for k, v in (before | settings).items() if k not in said)
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    start = "the package's weights" if settings.get("pretrained") else "random weights"
    return (
        f"{settings['data']}, {settings['epochs']} epochs at {settings['imgsz']} px, batch {settings['batch']}"
        f"{', ' + extra if extra else ''}; the same data, seeds, schedule, augmentation and size for every model, from "
        f"{start} unless a checkpoint is named; figures are mean ± standard deviation over seeds, of the network "
        f"that ships (merged where it merges). {machine['processor']}, {machine['cores']} cores; {versions}."
    )


def latency_text(result: Record) -> str:
    """Say how the latency was measured."""
    timing = result["latency"]
    if timing is None:
        return "Latency was not measured."
    return (
        f"Latency: one image of {timing['imgsz']} px, median of {timing['rounds']} rounds in turns on "
        f"{timing['date']}, {timing['machine']['cores']} cores. Every network here needs box "
        "suppression after it, which is not in these times: YOLO26's files are those of its default head."
    )


def markdown_report(result: Record) -> str:
    """Return the whole report as Markdown, without pictures."""
    parts = ["# Comparison", protocol_text(result)]
    for title, (header, rows) in tables(result).items():
        parts += [f"## {title}", markdown(header, rows)]
        if title == "Cost":
            parts.append(latency_text(result))
    if result["command"]:
        parts.append(f"`{result['command']}`")
    return "\n\n".join(parts) + "\n"


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as HTML; the best mean of every column of accuracies is bold."""

    def value(cell: str) -> float:
        return float(cell.split(" ")[0])

    best = {i: max(value(row[i]) for row in rows) for i, name in enumerate(header) if name.startswith("mAP")}
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = []
    for row in rows:
        marks = [' class="best"' if i in best and value(cell) == best[i] else "" for i, cell in enumerate(row)]
        lines.append("".join(f"<td{mark}>{escape(cell)}</td>" for mark, cell in zip(marks, row, strict=True)))
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def html_report(result: Record, pictures: Mapping[str, Path]) -> str:
    """Return the whole report as one HTML file: nothing is loaded from elsewhere."""
    parts = [f"<p>{escape(protocol_text(result))}</p>"]
    shown = tables(result)
    first = next(iter(shown))
    for title, (header, rows) in shown.items():
        parts += [f"<h2>{escape(title)}</h2>", html_table(header, rows)]
        if title == "Cost":
            parts.append(f'<p class="note">{escape(latency_text(result))}</p>')
        if title == first:
            for name, path in pictures.items():
                data = base64.b64encode(path.read_bytes()).decode()
                label = escape(PLOTS[name][0])
                parts += [f"<h2>{label}</h2>", f'<img alt="{label}" src="data:image/png;base64,{data}">']
    if result["command"]:
        parts.append(f"<p><code>{escape(result['command'])}</code></p>")
    title = f"Comparison on {escape(result['settings']['data'])}, {result['date']}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}</style></head>\n'
        f"<body><h1>{title}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def write_report(folder: str | Path, command: str | None = None, order: Sequence[str] = ()) -> dict[str, Path]:
    """Gather a folder of runs and write ``compare.json``, ``compare.md``, ``compare.html`` and the PNG pictures.

    Args:
        folder: the folder of runs.
        command: the command that made it.
        order: models to come first.

    Returns:
        The files by name.

    Raises:
        UsageError: when no run has finished.
    """
    root = Path(folder)
    result = gather(root, command, order)
    files = {"json": write_record(root / "compare.json", result)}
    pictures = write_plots(result, root)
    for kind, text in (("md", markdown_report(result)), ("html", html_report(result, pictures))):
        files[kind] = write_whole(root / f"compare.{kind}", text)
    return {**files, **pictures}
