"""Depthwise convolution of large kernels with a weight gradient that takes as long as its arithmetic does.

The weight gradient is ``dW[c, i, j] = sum over n, y, x of padded(X)[n, c, y + i, x + j] * G[n, c, y, x]``. oneDNN,
which torch calls on CPUs, has a kernel for it that runs at memory speed, but takes it for at most 3 columns of taps
(any number of rows); wider kernels go to a general routine, 10 to 100 times slower. The columns of ``dW`` are
independent of each other: a strip of them is the weight gradient of a narrower convolution of the same maps, shifted.
So the gradient is computed here strip by strip, exactly, by torch's own operator.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

STRIP = 3  # columns of taps; oneDNN's fast kernel (jit_dw) takes no more
#: Elements of one piece of the maps. 8 MB in float32 stays in the cache and below the size (32 MB) from which the C
#: library returns memory to the system after every use and pays for it anew.
PIECE = 1 << 21
CHANNELS = 32  # at least, in one piece: oneDNN works on blocks of 16 channels, one for each of two threads


def strips(taps: int) -> list[tuple[int, int]]:
    """Return ranges of at most :data:`STRIP` columns that cover ``taps`` (odd); one lies centred where it fits.

    The centred strip needs no shifted copy of the maps: its padding is symmetric.
    """
    first = (taps // 2 - 1) % STRIP - STRIP
    ranges = ((max(start, 0), min(start + STRIP, taps)) for start in range(first, taps, STRIP))
    return [(start, stop) for start, stop in ranges if stop > start]


def _strip_gradient(x: Tensor, grad: Tensor, kernel_size: tuple[int, int], start: int, stop: int) -> Tensor:
    """Return columns ``start`` to ``stop`` of the weight gradient, ``[channels, 1, kernel height, stop - start]``."""
    rows, columns = kernel_size
    left, right = columns // 2 - start, stop - 1 - columns // 2  # how far the strip reaches beyond the map
    padding = left
    if left != right:
        x, padding = F.pad(x, (left, right)), 0  # a negative number cuts off
    weight = x.new_empty(x.shape[1], 1, rows, stop - start)  # its shape counts, its values do not
    geometry = ([1, 1], [rows // 2, padding], [1, 1], False, [0, 0], x.shape[1])
    only_weight = [False, True, False]
    return torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, only_weight)[1]


def _by_strips(x: Tensor, grad: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Return the whole weight gradient ``[channels, 1, kernel height, kernel width]`` of maps of one piece."""
    columns = kernel_size[1]
    ranges = strips(columns) if x.shape[3] >= columns else [(0, columns)]  # a strip may lie beyond a narrow map
    parts = [_strip_gradient(x, grad, kernel_size, *strip) for strip in ranges]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 3)


def weight_gradient(x: Tensor, grad: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Return the weight gradient of a depthwise convolution of stride 1 that keeps the size of the map.

    Args:
        x: the convolution's input ``[batch, channels, height, width]``.
        grad: gradient of its output, the same shape and dtype.
        kernel_size: height and width of the kernel, both odd.

    Returns:
        ``[channels, 1, kernel height, kernel width]``, in float32 where ``x`` is bfloat16.
    """
    batch, channels, height, width = x.shape
    if not x.is_cpu or x.dtype not in (torch.float32, torch.bfloat16):
        # Other devices have their own kernels, other types none that is fast.
        padding = [size // 2 for size in kernel_size]
        geometry = ([1, 1], padding, [1, 1], False, [0, 0], channels)
        weight = x.new_empty(channels, 1, *kernel_size)
        return torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, [False, True, False])[1]
    images = max(PIECE // (channels * height * width), 1)
    block = channels if images > 1 else min(max(PIECE // (height * width) // CHANNELS * CHANNELS, CHANNELS), channels)
    columns = []
    for c in range(0, channels, block):
        total = x.new_zeros(min(block, channels - c), 1, *kernel_size, dtype=torch.float32)
        for n in range(0, batch, images):
            xs, gs = (
                t[n : n + images, c : c + block].to(torch.float32, memory_format=torch.channels_last) for t in (x, grad)
            )
            total += _by_strips(xs, gs, kernel_size)
        columns.append(total)
    return torch.cat(columns)


def input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """Return the input gradient: a convolution with the kernel turned by 180 degrees.

    torch's forward kernel is the faster one: 2 to 3 times in channels_last.

    Args:
        grad: gradient of the output, ``[batch, channels, height, width]``.
        weight: ``[channels, 1, kernel height, kernel width]``, both sizes odd.

    Returns:
        The shape of ``grad``.
    """
    padding = [size // 2 for size in weight.shape[2:]]
    return F.conv2d(grad, weight.flip(2, 3), padding=padding, groups=weight.shape[0])


class _DepthwiseConv2d(torch.autograd.Function):
    """The convolution as one node of the graph."""

    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        padding = [size // 2 for size in weight.shape[2:]]
        return F.conv2d(x, weight.to(x.dtype), padding=padding, groups=weight.shape[0])

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        for_x = input_gradient(grad, weight.to(grad.dtype)) if ctx.needs_input_grad[0] else None
        for_weight = weight_gradient(x, grad, weight.shape[2:]).to(weight.dtype) if ctx.needs_input_grad[1] else None
        return for_x, for_weight


def depthwise_conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve each channel with its own kernel, stride 1, zeros around, size kept.

    As ``F.conv2d(x, weight, padding=kernel // 2, groups=channels)``, under autocast too; on CPUs with the fast weight
    gradient, elsewhere it is that call. Gradients of gradients are refused with torch's usual error.

    Args:
        x: ``[batch, channels, height, width]``.
        weight: ``[channels, 1, kernel height, kernel width]``, both sizes odd.

    Returns:
        The shape of ``x``.
    """
    if x.device.type != "cpu":
        return F.conv2d(x, weight, padding=[size // 2 for size in weight.shape[2:]], groups=weight.shape[0])
    if torch.is_autocast_enabled("cpu") and x.is_floating_point():
        x = x.to(torch.get_autocast_dtype("cpu"))
    return _DepthwiseConv2d.apply(x, weight)
