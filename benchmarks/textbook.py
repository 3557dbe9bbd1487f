"""The same detector as a textbook would write it: what lean training is measured and tested against.

Plain modules, one call each, nothing in place, torch's autograd, float32, NCHW. Neck, head and loss are Ultralytics'.
Parameter names are those of :class:`vanillayolo.nn.VanillaNet`, so weights go back and forth with ``load_state_dict``.
"""

from __future__ import annotations

import copy
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel

from vanillayolo.nn.deep_training import deep_pairs
from vanillayolo.nn.layers import HalvingMaxPool2d
from vanillayolo.yolo import VanillaDetectionModel


class TextbookPair(nn.Module):
    """Two convolutions, each with batch normalisation, and a leaky ReLU between them."""

    def __init__(self, c1: int, c2: int, kernel: int = 1, stride: int = 1, padding: int = 0, mid: int = 0) -> None:
        super().__init__()
        mid = mid or c1
        self.conv1 = nn.Conv2d(c1, mid, kernel, stride, padding)
        self.norm1 = nn.BatchNorm2d(mid, eps=1e-6, momentum=0.03)
        self.conv2 = nn.Conv2d(mid, c2, 1)
        self.norm2 = nn.BatchNorm2d(c2, eps=1e-6, momentum=0.03)
        self.negative_slope = 1.0

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.norm1(self.conv1(x)), self.negative_slope)
        return self.norm2(self.conv2(x))


class TextbookActivation(nn.Module):
    """ReLU, depthwise convolution, batch normalisation."""

    def __init__(self, channels: int, act_num: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 2 * act_num + 1, padding=act_num, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=1e-6, momentum=0.03)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(F.relu(x)))


class TextbookStage(nn.Module):
    """Pair, pooling, activation."""

    def __init__(self, pair: TextbookPair, pool: nn.Module, channels: int, act_num: int) -> None:
        super().__init__()
        self.pair, self.pool, self.act = pair, pool, TextbookActivation(channels, act_num)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.pool(self.pair(x)))


class TextbookBackbone(nn.Module):
    """Stem and stages; returns the maps at ``taps`` (0 is the stem)."""

    def __init__(
        self,
        dims: list[int],
        strides: list[int],
        taps: list[int],
        act_num: int = 3,
        adaptive_pool: bool = False,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        stem = TextbookPair(in_chans, dims[0], 4, 3 if adaptive_pool else 4, int(adaptive_pool), dims[0])
        self.stem = TextbookStage(stem, nn.Identity(), dims[0], act_num)
        halving = HalvingMaxPool2d if adaptive_pool else lambda: nn.MaxPool2d(2)
        self.stages = nn.Sequential(
            *(
                TextbookStage(TextbookPair(a, b), halving() if s == 2 else nn.Identity(), b, act_num)
                for a, b, s in zip(dims, dims[1:], strides, strict=False)
            )
        )
        self.taps = taps

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for block in (self.stem, *self.stages):
            x = block(x)
            maps.append(x)
        return [maps[i] for i in self.taps]


def textbook_model(like: VanillaDetectionModel) -> DetectionModel:
    """Return the textbook's version of a model of ours, in training form, with copies of its weights and slopes."""
    model: Any = copy.deepcopy(like)
    ours = model.model[0]
    settings = {k: v for k, v in model.yaml["backbone"][0][3][0].items() if k != "in_chans"}
    backbone = TextbookBackbone(**settings, taps=ours.taps, in_chans=ours.in_chans)
    backbone.load_state_dict(ours.state_dict())
    for name, pair in deep_pairs(ours):
        backbone.get_submodule(name).negative_slope = pair.negative_slope
    for attribute in ("i", "f", "type", "np"):  # what Ultralytics' forward pass and summary read of every row
        setattr(backbone, attribute, getattr(ours, attribute))
    model.model[0] = backbone.train(like.training)
    model.__class__ = DetectionModel
    return model
