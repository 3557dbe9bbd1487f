"""The rows of a model YAML that are ours: Ultralytics' parser builds these by name."""

from __future__ import annotations

import math
from typing import Any

import timm
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.nn.modules import Classify

from vanillayolo.errors import ModelNameError
from vanillayolo.nn import VanillaNet
from vanillayolo.nn.layers import DeepPair, init_weights
from vanillayolo.nn.vanillanet import Stage


class VanillaBackbone(VanillaNet):
    """VanillaNet as a detector's backbone: gives the maps of the three coarsest resolutions, fine to coarse.

    Args:
        settings: arguments of :class:`vanillayolo.nn.VanillaNet`.

    Attributes:
        taps: entries of ``feature_info`` that are given out: the last stage of each resolution.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(**{"num_classes": 0, "global_pool": "", **settings})
        last = {info["reduction"]: i for i, info in enumerate(self.feature_info)}
        self.taps = list(last.values())[-3:]
        self.out_channels = [int(self.feature_info[i]["num_chs"]) for i in self.taps]
        self.out_strides = [int(self.feature_info[i]["reduction"]) for i in self.taps]

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]  # a detector takes a list
        """Map images ``[batch, in_chans, height, width]`` to three maps at ``out_strides``."""
        if self.adaptive_pool:
            # Strides 6, 12, 24 divide no usual image size. Padding to the next multiple of 24 keeps every cell at
            # stride times index, so that boxes decode on the true grid and the neck's maps fit each other.
            pad_h, pad_w = (-size % math.lcm(*self.out_strides) for size in x.shape[-2:])
            x = F.pad(x, (0, pad_w, 0, pad_h))
        return self.features(x, self.taps)


class TimmBackbone(nn.Module):
    """Any of timm's networks as a detector's backbone: gives its maps of the strides 8, 16 and 32.

    Args:
        settings: ``name`` in timm's registry; all else are arguments of ``timm.create_model``. Nothing is fetched:
            the weights are random.

    Attributes:
        out_channels: channels of the three maps.
        out_strides: their strides.
        channels_last: whether the network computes in ``[batch, height, width, channels]``, as Swin does.

    Raises:
        ModelNameError: when the network has no maps of these strides.
    """

    out_strides = (8, 16, 32)

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        name, arguments = settings["name"], {k: v for k, v in settings.items() if k != "name"}
        info = timm.create_model(name, features_only=True, pretrained=False, **arguments).feature_info
        last = {stride: i for i, stride in enumerate(info.reduction())}  # the last map of each resolution
        if not set(self.out_strides) <= set(last):
            raise ModelNameError(
                f"timm network {name!r} has maps of stride {', '.join(map(str, last))}; a detector needs 8, 16 and 32: "
                "choose a network with stages (timm.list_models() names all)."
            )
        indices = tuple(info.out_indices[last[stride]] for stride in self.out_strides)
        self.body = timm.create_model(name, features_only=True, pretrained=False, out_indices=indices, **arguments)
        self.out_channels = [int(c) for c in self.body.feature_info.channels()]
        self.channels_last = str(getattr(self.body, "output_fmt", "NCHW")).endswith("NHWC")

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images ``[batch, in_chans, height, width]`` to three maps at ``out_strides``."""
        maps = self.body(x)
        return [m.permute(0, 3, 1, 2).contiguous() for m in maps] if self.channels_last else list(maps)


class VanillaStage(Stage):
    """A stage as a row of the neck.

    Args:
        in_channels: channels in.
        channels: channels out.
        stride: 1, or 2 to halve the map.
        act_num: the paper's n.
        pool_first: whether the map is halved before the pair.
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, act_num: int = 2, pool_first: bool = False
    ) -> None:
        pool = nn.MaxPool2d(2) if stride == 2 else nn.Identity()
        super().__init__(DeepPair(in_channels, channels), pool, channels, act_num, pool_first)
        init_weights(self)

    @property
    def conv(self) -> nn.Module:
        """The first convolution, by the name under which Ultralytics asks a head's branches for it."""
        return self.pair.conv1 if isinstance(self.pair, DeepPair) else self.pair


class VanillaFeatures(VanillaNet):
    """VanillaNet without its classifier, as the first row of a classification network: gives its last map.

    Args:
        settings: arguments of :class:`vanillayolo.nn.VanillaNet`.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(**{**settings, "num_classes": 0, "global_pool": ""})


class VanillaClassify(Classify):
    """The paper's classifier as the last row: global average pool, dropout, its own deep pair.

    Of Ultralytics' ``Classify`` it takes no layers, only the class, by which the exporter and the task are told.

    Args:
        features: channels of the last map.
        classes: number of classes.

    Attributes:
        drop: dropout (Ultralytics' ``dropout`` sets its rate).
        pair: two 1x1 convolutions with the leaky ReLU between them, or the one they merged into.
    """

    def __init__(self, features: int, classes: int) -> None:
        nn.Module.__init__(self)
        self.drop = nn.Dropout(0.0)
        self.pair: nn.Module = DeepPair(features, classes, mid_channels=classes, norm_last=False)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map ``[batch, features, height, width]`` to logits; after training to ``(probabilities, logits)``.

        An exported network gives probabilities alone, all of them ``[batch, classes]``.
        """
        logits = self.pair(self.drop(x.mean((2, 3), keepdim=True))).flatten(1)
        if self.training:
            return logits
        scores = logits.softmax(1)
        return scores if self.export else (scores, logits)
