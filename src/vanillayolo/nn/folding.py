"""Weight folding, written here and only here: BN into its convolution, a convolution into the 1x1 convolution after it.

Paper: arXiv 2305.12972, section 3.1, equations 2 to 4. All arithmetic is in float64, results are stored in the
weights' own dtype in fresh contiguous tensors (a 1x1 weight left with channels-last strides slows eager mode and
breaks some exporters).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vanillayolo.errors import MergeError

WeightBias = tuple[Tensor, Tensor]  # [out, in / groups, kernel, kernel] and [out], both float64


def fold(conv: nn.Conv2d, norm: nn.Module) -> WeightBias:
    """Fold a batch normalisation in evaluation mode into the convolution before it (equation 2).

    Args:
        conv: any 2-d convolution.
        norm: its BatchNorm2d, or Identity where nothing follows.

    Returns:
        Weight and bias, float64.
    """
    weight = conv.weight.detach().double()
    bias = conv.bias.detach().double() if conv.bias is not None else weight.new_zeros(conv.out_channels)
    if isinstance(norm, nn.Identity):
        return weight, bias
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        raise MergeError(f"cannot fold {type(norm).__name__}: only BatchNorm2d with running statistics folds.")
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale, shift = scale * norm.weight.detach().double(), shift * norm.weight.detach().double()
        shift = shift + norm.bias.detach().double()
    return weight * scale[:, None, None, None], bias * scale + shift


def compose(first: WeightBias, second: WeightBias) -> WeightBias:
    """Compose a convolution with a 1x1 convolution after it (equations 3 and 4): ``W = W2 W1``, ``b = W2 b1 + b2``."""
    (w1, b1), (w2, b2) = first, second
    matrix = w2.flatten(1)
    return (matrix @ w1.flatten(1)).view(-1, *w1.shape[1:]), matrix @ b1 + b2


def as_conv(like: nn.Conv2d, weight_bias: WeightBias) -> nn.Conv2d:
    """Return a new convolution with the geometry, device, dtype and mode of ``like`` and the weights given."""
    weight, bias = weight_bias
    conv = nn.Conv2d(
        weight.shape[1] * like.groups,
        weight.shape[0],
        like.kernel_size,  # type: ignore[arg-type]  # torch declares tuple[int, ...], its constructor wants the pair
        like.stride,  # type: ignore[arg-type]
        like.padding,  # type: ignore[arg-type]
        like.dilation,  # type: ignore[arg-type]
        like.groups,
        device="meta",
        dtype=like.weight.dtype,
    )
    conv.weight = nn.Parameter(weight.to(like.weight.dtype).clone(memory_format=torch.contiguous_format))
    conv.bias = nn.Parameter(bias.to(like.weight.dtype).clone())
    return conv.requires_grad_(like.weight.requires_grad).train(like.training)
