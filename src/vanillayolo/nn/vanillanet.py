"""VanillaNet: a stem, a handful of stages without shortcut or attention, a classifier.

Paper: "VanillaNet: the Power of Minimalism in Deep Learning", arXiv 2305.12972, section 2 and table 1.
Original code and weights: https://github.com/huawei-noah/VanillaNet (MIT). Conventions of the interface (feature_info,
forward_features, reset_classifier, registry) are those of timm, https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from vanillayolo.errors import UsageError

from .deep_training import set_negative_slope
from .layers import DeepPair, HalvingMaxPool2d, SeriesActivation, checkpointed, init_weights
from .lean import lean_forward
from .reparameterize import MERGE, replace_modules
from .variants import VARIANTS


class Stage(nn.Module):
    """Deep pair, max pool where the stage halves, series activation (paper figure 1).

    Args:
        pair: the two convolutions, or the one they merged into.
        pool: the pooling, or Identity.
        channels: channels out.
        act_num: the paper's n of the series activation.
        pool_first: pool the pair's input and not, as the paper does, its output: a quarter of the pair's operations.

    Attributes:
        lean: how much is kept for the backward pass, one of ``vanillayolo.nn.lean.LEAN_MODES``; a plain attribute, of
            the class until :func:`vanillayolo.nn.lean.set_lean` sets it.
    """

    lean: str = "off"
    pool_first = False  # of checkpoints from before there was a choice; TorchScript reads no annotation of bool here

    def __init__(self, pair: nn.Module, pool: nn.Module, channels: int, act_num: int, pool_first: bool = False) -> None:
        super().__init__()
        self.pair = pair
        self.pool = pool
        self.pool_first = pool_first
        self.act = SeriesActivation(channels, act_num)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, in_channels, height, width]`` to ``[batch, channels, height / stride, width / stride]``."""
        if torch.jit.is_scripting():  # TorchScript skips the other branch, and only where it stands like this
            return self.plain(x)
        else:
            lean = self.lean != "off" and self.training and torch.is_grad_enabled()
            return lean_forward(self, x) if lean else self.plain(x)

    def plain(self, x: Tensor) -> Tensor:
        """Compute layer by layer, each keeping what torch's autograd wants."""
        x = self.pair(self.pool(x)) if self.pool_first else self.pool(self.pair(x))
        return self.act(x)


def make_stage(
    in_channels: int, channels: int, stride: int, act_num: int, adaptive_pool: bool = False, pool_first: bool = False
) -> Stage:
    """Return a stage of 1x1 convolutions that halves the resolution where ``stride`` is 2.

    Raises:
        UsageError: when the stride is neither 1 nor 2.
    """
    if stride not in (1, 2):
        raise UsageError(f"stage stride {stride}: VanillaNet has stages of stride 1 and 2.")
    halving = HalvingMaxPool2d() if adaptive_pool else nn.MaxPool2d(2)
    pool = halving if stride == 2 else nn.Identity()
    return Stage(DeepPair(in_channels, channels), pool, channels, act_num, pool_first)


