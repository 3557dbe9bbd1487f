"""The networks of the paper's ablations: VanillaNet for small images, its shallow form, its forms with a shortcut.

These exist to be compared and nowhere else; none of them ships.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from vanillayolo.nn import VARIANTS, DeepPair, Stage, VanillaNet
from vanillayolo.nn.layers import BN_EPS, init_weights, start_at_fan_in, start_at_identity
from vanillayolo.nn.reparameterize import replace_modules

#: VanillaNet-6 (the paper's ablations) for images of 32 px: a stem of stride 2 and two halvings leave 4x4 pixels, where
#: the paper's strides leave one and a kernel of 7x7 would see padding alone.
VARIANT, STRIDES = "6", (2, 2, 1, 1)


@dataclass(frozen=True)
class Config:
    """One row of an ablation.

    Attributes:
        label: its name in tables.
        act_num: the paper's n.
        pair: ``deep`` (slope from 0 to 1), ``linear`` (slope 1 throughout), ``shallow`` (one convolution, never two).
        shortcut: ``none``, ``before`` or ``after`` the activation of every stage.
        identity: whether the series activations begin at the identity, as our detectors' do, not at noise alone.
    """

    label: str
    act_num: int = 3
    pair: str = "deep"
    shortcut: str = "none"
    identity: bool = False


class ShortcutStage(nn.Module):
    """A stage with a shortcut, before its activation or after it.

    The shortcut has no parameters (He et al. 2015, arXiv 1512.03385, section 3.3, option A): pooled where the stage
    halves, padded with zero channels where the stage is wider; so networks with and without it have equal cost.

    Args:
        stage: the stage.
        where: ``before`` or ``after``.
    """

    def __init__(self, stage: Stage, where: str) -> None:
        super().__init__()
        self.stage = stage
        self.where = where

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, in_channels, height, width]`` to ``[batch, channels, height / stride, width / stride]``."""
        y = self.stage.pool(self.stage.pair(x))
        short = self.stage.pool(x)
        short = F.pad(short, (0, 0, 0, 0, 0, y.shape[1] - short.shape[1]))
        return self.stage.act(y + short) if self.where == "before" else self.stage.act(y) + short


def shallow(pair: DeepPair) -> nn.Module:
    """Return the one convolution, with its normalisation, that a pair stands for."""
    first, last = pair.conv1, pair.conv2
    assert isinstance(last, nn.Conv2d)  # not joined: nothing has been trained yet
    conv = nn.Conv2d(first.in_channels, last.out_channels, first.kernel_size, first.stride, first.padding)  # type: ignore[arg-type]
    norm = nn.BatchNorm2d(last.out_channels, eps=BN_EPS) if isinstance(pair.norm2, nn.BatchNorm2d) else nn.Identity()
    return nn.Sequential(conv, norm)


def build(config: Config, width: float, num_classes: int = 10, pair_init: str = "fan_in") -> VanillaNet:
    """Return the network of a row, at slope 1, for images ``[batch, 3, 32, 32]``.

    Args:
        config: the row.
        width: share of the paper's widths.
        num_classes: classes.
        pair_init: ``noise`` or ``fan_in``, how convolutions begin; see :func:`vanillayolo.nn.layers.start_at_fan_in`.
    """
    dims = VARIANTS[VARIANT].scaled(width)
    net = VanillaNet(dims, STRIDES, config.act_num, num_classes)
    net.stem.pair = DeepPair(3, dims[0], kernel_size=4, stride=2, padding=1, mid_channels=dims[0])
    if config.pair == "shallow":
        replace_modules(net, {DeepPair: shallow})
    if config.shortcut != "none":
        net.stages = nn.Sequential(*(ShortcutStage(stage, config.shortcut) for stage in net.stages))  # type: ignore[arg-type]
    init_weights(net)
    if pair_init == "fan_in":
        start_at_fan_in(net)
    if config.identity:
        start_at_identity(net)
    return net
