"""Exact changes of a merged network for chips on which its plain form is slow: a table of functions on the modules.

Each leaves the function of the network as it is (float64: within 1e-12 of the largest output) and is applied to a copy
that goes into a file; checkpoints stay as they are. ``benchmarks/time/vela.json`` holds what each saves.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vanillayolo.nn.reparameterize import replace_modules
from vanillayolo.nn.vanillanet import Stage
from vanillayolo.yolo.exporting import MeanByConvolution
from vanillayolo.yolo.modules import VanillaStage
from vanillayolo.yolo.raw_maps import DFL

#: The largest stride of a convolution that Ethos-U computes as one operation.
LARGEST_STRIDE = 3


def split_stride(conv: nn.Conv2d) -> nn.Module:
    """Return a convolution whose kernel is its stride, 4 or another even number above 3, as two.

    The first, with weights 0 and 1, moves the four pixels of each 2x2 patch to channels; the second holds the weights,
    with half the kernel and half the stride. Others are returned as they are.
    """
    size = conv.stride[0]
    fits = conv.kernel_size == conv.stride == (size, size) and size > LARGEST_STRIDE and size % 2 == 0
    if not fits or conv.padding not in {0, (0, 0)} or conv.groups != 1 or conv.dilation != (1, 1):
        return conv
    channels, half = conv.in_channels, size // 2
    phases = nn.Conv2d(channels, 4 * channels, 2, 2, bias=False).to(conv.weight)
    phases.weight.data = torch.eye(4 * channels).view(4 * channels, channels, 2, 2).to(conv.weight)
    mixing = nn.Conv2d(4 * channels, conv.out_channels, half, half, bias=conv.bias is not None).to(conv.weight)
    # [out, in, 2 i + a, 2 j + b] -> [out, (in, a, b), i, j]
    weight = conv.weight.detach().view(conv.out_channels, channels, half, 2, half, 2).permute(0, 1, 3, 5, 2, 4)
    mixing.weight.data = weight.reshape(mixing.weight.shape).contiguous()
    if conv.bias is not None and mixing.bias is not None:
        mixing.bias.data = conv.bias.detach().clone()
    return nn.Sequential(phases, split_stride(mixing)).requires_grad_(False).train(conv.training)


def square_window(pool: nn.MaxPool2d) -> int:
    """Return the side of an odd window above 3 of a max pool of stride 1 that keeps the map's size; else 0."""
    size = pool.kernel_size if isinstance(pool.kernel_size, int) else 0
    plain = pool.stride == 1 and pool.padding == size // 2 and pool.dilation == 1 and not pool.ceil_mode
    return size if plain and size > 3 and size % 2 == 1 else 0


def by_axis(pool: nn.MaxPool2d) -> nn.Module:
    """Return a max pool of stride 1 as one along the width and one along the height; others as they are."""
    size = square_window(pool)
    if not size:
        return pool
    row, column = nn.MaxPool2d((1, size), 1, (0, size // 2)), nn.MaxPool2d((size, 1), 1, (size // 2, 0))
    return nn.Sequential(row, column).train(pool.training)


def by_threes(pool: nn.MaxPool2d) -> nn.Module:
    """Return a max pool of stride 1 and window ``2 n + 1`` as n pools of window 3; others as they are."""
    size = square_window(pool)
    return nn.Sequential(*(nn.MaxPool2d(3, 1, 1) for _ in range(size // 2))).train(pool.training) if size else pool


def relu_before_pool(stage: Stage) -> nn.Module:
    """Give a merged stage, in place, its ReLU before its max pool: both orders are equal; return the stage."""
    if isinstance(stage.pool, nn.MaxPool2d) and not stage.pool_first and isinstance(stage.act, nn.Sequential):
        relu, depthwise = stage.act
        stage.pair = nn.Sequential(stage.pair, relu)
        stage.act = nn.Sequential(nn.Identity(), depthwise)  # type: ignore[assignment]  # the depthwise keeps its name
    return stage


class Sum(nn.Module):
    """The sum of what several modules compute from one map."""

    def __init__(self, parts: Iterable[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, channels, height, width]``."""
        first, *rest = (part(x) for part in self.parts)
        for other in rest:
            first = first + other
        return first


def in_small_kernels(conv: nn.Conv2d) -> nn.Module:
    """Return a depthwise 7x7 as three of 25 taps at most, none of them moved aside; others as they are.

    The middle is a 5x5. The rows above and below it are a 3x7 of dilation 3, the columns beside it a 5x3 of dilation 3;
    the middle row and column of these are 0.
    """
    fits = conv.kernel_size == (7, 7) and conv.stride == conv.dilation == (1, 1) and conv.padding in {3, (3, 3)}
    if not fits or conv.groups != conv.in_channels or conv.groups != conv.out_channels:
        return conv
    weight, channels = conv.weight.detach(), conv.groups
    rows, columns = weight[:, :, ::3].clone(), weight[:, :, 1:6, ::3].clone()
    rows[:, :, 1], columns[..., 1] = 0, 0
    parts: list[nn.Module] = []
    for kernel, dilation in ((weight[:, :, 1:6, 1:6].clone(), (1, 1)), (rows, (3, 1)), (columns, (1, 3))):
        size = (kernel.shape[2], kernel.shape[3])
        padding = (size[0] // 2 * dilation[0], size[1] // 2 * dilation[1])
        bias = conv.bias is not None and not parts
        part = nn.Conv2d(channels, channels, size, 1, padding, dilation, channels, bias).to(weight)
        part.weight.data = kernel
        if part.bias is not None and conv.bias is not None:
            part.bias.data = conv.bias.detach().clone()
        parts.append(part)
    return Sum(parts).requires_grad_(False).train(conv.training)


@dataclass(frozen=True)
class Rewrite:
    """One exact change.

    Attributes:
        says: what it does, in words.
        table: what becomes of the modules of a class, for :func:`vanillayolo.nn.reparameterize.replace_modules`.
    """

    says: str
    table: dict[type[nn.Module], Callable[..., nn.Module]]


REWRITES = {
    "stem-in-two": Rewrite("a 4x4 convolution of stride 4 as two of 2x2 and stride 2", {nn.Conv2d: split_stride}),
    "pool-by-axis": Rewrite("a 5x5 max pool of stride 1 as 1x5 and 5x1", {nn.MaxPool2d: by_axis}),
    "pool-by-threes": Rewrite("a 5x5 max pool of stride 1 as two of 3x3", {nn.MaxPool2d: by_threes}),
    "relu-before-pool": Rewrite(
        "a stage's ReLU before its max pool", {Stage: relu_before_pool, VanillaStage: relu_before_pool}
    ),
    "depthwise-in-three": Rewrite("a 7x7 depthwise as three of 25 taps at most", {nn.Conv2d: in_small_kernels}),
    "mean-by-convolution": Rewrite("the mean of box distributions as a 1x1 convolution", {DFL: MeanByConvolution}),
}


def rewritten(network: nn.Module, names: Iterable[str]) -> nn.Module:
    """Return a copy of a merged network with the named rewrites of :data:`REWRITES` applied in turn."""
    network = copy.deepcopy(network)
    for name in names:
        replace_modules(network, REWRITES[name].table)
    return network