class Classifier(nn.Module):
    """Global average pool, dropout and the classifier's own deep pair; each may be absent."""

    def __init__(self, in_features: int, num_classes: int, global_pool: str = "avg", drop_rate: float = 0.0) -> None:
        super().__init__()
        if global_pool not in ("", "avg"):
            raise UsageError(f"global_pool={global_pool!r}: allowed are 'avg' and ''.")
        self.global_pool = global_pool
        self.drop = nn.Dropout(drop_rate)
        self.pair = (
            DeepPair(in_features, num_classes, mid_channels=num_classes, norm_last=False)
            if num_classes > 0
            else nn.Identity()
        )

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map ``[batch, features, height, width]`` to ``[batch, num_classes]`` (or a map, without pooling)."""
        if self.global_pool == "avg":
            x = x.mean((2, 3), keepdim=True)
        x = self.drop(x)
        if not pre_logits:
            x = self.pair(x)
        return x.flatten(1) if self.global_pool == "avg" else x


class VanillaNet(nn.Module):
    """VanillaNet in training form, or, with ``merged``, in the form that ships.

    Args:
        dims: widths of the stem and of every stage, one more than ``strides``.
        strides: 1 or 2 for every stage.
        act_num: the paper's n; the series activation's kernel is ``2 * act_num + 1``. One number for all, or one for
            the stem and for every stage.
        num_classes: classes; 0 for pooled features.
        in_chans: channels of the image.
        adaptive_pool: the authors' variant for larger maps: stem of stride 3, pooling to ``ceil(size / 2)``.
        pool_first: stages pool before their pair; see :class:`Stage`.
        global_pool: ``avg`` or ``""``.
        drop_rate: dropout before the classifier.
        negative_slope: slope of the leaky ReLU inside the pairs: 1 (mergeable, the function of finished weights); deep
            training moves it from 0 to 1.
        merged: build the merged form, for merged weights.

    Attributes:
        feature_info: for stem and stages: ``num_chs``, ``reduction`` (stride) and ``module`` (its name).

    Raises:
        UsageError: when widths, strides and series do not fit.
    """

    def __init__(
        self,
        dims: Sequence[int] = VARIANTS["5"].dims,
        strides: Sequence[int] = VARIANTS["5"].strides,
        act_num: int | Sequence[int] = 3,
        num_classes: int = 1000,
        in_chans: int = 3,
        adaptive_pool: bool = False,
        pool_first: bool = False,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        negative_slope: float = 1.0,
        merged: bool = False,
    ) -> None:
        super().__init__()
        if len(dims) != len(strides) + 1:
            raise UsageError(f"{len(dims)} widths for {len(strides)} strides: give one width more than strides.")
        series = [act_num] * len(dims) if isinstance(act_num, int) else list(act_num)
        if len(series) != len(dims):
            raise UsageError(
                f"act_num: {len(series)} numbers for {len(dims)} widths: give one, or one for every width."
            )
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.adaptive_pool = adaptive_pool
        self.grad_checkpointing = False
        stride = 3 if adaptive_pool else 4
        stem = DeepPair(
            in_chans, dims[0], kernel_size=4, stride=stride, padding=int(adaptive_pool), mid_channels=dims[0]
        )
        self.stem = Stage(stem, nn.Identity(), dims[0], series[0])
        first: dict[str, Any] = {"num_chs": dims[0], "reduction": stride, "module": "stem"}
        self.feature_info = [first]
        stages = []
        for i, step in enumerate(strides):
            stages.append(make_stage(dims[i], dims[i + 1], step, series[i + 1], adaptive_pool, pool_first))
            stride *= step
            self.feature_info.append({"num_chs": dims[i + 1], "reduction": stride, "module": f"stages.{i}"})
        self.stages = nn.Sequential(*stages)
        self.num_features = self.head_hidden_size = dims[-1]
        self.head = Classifier(self.num_features, num_classes, global_pool, drop_rate)
        init_weights(self)
        set_negative_slope(self, negative_slope)
        if merged:
            replace_modules(self, MERGE)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images ``[batch, in_chans, height, width]`` to the last feature map."""
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return self.features(x, [len(self.stages)])[0]
        return self.stages(self.stem(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map the last feature map to logits ``[batch, num_classes]``, or to the features before them."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[batch, in_chans, height, width]`` to logits ``[batch, num_classes]``."""
        return self.forward_head(self.forward_features(x))

    def features(self, x: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Return the feature maps of the given entries of ``feature_info``, computing no further than the last."""
        taken: dict[int, Tensor] = {}
        for i, block in enumerate((self.stem, *self.stages)):
            if i > max(indices):
                break
            x = checkpointed(block, x) if self.grad_checkpointing else block(x)
            taken[i] = x
        return [taken[i] for i in indices]

    @torch.jit.ignore
    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the feature maps at ``indices`` of ``feature_info`` and, unless they alone are wanted, the last map.

        The arguments are timm's; ``norm`` has nothing to act on, and the only layout is ``NCHW``.

        Raises:
            UsageError: for another layout.
        """
        if output_fmt != "NCHW":
            raise UsageError(f"output_fmt={output_fmt!r}: VanillaNet gives NCHW.")
        take, last = feature_take_indices(len(self.feature_info), indices)
        if intermediates_only:
            return self.features(x, take)
        *maps, x = self.features(x, [*take, last if stop_early else len(self.stages)])
        return x, maps

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages after the last of ``indices`` and, by default, the classifier; return the indices taken."""
        take, last = feature_take_indices(len(self.feature_info), indices)
        self.stages = self.stages[:last]
        if prune_head:
            self.reset_classifier(0, "")
        return take

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """Return the classifier's pair."""
        return self.head.pair

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one, in the form (training or merged) that the network has."""
        slope = self.stem.pair.negative_slope if isinstance(self.stem.pair, DeepPair) else 1.0
        like = next(self.parameters())
        self.num_classes = num_classes
        pool = self.head.global_pool if global_pool is None else global_pool
        self.head = Classifier(self.num_features, num_classes, pool, self.drop_rate)
        init_weights(self.head)
        set_negative_slope(self.head, float(slope))
        if not isinstance(self.stem.pair, DeepPair):
            replace_modules(self.head, MERGE)
        self.head.to(like.device, like.dtype).train(self.training)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return timm's parameter groups, for layer-wise learning-rate decay: the stem, then every stage."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)"}

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Return the parameters without weight decay beyond timm's own rule (biases and BN): none."""
        return set()

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only every stage's input for the backward pass and compute the rest anew."""
        self.grad_checkpointing = enable


def vanillanet_variant(variant: str, width: float = 1.0, **kwargs: Any) -> VanillaNet:
    """Return the named variant (``5`` .. ``13``, ``13_x1_5``, ``13_x1_5_ada_pool``) at a share of the paper's width.

    Raises:
        UsageError: for a name that is none of them.
    """
    if variant not in VARIANTS:
        raise UsageError(f"variant {variant!r}: allowed are {', '.join(VARIANTS)}.")
    row = VARIANTS[variant]
    settings = {"dims": row.scaled(width), "strides": row.strides, "adaptive_pool": row.adaptive_pool, **kwargs}
    return VanillaNet(**settings)
