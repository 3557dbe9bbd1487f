"""The operators of a lean stage: batch normalisation in three parts, 1x1 convolution and pooling with their gradients.

Each computes what the module of the same name does; they are apart because a stage that recomputes needs statistics,
application and gradient one by one, in place where a map is used once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import HalvingMaxPool2d

Geometry = tuple[list[int], list[int], list[int]]  # kernel, stride, padding, each for height and width

aten = torch.ops.aten


# ---------------------------------------------------------------------------------------------------------------------
# Batch normalisation


class Statistics(NamedTuple):
    """Mean and biased variance per channel, of the batch or running.

    Attributes:
        mean: ``[channels]``.
        var: ``[channels]``.
        of_batch: whether they are the batch's, so that the gradient flows through them too.
        eps: added to the variance.
    """

    mean: Tensor
    var: Tensor
    of_batch: bool
    eps: float


def measure(norm: nn.BatchNorm2d, x: Tensor, sign: Tensor | None = None) -> Statistics:
    """Return the statistics that ``norm`` normalises ``x`` with, and update the running ones as the module would.

    Args:
        norm: in training mode it takes the batch's statistics, in evaluation mode the running ones.
        x: ``[batch, channels, height, width]``, turned by ``sign``.
        sign: ``[channels]`` of 1 and -1, or None for 1; the statistics returned are of the turned map, the running
            ones are not.

    Returns:
        Mean and variance, ``[channels]`` each, in float32 at least.

    Raises:
        ValueError: where a channel of the batch has one value, as torch's own.
    """
    running_mean, running_var = norm.running_mean, norm.running_var
    assert running_mean is not None  # a stage with other normalisations is not run leanly
    assert running_var is not None
    if not norm.training:
        return Statistics(turned(running_mean, sign).clone(), running_var.clone(), False, norm.eps)
    count = x.numel() // x.shape[1]
    if count == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")  # as torch
    like = torch.zeros(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))  # makes them precise in bfloat16
    mean, var = torch.batch_norm_update_stats(x, like, like, 0.0)
    batches, share = norm.num_batches_tracked, norm.momentum or 0.0
    if batches is not None:
        batches.add_(1)
        if norm.momentum is None:  # torch's word for the plain average over all batches
            share = 1.0 / float(batches)
    running_mean.lerp_(turned(mean, sign).to(running_mean), share)
    running_var.lerp_((var * (count / (count - 1))).to(running_var), share)
    return Statistics(mean, var, True, norm.eps)


def normalize_(x: Tensor, stats: Statistics, weight: Tensor, bias: Tensor, out: Tensor | None = None) -> Tensor:
    """Normalise ``x`` ``[batch, channels, height, width]`` in place, or into ``out``; weight, bias: ``[channels]``."""
    out = x if out is None else out
    none = stats.mean.new_empty(0)
    weight, bias = weight.to(stats.mean.dtype), bias.to(stats.mean.dtype)
    args = (x, weight, bias, stats.mean, stats.var, False, 0.0, stats.eps)
    return torch.native_batch_norm(*args, out=(out, none, none))[0]


def normalize_backward(grad: Tensor, x: Tensor, stats: Statistics, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of a normalisation.

    Args:
        grad: of its output, ``[batch, channels, height, width]``.
        x: its input, the same shape.
        stats: what it normalised with.
        weight: ``[channels]``.

    Returns:
        The gradients of the input, of the shape of ``x``, of the weight and of the bias, ``[channels]``.
    """
    invstd = (stats.var + stats.eps).rsqrt()
    weight = weight.to(stats.mean.dtype)
    args = (stats.mean, stats.var, stats.mean, invstd, stats.of_batch, stats.eps, [True, True, True])
    return aten.native_batch_norm_backward(like_layout(grad, x), x, weight, *args)


def bias_gradient(stats: Statistics, weight: Tensor, grad_bias: Tensor) -> Tensor:
    """Return the gradient of the bias, ``[channels]``, of the convolution before a normalisation.

    It is the sum of the gradient of the normalisation's input: 0 where the batch's mean is taken away again.

    Args:
        stats: what the normalisation normalised with.
        weight: of the normalisation, ``[channels]``.
        grad_bias: gradient of the normalisation's bias, ``[channels]``.
    """
    if stats.of_batch:
        return torch.zeros_like(grad_bias)
    return grad_bias * weight * (stats.var + stats.eps).rsqrt()


# ---------------------------------------------------------------------------------------------------------------------
# Signs and layouts


def falling(weight: Tensor) -> Tensor | None:
    """Return ``[channels]``: -1 where a normalisation falls (its weight is negative), else 1; None where none does."""
    negative = weight < 0
    return torch.where(negative, -1.0, 1.0).to(weight) if bool(negative.any()) else None


def turned(x: Tensor, sign: Tensor | None) -> Tensor:
    """Return ``x`` ``[channels, ...]`` times the sign of each channel: exact."""
    return x if sign is None else x * sign.view(-1, *(1,) * (x.dim() - 1))


