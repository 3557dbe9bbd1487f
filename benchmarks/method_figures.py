"""Draw the figures of docs/method.md from the mathematics itself, with the package's own functions.

    python benchmarks/method_figures.py

Writes docs/images/method_slope.png and docs/images/method_merge.png.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vanillayolo.nn import DeepPair, DeepTraining, SeriesActivation, randomize_batchnorm

IMAGES = Path(__file__).parents[1] / "docs" / "images"
COLOURS = plt.get_cmap("viridis")


def slope_figure() -> None:
    """The leaky ReLU of a pair at several slopes, and the slope over a training."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    x = torch.linspace(-2, 2, 201)
    for slope in (0.0, 0.25, 0.5, 0.75, 1.0):
        left.plot(x, F.leaky_relu(x, slope), color=COLOURS(slope * 0.9), label=f"{slope:g}")
    left.set(title="inside every pair", xlabel="input", ylabel="leaky ReLU")
    left.legend(title="negative_slope", fontsize=8)
    epochs = 300
    for shape, style in (("linear", "-"), ("cosine", "--")):
        schedule = DeepTraining(decay=1 / 3, decay_shape=shape)
        slopes = [schedule.epoch_slope(epoch, epochs) for epoch in range(epochs)]
        right.plot(slopes, style, color=COLOURS(0.3), label=f"decay_shape={shape}")
    right.axvspan(100, epochs, color="0.93")
    right.text(110, 0.08, "mergeable: best.pt is chosen here", fontsize=8)
    right.set(title="300 epochs, decay=1/3", xlabel="epoch", ylabel="negative_slope")
    right.legend(fontsize=8, loc="center right")
    figure.savefig(IMAGES / "method_slope.png", dpi=120)


def merge_error(slope: float, pair: DeepPair, x: torch.Tensor) -> float:
    """Return how far a pair at ``slope`` is from what it would merge into, relative to its largest output."""
    pair.negative_slope = 1.0
    merged = pair.fuse()
    pair.negative_slope = slope
    with torch.no_grad():
        want = pair(x)
        return float((merged(x) - want).abs().max() / want.abs().max())


def merge_figure() -> None:
    """What merging at a slope below 1 would cost, and the reach of the series activation."""
    torch.manual_seed(0)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    pair = DeepPair(32, 64)
    for conv in (pair.conv1, pair.conv2):
        nn.init.normal_(conv.weight, std=32**-0.5)
    randomize_batchnorm(pair).double().eval()
    x = torch.randn(4, 32, 16, 16, dtype=torch.float64)
    slopes = np.linspace(0, 1, 41)
    errors = [max(merge_error(float(slope), pair, x), 1e-17) for slope in slopes]
    left.semilogy(slopes, errors, ".-", color=COLOURS(0.3))
    left.set(title="merging before the slope is 1 (refused)", xlabel="negative_slope", ylabel="relative difference")
    left.annotate("exact at 1", (1, errors[-1]), (0.62, errors[-1] * 3), fontsize=8)
    activation = SeriesActivation(1, 3).eval()
    with torch.no_grad():
        nn.init.trunc_normal_(activation.conv.weight, std=0.02)
        point = torch.zeros(1, 1, 15, 15)
        point[..., 7, 7] = 1
        reach = activation(point)[0, 0]
    limit = float(reach.abs().max())
    picture = right.imshow(reach, cmap="RdBu", vmin=-limit, vmax=limit)
    right.set(title="one bright pixel after SeriesActivation(act_num=3)", xticks=[], yticks=[])
    figure.colorbar(picture, ax=right)
    figure.savefig(IMAGES / "method_merge.png", dpi=120)


if __name__ == "__main__":
    slope_figure()
    merge_figure()
    print(IMAGES)
