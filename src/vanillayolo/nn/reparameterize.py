"""The exact merge: what deep training made two convolutions becomes one. Weight folding is written here and only here.

Paper: arXiv 2305.12972, section 3.1, equations 2 to 4. All arithmetic is in float64, results are stored in the
weights' own dtype in fresh contiguous tensors (a 1x1 weight left with channels-last strides slows eager mode and
breaks some exporters).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vanillayolo.errors import MergeError

from .deep_training import deep_pairs
from .layers import DeepPair, SeriesActivation

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


def merge_pair(pair: DeepPair) -> nn.Conv2d:
    """Merge a deep pair of slope 1 into one convolution.

    Raises:
        MergeError: when the slope is not exactly 1.
    """
    if pair.negative_slope != 1.0:
        raise MergeError(f"slope {pair.negative_slope:g} between the convolutions; only slope 1 merges exactly.")
    if not isinstance(pair.conv2, nn.Conv2d):
        return as_conv(pair.conv1, fold(pair.conv1, pair.norm2))  # joined
    return as_conv(pair.conv1, compose(fold(pair.conv1, pair.norm1), fold(pair.conv2, pair.norm2)))


def join_pair(pair: DeepPair) -> DeepPair:
    """Return a deep pair of slope 1 as one convolution that trains on: ``conv1``, with the pair's ``norm2`` after it.

    In evaluation mode it is the same function. In training it differs from the pair in one thing: the scale of the
    channels between the convolutions is that of the running statistics of ``norm1``, no longer the batch's; their
    mean is taken away by ``norm2`` either way.

    Raises:
        MergeError: when the slope is not exactly 1.
    """
    if pair.negative_slope != 1.0:
        raise MergeError(f"slope {pair.negative_slope:g} between the convolutions; only slope 1 joins them exactly.")
    joined = copy.copy(pair)
    joined._modules = dict(pair._modules)
    if isinstance(pair.conv2, nn.Conv2d):
        weight_bias = compose(fold(pair.conv1, pair.norm1), fold(pair.conv2, nn.Identity()))
        joined.conv1, joined.norm1, joined.conv2 = as_conv(pair.conv1, weight_bias), nn.Identity(), nn.Identity()
    return joined.train(pair.training)


def join_pairs(model: nn.Module) -> nn.Module:
    """Make every deep pair, in place, the one convolution that it is at slope 1, to be trained on; return the model.

    The parameters of the first convolution are new ones, those of both old convolutions and of the normalisation
    between them are gone: an optimizer that holds them has to be told.

    Raises:
        MergeError: unless every slope is exactly 1; nothing is changed then.
    """
    check_mergeable(model)
    return replace_modules(model, {DeepPair: join_pair})


def merge_activation(activation: SeriesActivation) -> nn.Sequential:
    """Merge a series activation into ReLU and one depthwise convolution with bias."""
    merged = nn.Sequential(nn.ReLU(), as_conv(activation.conv, fold(activation.conv, activation.norm)))
    return merged.train(activation.training)


def fold_pair(pair: DeepPair) -> DeepPair:
    """Return the pair with both BN folded, the same function at any slope."""
    folded = copy.copy(pair)
    folded._modules = dict(pair._modules)
    if not isinstance(pair.conv2, nn.Conv2d):
        folded.conv1, folded.norm2 = merge_pair(pair), nn.Identity()  # joined
        return folded.train(pair.training)
    folded.conv1, folded.norm1 = as_conv(pair.conv1, fold(pair.conv1, pair.norm1)), nn.Identity()
    folded.conv2, folded.norm2 = as_conv(pair.conv2, fold(pair.conv2, pair.norm2)), nn.Identity()
    return folded.train(pair.training)


MERGE: dict[type[nn.Module], Callable[..., nn.Module]] = {DeepPair: merge_pair, SeriesActivation: merge_activation}
FOLD: dict[type[nn.Module], Callable[..., nn.Module]] = {DeepPair: fold_pair, SeriesActivation: merge_activation}


def replace_modules(model: nn.Module, table: dict[type[nn.Module], Callable[..., nn.Module]]) -> nn.Module:
    """Replace, in place and in order, every descendant whose class is in ``table``; return the model."""
    for name, child in model.named_children():
        make = table.get(type(child))
        if make is None:
            replace_modules(child, table)
        else:
            model._modules[name] = make(child)
    return model


def check_mergeable(model: nn.Module) -> None:
    """Raise MergeError, naming the pair and the remedy, unless every slope is exactly 1."""
    for name, pair in deep_pairs(model):
        if pair.negative_slope != 1.0:
            raise MergeError(
                f"{name} has slope {pair.negative_slope:g}: only slope 1 merges without changing the network. "
                "Train on until the slope is 1 (resume, or a smaller decay), or use the unmerged network."
            )


def reparameterize(model: nn.Module) -> nn.Module:
    """Return a new network of the same function in evaluation mode, every pair and activation merged.

    Merging a merged network gives an equal copy. Modules that are not VanillaNet's are copied as they are.

    Raises:
        MergeError: unless every slope is exactly 1; nothing is changed then.
    """
    check_mergeable(model)
    model = copy.deepcopy(model)
    make = MERGE.get(type(model))
    return make(model) if make is not None else replace_modules(model, MERGE)


def is_joined(model: nn.Module) -> bool:
    """Return whether there are pairs that have become one convolution to be trained on."""
    return any(pair.is_joined for _, pair in deep_pairs(model))


def is_merged(model: nn.Module) -> bool:
    """Return whether nothing is left to merge."""
    return not any(isinstance(m, (DeepPair, SeriesActivation)) for m in model.modules())