def is_channels_last(x: Tensor) -> bool:
    """Return whether the channels of ``[batch, channels, height, width]`` are innermost in memory."""
    return x.is_contiguous(memory_format=torch.channels_last)


def like_layout(grad: Tensor, x: Tensor) -> Tensor:
    """Return ``grad`` in the memory layout of ``x``; torch's kernels are slow on mixed layouts.

    Both are ``[batch, channels, height, width]``; their channels may differ in number.
    """
    return grad.contiguous(memory_format=torch.channels_last if is_channels_last(x) else torch.contiguous_format)


# ---------------------------------------------------------------------------------------------------------------------
# Convolution


def as_matrix(x: Tensor) -> bool:
    """Return whether a 1x1 convolution of ``x`` runs faster as the matrix product that it is: measured, bfloat16.

    Args:
        x: ``[batch, channels, height, width]``.
    """
    return x.dtype == torch.bfloat16 and is_channels_last(x)


def convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: list[int], padding: list[int]) -> Tensor:
    """Convolve a map.

    Args:
        x: ``[batch, channels, height, width]``.
        weight: ``[out, channels, rows, columns]``, cast to the type of ``x``.
        bias: ``[out]``, cast too.
        stride: of height and width, pixels.
        padding: of height and width, pixels.

    Returns:
        ``[batch, out, height, width]``, of the sizes that stride and padding leave.
    """
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    if weight.shape[2:] == (1, 1) and as_matrix(x):
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias, stride, padding)


def convolve_backward(
    grad: Tensor, x: Tensor, weight: Tensor, stride: list[int], padding: list[int], need: list[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of a convolution's input and weight.

    Args:
        grad: of its output, ``[batch, out, height, width]``.
        x: its input, ``[batch, channels, height, width]``.
        weight: ``[out, channels, rows, columns]``.
        stride: of height and width, pixels.
        padding: of height and width, pixels.
        need: whether the input's is asked for, and whether the weight's.

    Returns:
        The input's, of the shape and type of ``x``, and the weight's, of its shape and type; None where not asked for.
    """
    geometry = (stride, padding, [1, 1], False, [0, 0], 1)
    cast = weight.to(x.dtype)
    grad = like_layout(grad, x)
    if weight.shape[2:] == (1, 1) and as_matrix(x):
        rows = grad.permute(0, 2, 3, 1).flatten(0, 2)
        grad_x = grad_weight = None
        if need[0]:
            grad_x = (rows @ cast.flatten(1)).view(*x.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
        if need[1] and len(rows) < 4 * x.shape[1]:  # measured: oneDNN's own is slow on few pixels, fast on many
            grad_weight = (rows.t() @ x.permute(0, 2, 3, 1).flatten(0, 2)).view(weight.shape)
        elif need[1]:
            grad_weight = aten.convolution_backward(grad, x, cast, None, *geometry, [False, True, False])[1]
    else:
        grad_x, grad_weight, _ = aten.convolution_backward(grad, x, cast, None, *geometry, [*need, False])
    return grad_x, None if grad_weight is None else grad_weight.to(weight.dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Pooling


def pool_geometry(pool: nn.Module, x: Tensor) -> Geometry | None:
    """Return kernel, stride and padding of a stage's pooling, pixels of height and width; None where it has none.

    Args:
        pool: the stage's.
        x: ``[batch, channels, height, width]``; odd sizes have other windows in :class:`HalvingMaxPool2d`.
    """
    if isinstance(pool, nn.Identity):
        return None
    odd = [size % 2 if isinstance(pool, HalvingMaxPool2d) else 0 for size in x.shape[-2:]]
    return [2 + odd[0], 2 + odd[1]], [2, 2], odd


def pooled(x: Tensor, geometry: Geometry | None) -> tuple[Tensor, Tensor | None]:
    """Pool a map.

    Args:
        x: ``[batch, channels, height, width]``.
        geometry: of :func:`pool_geometry`.

    Returns:
        The map with height and width halved, and where each maximum was (int64, the same shape; an index into
        height * width); without pooling ``x`` and None.
    """
    return aten.max_pool2d_with_indices(x, *geometry) if geometry else (x, None)


def pooled_backward(grad: Tensor, x: Tensor, geometry: Geometry | None, index: Tensor | None) -> Tensor:
    """Return the gradient of a pooling's input, of the shape of ``x``; without pooling ``grad``.

    Args:
        grad: of its output, ``[batch, channels, height / 2, width / 2]``.
        x: its input, ``[batch, channels, height, width]``.
        geometry: of :func:`pool_geometry`.
        index: where each maximum was, of the shape of ``grad``.
    """
    if geometry is None:
        return grad
    return aten.max_pool2d_with_indices_backward(like_layout(grad, x), x, *geometry, [1, 1], False, index)
