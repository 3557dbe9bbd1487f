"""The pictures of a comparison: accuracy over latency, learning curves, memory. Data in, PNG out; nothing is measured.

Every model keeps its colour and its marker through all pictures of a report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vanillayolo.atomic import whole_file

from .records import Record
from .results import frontier, judged_split, metric_names, milliseconds

#: Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C00")
MARKERS = "osD^vPX*"
BACKEND_NAMES = {
    "onnxruntime": "ONNX Runtime, float32",
    "openvino-f32": "OpenVINO, float32",
    "openvino-bf16": "OpenVINO, bfloat16",
}


def style(result: Record, model: str) -> dict[str, Any]:
    """Return a model's colour and marker."""
    i = list(result["models"]).index(model)
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


def new_figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure, outside of matplotlib's global state, and its axes with a quiet grid."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=140)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes:
        ax.grid(True, color="#DDDDDD", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def legend_below(figure: Figure, ax: Axes, entries: int) -> None:
    """Put the legend of one picture under all."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(entries, 3), frameon=False)


def draw_frontier(ax: Axes, edge: Sequence[tuple[float, float]]) -> None:
    """Draw the frontier as steps: what lies right of and below it is beaten by a model on it."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    xs, ys = [edge[0][0], *(x for x, _ in edge), right], [bottom, *(y for _, y in edge), edge[-1][1]]
    ax.step(xs, ys, where="post", color="#888888", linewidth=1.5, linestyle="--", zorder=0, label="frontier")
    ax.set(xlim=(left, right), ylim=(bottom, top))


def plot_accuracy(result: Record) -> Figure | None:
    """Draw mAP50-95, mean and spread over seeds, over median latency in every back end, with the frontier."""
    split = judged_split(result)
    backends = list((result["latency"] or {}).get("milliseconds", {}))
    if not backends:
        return None
    figure, axes = new_figure(1, len(backends), 4.6 * len(backends), 4.9)
    for ax, backend in zip(axes, backends, strict=True):
        points = []
        for model, figures in result["models"].items():
            x, y = milliseconds(result, backend, model), figures[split]["map50_95"]
            if x is None:
                continue
            points.append((x, y["mean"]))
            look = {"markersize": 9, "capsize": 4, "linestyle": "", **style(result, model)}
            ax.errorbar(x, y["mean"], y["std"] or 0, label=model, **look)
        ax.margins(0.15)
        draw_frontier(ax, frontier(points))
        ax.set(title=BACKEND_NAMES.get(backend, backend), xlabel="milliseconds per image (left is faster)")
    axes[0].set_ylabel(f"{metric_names(result)['map50_95']} on {split} (up is better)")
    size = result["latency"]["imgsz"]
    figure.suptitle(f"Accuracy over latency, {size} px, mean and standard deviation over seeds")
    legend_below(figure, axes[0], len(result["models"]) + 1)
    return figure


def plot_curves(result: Record) -> Figure:
    """Draw training loss and both metrics on val by epoch: the mean over seeds, and a band from lowest to highest."""
    titles = {"train_loss": "training loss", **{key: f"val {name}" for key, name in metric_names(result).items()}}
    figure, axes = new_figure(1, len(titles), 4.6 * len(titles), 4.6)
    for ax, (key, title) in zip(axes, titles.items(), strict=True):
        for model, figures in result["models"].items():
            curve = figures["curve"][key]
            epochs = range(1, len(curve["mean"]) + 1)
            look = style(result, model)
            every = max(len(epochs) // 8, 1)
            ax.plot(epochs, curve["mean"], label=model, markersize=5, markevery=every, linewidth=1.8, **look)
            ax.fill_between(epochs, curve["low"], curve["high"], color=look["color"], alpha=0.15, linewidth=0)
        ax.set(title=title, xlabel="epoch")
    figure.suptitle("Learning curves: mean over seeds, band from lowest to highest")
    legend_below(figure, axes[0], len(result["models"]))
    return figure


def plot_memory(result: Record) -> Figure:
    """Draw what a training step keeps for its backward pass, and how long the training took."""
    models = list(result["models"])
    figure, axes = new_figure(1, 2, 11.5, 1.6 + 0.55 * len(models))
    memory = [result["models"][m]["saved_bytes"] / 1e6 for m in models]
    minutes = [result["models"][m]["training_seconds"]["mean"] / 60 for m in models]
    settings = result["settings"]
    titles = (
        f"MB kept for the backward pass\n(batch {settings['batch']}, {settings['imgsz']} px)",
        f"minutes of training\n({settings['epochs']} epochs, {result['machine']['cores']} cores)",
    )
    for ax, values, title in zip(axes, (memory, minutes), titles, strict=True):
        bars = ax.barh(models, values, color=[style(result, m)["color"] for m in models])
        ax.bar_label(bars, labels=[f"{v:,.0f}" if v >= 10 else f"{v:.1f}" for v in values], padding=4)
        ax.set_title(title)
        ax.invert_yaxis()
        ax.grid(False, axis="y")
        ax.margins(x=0.14)
    axes[1].set_yticklabels([])
    return figure


PLOTS: dict[str, tuple[str, Callable[[Record], Figure | None]]] = {
    "accuracy_latency": ("Accuracy over latency", plot_accuracy),
    "learning_curves": ("Learning curves", plot_curves),
    "memory": ("Memory and training time", plot_memory),
}


def write_plots(result: Record, folder: Path, names: Sequence[str] = tuple(PLOTS)) -> dict[str, Path]:
    """Write every picture that the result has figures for, and return the files by name."""
    files = {}
    for name in names:
        figure = PLOTS[name][1](result)
        if figure is not None:
            files[name] = folder / f"{name}.png"
            with whole_file(files[name]) as temporary:
                figure.savefig(temporary, format="png")
    return files
