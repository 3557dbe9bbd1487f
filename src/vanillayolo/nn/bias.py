"""Bias correction: the mean that rounding the weights adds is taken off the bias before a quantiser rounds them.

Nagel et al. 2019, arXiv 1906.04721, section 4.2, equation 16: ``E[W~ x] - E[W x] = (W~ - W) E[x]``. Maps behind a ReLU,
and images, have a large mean, so that this is most of the first layers' noise (docs/int8_results.md). The mean input is
measured on calibration images, pixel by pixel, so that padding counts as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .hooks import listening

#: From a convolution, the steps on each side of 0 that a quantiser gives its weight.
Levels = Callable[[nn.Conv2d], float]


def rounded(weight: Tensor, levels: float = 127) -> Tensor:
    """Return a weight ``[out, ...]`` as integers up to ``levels``, scaled for each output channel, represent it."""
    largest = weight.flatten(1).abs().amax(1).clamp_min(torch.finfo(weight.dtype).tiny)
    scale = (largest / levels).view(-1, *(1,) * (weight.dim() - 1))
    return (weight / scale).round() * scale


@torch.no_grad()
def mean_inputs(network: nn.Module, images: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the mean input ``[1, channels, height, width]`` of every convolution with a bias, by its name.

    Args:
        network: in evaluation mode.
        images: inputs ``[batch, channels, height, width]`` of one size.
    """
    sums: dict[str, Tensor] = {}
    count = 0

    def note(name: str, inputs: tuple[Tensor, ...], _: Any) -> None:
        seen = inputs[0].sum(0, keepdim=True)
        sums[name] = sums[name] + seen if name in sums else seen

    layers = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    with listening(layers, note):
        for image in images:
            network(image)
            count += len(image)
    return {name: value / count for name, value in sums.items()}


@torch.no_grad()
def correct_biases(
    network: nn.Module,
    images: Iterable[Tensor],
    levels: Levels = lambda _: 127,
    skip: Iterable[str] = (),
    trained: Levels | None = None,
) -> int:
    """Take off every bias, in place, what rounding its weight to int8 adds to the mean output.

    The float network is a little wrong after this, the int8 one less.

    Args:
        network: a merged network in evaluation mode.
        images: calibration inputs.
        levels: how the quantiser rounds a weight; the correction is of that rounding and no other.
        skip: modules that stay in float.
        trained: the rounding that the network was trained with, whose mean output is then the right one.

    Returns:
        How many biases were corrected.
    """
    left = [f"{name.rstrip('.')}." for name in skip]
    modules = dict(network.named_modules())
    means = mean_inputs(network, images)
    corrected = 0
    for name, mean in means.items():
        if any(f"{name}.".startswith(prefix) for prefix in left):
            continue
        conv: Any = modules[name]
        error = rounded(conv.weight, levels(conv)) - (rounded(conv.weight, trained(conv)) if trained else conv.weight)
        shift = F.conv2d(mean, error, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        conv.bias.sub_(shift.mean((0, 2, 3)))
        corrected += 1
    return corrected
