"""Weights that have grown in a long training, made short again for the next one: the same function, learnt faster.

A normalisation takes the scale of the convolution before it away (van Laarhoven, arXiv 1706.05350). An optimizer does
not: a step of Adam has the length of the learning rate, so a weight that has grown three times as long is turned a
third as far. After a pretraining the whole network has.
"""

from __future__ import annotations

import torch
from torch import nn

from .deep_training import deep_pairs

#: Root mean square of a 1x1 convolution's weights beyond which it is shortened. Those of a detector that was trained
#: from noise on 200 pictures have 0.015 to 0.03, those of the package's weights up to 0.08.
LONGEST = 0.012


def shorten(convolution: nn.Conv2d, norm: nn.BatchNorm2d, longest: float = LONGEST) -> float:
    """Shorten a convolution that a batch normalisation follows, in place, and return by which factor.

    In evaluation mode both together stay the same function, in training mode but for the normalisation's ``eps``.

    Args:
        convolution: of any kernel size.
        norm: what follows it.
        longest: root mean square that its weights may keep.
    """
    mean, var = norm.running_mean, norm.running_var
    length = float(convolution.weight.detach().square().mean().sqrt())
    if mean is None or var is None or length <= longest:
        return 1.0
    factor = longest / length
    with torch.no_grad():
        before = (var + norm.eps).sqrt()
        for scaled in (convolution.weight, convolution.bias, mean):
            if scaled is not None:
                scaled.mul_(factor)
        var.mul_(factor**2)
        norm.weight.mul_((var + norm.eps).sqrt() / (factor * before))
    return factor


def shorten_joined(model: nn.Module) -> list[float]:
    """Shorten every joined pair of a network but the stem's, in place, and return the factors."""
    joined = (pair for _, pair in deep_pairs(model) if pair.is_joined and pair.conv1.kernel_size == (1, 1))
    return [shorten(pair.conv1, pair.norm2) for pair in joined if isinstance(pair.norm2, nn.BatchNorm2d)]


def shorten_stock(model: nn.Module) -> list[float]:
    """Shorten every convolution of a stock network but the depthwise ones, in place, and return the factors."""
    layers = ((getattr(m, "conv", None), getattr(m, "bn", None)) for m in model.modules())
    pairs = ((c, n) for c, n in layers if isinstance(c, nn.Conv2d) and isinstance(n, nn.BatchNorm2d))
    return [shorten(convolution, norm) for convolution, norm in pairs if convolution.groups == 1]
