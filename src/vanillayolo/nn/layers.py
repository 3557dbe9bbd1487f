"""The two ideas of VanillaNet as layers: the series activation and the deep pair.

Paper: "VanillaNet: the Power of Minimalism in Deep Learning", Chen, Wang, Guo, Tao, 2023, arXiv 2305.12972, sections
3.1 (deep training) and 3.2 (series informed activation function).
Original code: https://github.com/huawei-noah/VanillaNet (MIT). Written anew here from the paper's mathematics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vanillayolo.errors import CheckpointError, MergeError

from .depthwise import depthwise_conv2d
from .folding import as_conv, compose, fold

BN_EPS = 1e-6  # of every batch normalisation in VanillaNet; loaded weights depend on it


class SeriesActivation(nn.Module):
    """Series informed activation: a sum of shifted, scaled ReLUs (paper section 3.2, equation 6).

    The sum over the neighbourhood of ``act_num`` pixels in each direction is a depthwise convolution of kernel
    ``2 * act_num + 1`` on ReLU's output; a batch normalisation follows.

    Args:
        channels: number of channels, in and out.
        act_num: the paper's n; 0 leaves one scaled ReLU per channel.

    Attributes:
        lean: other than ``off``, weight gradients are computed fast; see :func:`vanillayolo.nn.set_lean`.
    """

    lean: str = "off"

    def __init__(self, channels: int, act_num: int = 3) -> None:
        super().__init__()
        self.channels = channels
        self.act_num = act_num
        self.conv = nn.Conv2d(channels, channels, 2 * act_num + 1, padding=act_num, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=BN_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, channels, height, width]`` to the same shape."""
        if torch.jit.is_scripting():  # TorchScript skips the other branch, and only where it stands like this
            return self.norm(self.conv(F.relu(x)))
        else:
            return self.norm(self.convolve(F.relu(x)))

    @torch.jit.unused
    def convolve(self, x: Tensor) -> Tensor:
        """Convolve ``[batch, channels, height, width]`` to the same shape.

        In training it has the fast weight gradient, unless somebody looks at the module.
        """
        if self.training and self.lean != "off" and is_bare(self.conv) and not is_traced():
            return depthwise_conv2d(x, self.conv.weight)
        return self.conv(x)

    def fuse(self) -> nn.Sequential:
        """Return ReLU and one depthwise convolution with bias: the same function in evaluation mode.

        The convolution's weight is ``[channels, 1, 2 * act_num + 1, 2 * act_num + 1]``, its bias ``[channels]``.
        """
        merged = nn.Sequential(nn.ReLU(), as_conv(self.conv, fold(self.conv, self.norm)))
        return merged.train(self.training)

    def extra_repr(self) -> str:
        """Name the paper's n in the printed module."""
        return f"act_num={self.act_num}"


class DeepPair(nn.Module):
    """Two convolutions with a leaky ReLU between, to be one convolution after training (paper section 3.1, equation 1).

    ``A'(x) = (1 - slope) * relu(x) + slope * x`` is the leaky ReLU of that ``negative_slope``: at 0 the pair has a
    ReLU between its convolutions, at 1 nothing, and then the pair is one linear map: :meth:`fuse`.

    Args:
        in_channels: channels in, and between the two convolutions where ``mid_channels`` is not given.
        out_channels: channels out.
        kernel_size: kernel of the first convolution; the second is 1x1.
        stride: stride of the first convolution.
        padding: padding of the first convolution.
        mid_channels: channels between the two convolutions.
        norm_last: whether a batch normalisation follows the second convolution (all but the classifier).

    Attributes:
        negative_slope: the paper's lambda, a plain float: it is in no state dict, because an averaged model must
            not average it.
        is_joined: whether the two convolutions have become one, to be trained on at slope 1
            (:func:`vanillayolo.nn.reparameterize.join_pairs`): ``conv1`` then, with ``norm2`` after it.
    """

    __jit_unused_properties__ = ["is_joined"]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        padding: int = 0,
        mid_channels: int | None = None,
        norm_last: bool = True,
    ) -> None:
        super().__init__()
        mid = mid_channels or in_channels
        self.conv1 = nn.Conv2d(in_channels, mid, kernel_size, stride, padding)
        self.norm1: nn.Module = nn.BatchNorm2d(mid, eps=BN_EPS)
        self.negative_slope = 1.0
        self.conv2: nn.Module = nn.Conv2d(mid, out_channels, 1)
        self.norm2: nn.Module = nn.BatchNorm2d(out_channels, eps=BN_EPS) if norm_last else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, in_channels, height, width]`` to ``[batch, out_channels, height / stride, width / stride]``."""
        x = self.norm1(self.conv1(x))
        if self.negative_slope != 1.0:
            x = F.leaky_relu(x, self.negative_slope)
        return self.norm2(self.conv2(x))

    @property
    def is_joined(self) -> bool:
        """Whether the two convolutions are one already."""
        return isinstance(self.conv2, nn.Identity)

    def fuse(self) -> nn.Conv2d:
        """Return the pair of slope 1 as one convolution: the same function in evaluation mode.

        timm's ``reparameterize_model`` puts it in the pair's place.

        Returns:
            A convolution of the first one's kernel and stride, its weight ``[out_channels, in_channels, kernel_size,
            kernel_size]``, its bias ``[out_channels]``.

        Raises:
            MergeError: when the slope is not exactly 1.
        """
        if self.negative_slope != 1.0:
            raise MergeError(
                f"slope {self.negative_slope:g} between the convolutions; only slope 1 merges exactly. Train on until "
                "the slope is 1, or use the unmerged network."
            )
        if not isinstance(self.conv2, nn.Conv2d):
            return as_conv(self.conv1, fold(self.conv1, self.norm2))  # joined
        return as_conv(self.conv1, compose(fold(self.conv1, self.norm1), fold(self.conv2, self.norm2)))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load; where the state is of a pair that has become one convolution, become one too (of new parameters)."""
        has = [f"{prefix}{name}.weight" in state_dict for name in ("conv1", "norm1", "conv2")]
        if has[2] and self.is_joined:
            given = f"{prefix[:-1]}: the state has two convolutions, the network one"
            raise CheckpointError(f"{given}; load it into a network that was built anew.")
        if has == [True, False, False] and isinstance(self.conv2, nn.Conv2d):
            old: Any = self.conv1
            new = nn.Conv2d(old.in_channels, self.conv2.out_channels, old.kernel_size, old.stride, old.padding)
            self.conv1 = new.to(old.weight).requires_grad_(old.weight.requires_grad).train(self.training)
            self.norm1, self.conv2, self.negative_slope = nn.Identity(), nn.Identity(), 1.0
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Name the slope in the printed module."""
        return f"negative_slope={self.negative_slope}"


class HalvingMaxPool2d(nn.Module):
    """Max pooling to ``ceil(size / 2)`` in each direction, at any size.

    Bit for bit what ``AdaptiveMaxPool2d`` gives for that output size: windows of 2 where the size is even, of 3
    with one pixel of padding where it is odd. The authors' adaptive-pool variant asks for 38, 19 and 10 pixels at
    224, which is this; written so, the variant takes any size and exports.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, channels, height, width]`` to ``[batch, channels, ceil(height / 2), ceil(width / 2)]``."""
        odd_h, odd_w = x.shape[-2] % 2, x.shape[-1] % 2
        return F.max_pool2d(x, (2 + odd_h, 2 + odd_w), (2, 2), (odd_h, odd_w))


def init_weights(module: nn.Module) -> None:
    """Initialise as the authors do: truncated normal of standard deviation 0.02, biases 0, BN at the identity."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.trunc_normal_(m.weight, std=0.02)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            m.reset_parameters()


