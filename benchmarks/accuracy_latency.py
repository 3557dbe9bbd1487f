"""Draw accuracy over latency of a comparison's record: python benchmarks/accuracy_latency.py.

Reads benchmarks/compare_bccd_family_2026-11-26.json and writes docs/images/accuracy_latency.png.
"""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
RECORD = "compare_bccd_family_2026-11-26.json"
FAMILIES = {
    "-vanillanet": ("VanillaYOLO", "#c2410c", "o"),
    "yolo11": ("YOLO11", "#475569", "s"),
    "yolo26": ("YOLO26", "#0e7490", "^"),
}


def main() -> None:
    record = json.loads((ROOT / "benchmarks" / RECORD).read_text(encoding="utf-8"))
    times = record["latency"]["milliseconds"]["onnxruntime"]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    shown = set()
    for name, model in record["models"].items():
        if name.endswith(".yaml"):
            continue
        title, colour, mark = next(row for key, row in FAMILIES.items() if key in name)
        accuracy, x = model["test"]["map50_95"], times[name]["median"]
        axes.errorbar(
            x,
            accuracy["mean"],
            accuracy["std"] or None,
            fmt=mark,
            color=colour,
            capsize=3,
            markersize=8,
            label=None if title in shown else title,
        )
        axes.annotate(name, (x, accuracy["mean"]), (7, 5), textcoords="offset points", fontsize=8, color=colour)
        shown.add(title)
    axes.set_xlabel("milliseconds, one image of 320 px, ONNX Runtime on 2 cores")
    axes.set_ylabel("mAP50-95 on BCCD's test split, from noise")
    axes.set_xlim(0, 1.25 * max(times[name]["median"] for name in record["models"]))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(ROOT / "docs" / "images" / "accuracy_latency.png", dpi=120)


if __name__ == "__main__":
    main()
