"""Lean training: a stage keeps little more than its input, and its backward pass computes the rest anew.

A textbook stage keeps some ten maps for its backward pass. Here it is one node of the graph with its own backward
pass, exactly the textbook's mathematics, that

* keeps the stage's input and, for each batch normalisation, mean and variance of the batch;
* computes the maps between anew, each normalisation with the statistics kept, so that running statistics are
  updated once, in the forward pass, and the second computation gives the same bits;
* works in place where a map is used once, and pools before it normalises: the maximum commutes with a rising
  function, so a falling one (a negative weight of the normalisation) is made rising by turning the sign of the
  convolution before it, and the normalisation runs on a quarter of the pixels.

How much is kept is :data:`LEAN_MODES`, set by :func:`set_lean`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from vanillayolo.errors import UsageError

from .depthwise import input_gradient, weight_gradient
from .layers import DeepPair, HalvingMaxPool2d, SeriesActivation, checkpointed, is_bare, is_heard, is_traced
from .operators import (
    Geometry,
    Statistics,
    aten,
    bias_gradient,
    convolve,
    convolve_backward,
    falling,
    measure,
    normalize_,
    normalize_backward,
    pool_geometry,
    pooled,
    pooled_backward,
    turned,
)

#: off: torch's own autograd. auto: the backbone's stages are computed twice. max: neck and head of a detector too.
LEAN_MODES = ("off", "auto", "max")


def set_lean(model: nn.Module, mode: str) -> None:
    """Say how much a model in training keeps for its backward pass; gradients are the same in every mode.

    Args:
        model: a network with stages, or a detector.
        mode: ``off``: torch's own autograd, which keeps everything. ``auto``, a detector's default: keep the inputs
            of the backbone's stages. ``max``: of neck and head too, keep the input only.

    Raises:
        UsageError: when the mode is none of these.
    """
    if mode not in LEAN_MODES:
        raise UsageError(f"lean={mode!r}: allowed are {', '.join(LEAN_MODES)}.")
    for module in model.modules():
        if hasattr(module, "lean"):
            setattr(module, "lean", mode)  # noqa: B010  # a plain attribute, where torch's types know tensors only


class Plan(NamedTuple):
    """What a stage computes, beside its tensors.

    Attributes:
        norms: of the first convolution (not in a joined pair), of the second, of the depthwise one.
        slope: of the leaky ReLU between.
        first: stride and padding of the first convolution; None in a joined pair.
        second: stride and padding of the second, or only, one.
        pool: the stage's pooling.
        pool_first: whether it stands before the pair.
    """

    norms: tuple[nn.BatchNorm2d, ...]
    slope: float
    first: tuple[list[int], list[int]] | None
    second: tuple[list[int], list[int]]
    pool: nn.Module
    pool_first: bool

    def pools(self, x: Tensor, first: bool) -> Geometry | None:
        """Return the geometry of a pooling, or None where the stage has none at that place.

        Args:
            x: what would be pooled, ``[batch, channels, height, width]``.
            first: whether the place is before the pair, else behind it.
        """
        return pool_geometry(self.pool, x) if first == self.pool_first else None


def rectified_(x: Tensor, slope: float) -> Tensor:
    """Apply the leaky ReLU of this slope in place, to a tensor of any shape; at slope 1 it is the identity."""
    return x if slope == 1.0 else F.leaky_relu_(x, slope)


def depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve each channel with its own kernel, stride 1, zeros around.

    Args:
        x: ``[batch, channels, height, width]``.
        weight: ``[channels, 1, kernel height, kernel width]``, both sizes odd; it is cast to the type of ``x``.

    Returns:
        The shape of ``x``.
    """
    padding = [size // 2 for size in weight.shape[2:]]
    return F.conv2d(x, weight.to(x.dtype), padding=padding, groups=weight.shape[0])


class _LeanStage(torch.autograd.Function):
    """A stage as one node of the graph: ``[batch, in_channels, height, width]`` to ``[batch, out_channels, ...]``.

    The height and width of the output are those behind the stride of the first convolution and the pooling.

    Names: ``z1`` and ``z2`` are the outputs of the pair's convolutions, ``hidden`` the map between them, ``r`` ReLU's
    output, ``u`` the depthwise convolution's; ``w``, ``b`` weight and bias of a convolution (``wd``: the depthwise
    one's), ``g``, ``o`` of a normalisation. A joined pair has no first convolution: ``hidden`` is the input then, and
    ``w1`` to ``o1`` are None.
    """

    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(ctx: Any, plan: Plan, x: Tensor, *params: Any) -> Tensor:
        w1, b1, g1, o1, w2, b2, g2, o2, wd, g3, o3 = params
        *norms, norm2, norm3 = plan.norms
        entering, _ = pooled(x, plan.pools(x, first=True))
        hidden, measured = entering, []
        if plan.first is not None:
            z1 = convolve(entering, w1, b1, *plan.first)
            measured = [measure(norms[0], z1)]
            hidden = rectified_(normalize_(z1, measured[0], g1, o1), plan.slope)
            del z1  # every map goes as soon as it may: the next one needs the memory
        sign = falling(g2)
        z2 = convolve(hidden, turned(w2, sign), turned(b2, sign), *plan.second)
        del hidden
        s2 = measure(norm2, z2, sign)
        r, _ = pooled(z2, plan.pools(z2, first=False))
        del z2
        r = normalize_(r, s2, g2.abs(), o2).relu_()
        u = depthwise(r, wd)
        del r
        s3 = measure(norm3, u)
        measured += [s2, s3]
        ctx.plan, ctx.of_batch = plan, [s.of_batch for s in measured]
        ctx.save_for_backward(x, *params, *(t for s in measured for t in s[:2]))
        return normalize_(u, s3, g3, o3)

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        plan: Plan = ctx.plan
        saved = ctx.saved_tensors  # once: under a checkpoint of somebody's this computes
        x, w1, b1, g1, o1, w2, b2, g2, o2, wd, g3, _, *kept = saved
        need_x, need_w1, need_w2, need_wd = (ctx.needs_input_grad[i] for i in (1, 2, 6, 10))
        *first, s2, s3 = map(Statistics, kept[::2], kept[1::2], ctx.of_batch, [norm.eps for norm in plan.norms])
        before = plan.pools(x, first=True)
        entering, chosen = pooled(x, before)
        hidden = z1 = entering
        if plan.first is not None:
            z1 = convolve(entering, w1, b1, *plan.first)
            hidden = rectified_(normalize_(z1, first[0], g1, o1, torch.empty_like(z1)), plan.slope)
        sign = falling(g2)
        w2_turned = turned(w2, sign)
        z2 = convolve(hidden, w2_turned, turned(b2, sign), *plan.second)
        geometry = plan.pools(z2, first=False)
        r, index = pooled(z2, geometry)
        r = normalize_(r, s2, g2.abs(), o2, None if geometry else torch.empty_like(r)).relu_()
        u = depthwise(r, wd)
        grad, grad_g3, grad_o3 = normalize_backward(grad, u, s3, g3)
        del u
        grad_wd = weight_gradient(r, grad, wd.shape[2:]).to(wd.dtype) if need_wd else None
        grad = input_gradient(grad, wd.to(x.dtype))
        grad = aten.threshold_backward.grad_input(grad, r, 0, grad_input=grad)
        del r
        grad = pooled_backward(grad, z2, geometry, index)
        del index
        grad, grad_g2, grad_o2 = normalize_backward(grad, z2, s2, g2.abs())
        del z2
        need_hidden = need_x or plan.first is not None
        back, grad_w2 = convolve_backward(grad, hidden, w2_turned, *plan.second, [need_hidden, need_w2])
        grad_b2 = turned(bias_gradient(s2, g2.abs(), grad_o2), sign)
        second = (None if grad_w2 is None else turned(grad_w2, sign), grad_b2, turned(grad_g2, sign), grad_o2)
        of_first: tuple[Tensor | None, ...] = (None, None, None, None)
        if plan.first is not None:
            assert back is not None  # asked for
            grad = back
            if plan.slope != 1.0:
                grad = aten.leaky_relu_backward.grad_input(grad, hidden, plan.slope, True, grad_input=grad)
            del hidden
            grad, grad_g1, grad_o1 = normalize_backward(grad, z1, first[0], g1)
            back, grad_w1 = convolve_backward(grad, entering, w1, *plan.first, [need_x, need_w1])
            of_first = (grad_w1, bias_gradient(first[0], g1, grad_o1), grad_g1, grad_o1)
        if back is not None:
            back = pooled_backward(back, x, before, chosen)
        grads = (back, *of_first, *second, grad_wd, grad_g3, grad_o3)
        return None, *(
            None if g is None or not need else g.to(t.dtype)
            for g, need, t in zip(grads, ctx.needs_input_grad[1:], saved, strict=False)
        )


def is_standard(stage: Any) -> bool:
    """Return whether a stage has the layers it was built with and nobody listens to them by hooks.

    Args:
        stage: a :class:`vanillayolo.nn.Stage`.
    """
    pair, activation = stage.pair, stage.act
    if type(pair) is not DeepPair or type(activation) is not SeriesActivation:
        return False
    if type(stage.pool) not in (nn.Identity, nn.MaxPool2d, HalvingMaxPool2d):
        return False
    layers = [pair.conv1, pair.norm2, activation.conv, activation.norm]
    if not pair.is_joined:
        layers += [pair.norm1, pair.conv2]
    norms = [m for m in layers if isinstance(m, nn.BatchNorm2d)]
    return (
        not any(is_heard(m) for m in (pair, activation, stage.pool))
        and all(map(is_bare, layers))
        and len(norms) == len(layers) // 2
        and all(m.affine and m.track_running_stats for m in norms)
    )


@torch.compiler.disable
def lean_forward(stage: Any, x: Tensor) -> Tensor:
    """Run a stage in training so that it keeps little for the backward pass.

    A stage with other layers than its own, or with hooks on them, is run as it is. Where this file's operators do not
    reach (other devices and types, tensors without data), torch's own checkpoint does the same in more time.

    Args:
        stage: a :class:`vanillayolo.nn.Stage`.
        x: ``[batch, in_channels, height, width]``; under autocast it is cast to autocast's type.

    Returns:
        ``[batch, out_channels, height / stride, width / stride]``, stride being the stage's own, pooling included;
        rounded up at odd sizes where the stage's pooling does so.

    Raises:
        ValueError: where the batch has one value a channel, as torch's batch normalisation does.
    """
    if is_traced() or not is_standard(stage):
        return stage.plain(x)
    if x.is_cpu and torch.is_autocast_enabled("cpu"):
        x = x.to(torch.get_autocast_dtype("cpu"))
    if not x.is_cpu or type(x) is not Tensor or x.dtype not in (torch.float32, torch.float64, torch.bfloat16):
        return checkpointed(stage, x, stage.plain)
    pair, activation = stage.pair, stage.act
    geometry = (list(pair.conv1.stride), list(pair.conv1.padding))
    if pair.is_joined:
        layers = [pair.conv1, pair.norm2]
        plan = Plan((pair.norm2, activation.norm), 1.0, None, geometry, stage.pool, stage.pool_first)
    else:
        layers = [pair.conv1, pair.norm1, pair.conv2, pair.norm2]
        norms = (pair.norm1, pair.norm2, activation.norm)
        plan = Plan(norms, pair.negative_slope, geometry, ([1, 1], [0, 0]), stage.pool, stage.pool_first)
    params = [p for layer in layers for p in (layer.weight, layer.bias)]
    missing = [None] * (8 - len(params))
    tail = (activation.conv.weight, activation.norm.weight, activation.norm.bias)
    return _LeanStage.apply(plan, x, *missing, *params, *tail)
