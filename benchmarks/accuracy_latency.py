"""Draw accuracy over latency: python benchmarks/accuracy_latency.py.

Reads benchmarks/accuracy/updates.json (BCCD's test split) and benchmarks/time/runtimes.json (ONNX Runtime), and writes
docs/images/accuracy_latency.png.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from updates import grouped

from vanillayolo.study.records import spread

ROOT = Path(__file__).parents[1]
COLOURS = {"-vanillanet": "#c2410c", "yolo11": "#475569", "yolo26": "#0e7490"}
PROTOCOL = {"data": "bccd", "epochs": 40, "nbs": 8}
STARTS = ("noise", "weights")  # those that a user gets


def drawn(record: Mapping[str, Any], times: Mapping[str, Any]) -> Figure:
    """Return the picture of the networks of a record's runs that were timed."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    furthest = 0.0
    for runs in grouped(record).values():
        name, start = runs[0]["network"], runs[0]["start"]
        other = any(runs[0][key] != value for key, value in PROTOCOL.items())
        if other or start not in STARTS or name not in times["models"]:
            continue
        accuracy = spread([run["test"]["map50_95"] for run in runs])
        x = times["models"][name]["milliseconds"]["onnxruntime"]["median"]
        furthest = max(furthest, x)
        colour = next(colour for part, colour in COLOURS.items() if part in name)
        look = {"fmt": "o", "color": colour, "capsize": 3, "markersize": 9}
        look["fillstyle"] = "full" if start == "weights" else "none"
        axes.errorbar(x, accuracy["mean"], accuracy["std"] or None, **look)
        words = f"{name}\nfrom {'the weights in the package' if start == 'weights' else start}"
        place = {"ha": "center", "va": "bottom" if "-vanillanet" not in name or start == "weights" else "top"}
        above = 8 if place["va"] == "bottom" else -8
        axes.annotate(
            words, (x, accuracy["mean"]), (0, above), textcoords="offset points", fontsize=8, color=colour, **place
        )
    axes.set_xlabel("milliseconds, one image of 320 px, ONNX Runtime, one thread")
    axes.set_ylabel("mAP50-95 on BCCD's test split")
    axes.set_xlim(0, 1.3 * furthest)
    axes.set_ylim(0.45, 0.65)
    axes.grid(alpha=0.3)
    axes.set_title("40 epochs, 8 pictures an update; open: from noise", fontsize=9)
    return figure


def main() -> None:
    accuracy, time = (ROOT / "benchmarks" / place for place in ("accuracy/updates.json", "time/runtimes.json"))
    figure = drawn(*(json.loads(path.read_text(encoding="utf-8")) for path in (accuracy, time)))
    figure.savefig(ROOT / "docs" / "images" / "accuracy_latency.png", dpi=120)


if __name__ == "__main__":
    main()