def start_at_fan_in(module: nn.Module) -> None:
    """Draw the weights of every convolution but depthwise ones anew, with deviation 1 / sqrt(fan-in).

    The authors' 0.02 is that of 2,500 inputs, about what their networks have. Narrow ones have 16 to 512: batch
    normalisation hides from the output that their weights are short, but not from the optimizer, whose steps turn a
    short vector too far (arXiv 1706.05350). He et al. 2015 (arXiv 1502.01852), section 2.2, without the factor 2 of
    ReLU: what follows a pair's convolutions is a normalisation.
    """
    for m in module.modules():
        if isinstance(m, nn.Conv2d) and m.groups == 1:
            nn.init.kaiming_normal_(m.weight, nonlinearity="linear")


def start_at_identity(module: nn.Module) -> None:
    """Let every series activation begin as the ReLU that it generalises: 1 is added to its kernel's centre.

    Begun as the authors do, with nothing but noise of 0.02, the convolution first blurs each map over its whole kernel,
    and the trace of a small object is lost in it. A depthwise kernel that starts as the identity keeps it; equation 6
    is the same.
    """
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, SeriesActivation):
                m.conv.weight[:, :, m.act_num, m.act_num] += 1.0


def randomize_batchnorm(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every batch normalisation random statistics and affine parameters, in place, and return the module.

    A fresh BN is almost the identity and hides the errors of a merge; call this before comparing merged networks.

    Args:
        module: any network.
        seed: of the numbers: means and biases from -0.5 to 0.5, variances 0.5 to 2, weights 0.5 to 1.5.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return (torch.rand(like.shape, generator=generator) * (high - low) + low).to(like)

    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d):
                if m.running_mean is not None and m.running_var is not None:
                    m.running_mean.copy_(uniform(m.running_mean, -0.5, 0.5))
                    m.running_var.copy_(uniform(m.running_var, 0.5, 2.0))
                m.weight.copy_(uniform(m.weight, 0.5, 1.5))
                m.bias.copy_(uniform(m.bias, -0.5, 0.5))
    return module


def is_traced() -> bool:
    """Return whether torch.jit.trace is looking: it can save operators, but not nodes with a backward pass of ours."""
    return bool(torch.jit.is_tracing())  # type: ignore[no-untyped-call]


def is_heard(module: nn.Module) -> bool:
    """Return whether somebody listens to a module by hooks, so that it has to be called as one."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in hooks)


def is_bare(module: nn.Module) -> bool:
    """Return whether a layer is torch's own and nobody listens to it, so that its operator may stand for it."""
    return type(module) in (nn.Conv2d, nn.BatchNorm2d) and not is_heard(module)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Leave the running statistics of every batch normalisation as they are, though the mode may be training."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    kept = [(m.momentum, m.num_batches_tracked) for m in norms]
    try:
        for m in norms:
            m.momentum, m.num_batches_tracked = 0.0, None
        yield
    finally:
        for m, (momentum, batches) in zip(norms, kept, strict=True):
            m.momentum, m.num_batches_tracked = momentum, batches


def checkpointed(block: nn.Module, x: Tensor, forward: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Run ``block``, or its method that is given, keeping its input only; the backward pass computes the rest anew.

    Gradients and statistics are those of an ordinary step: the second computation does not count as another batch.

    Args:
        block: whose statistics are left alone in the second computation.
        x: what it takes, a map ``[batch, channels, height, width]`` in these networks.
        forward: a method of the block, in the place of calling it.

    Returns:
        What the block returns.
    """
    contexts = lambda: (nullcontext(), frozen_statistics(block))  # noqa: E731
    return checkpoint(forward or block, x, use_reentrant=False, context_fn=contexts)
