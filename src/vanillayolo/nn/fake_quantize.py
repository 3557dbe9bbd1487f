"""Convolutions that compute with the values that int8 has, and can be trained: rounding that lets gradients through.

Weights have one symmetric scale for each output channel, maps one scale each, as ONNX Runtime and LiteRT have them;
OpenVINO rounds maps no coarser.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .depthwise import depthwise_conv2d
from .hooks import listening

#: Scale and zero point of a map of 8 bits.
Steps = tuple[float, int]


def trained_levels(conv: nn.Conv2d) -> int:
    """Return the steps on each side of 0 that a weight is trained with: 7 bits, of a depthwise convolution 8.

    With 7 bits two products stay below 2^15, which a CPU without VNNI needs; the default of the files that we write.
    """
    return 64 if conv.groups == 1 else 127


class RoundedConv2d(nn.Conv2d):
    """A convolution whose weight and maps are rounded as int8 rounds them; its weight, gradients and keys stay float.

    Attributes:
        taken: steps of the input; None as long as it is not measured, and stays float.
        given: steps of the output; None where a ReLU follows, whose own output is what counts.
        rectified: whether one does.
    """

    taken: Steps | None = None
    given: Steps | None = None
    rectified = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the map ``[batch, channels, height, width]``."""
        levels = trained_levels(self)
        largest = self.weight.detach().abs().flatten(1).amax(1).clamp_min(torch.finfo(self.weight.dtype).tiny)
        zeros = torch.zeros_like(largest, dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(self.weight, largest / levels, zeros, 0, -levels, levels)
        x = round_map(x, self.taken)
        if self.training and self.keeps_size and self.bias is not None:
            out = depthwise_conv2d(x, weight) + self.bias.view(-1, 1, 1)  # with the fast weight gradient
        else:
            out = self._conv_forward(x, weight, self.bias)
        return round_map(out, self.given)

    @property
    def keeps_size(self) -> bool:
        """Whether it is a depthwise convolution of stride 1 that gives maps of the size that it takes."""
        kept = (tuple(size // 2 for size in self.kernel_size), (1, 1), (1, 1))
        depthwise = self.groups == self.in_channels == self.out_channels
        return depthwise and (self.padding, self.stride, self.dilation) == kept and min(self.kernel_size) % 2 == 1


def round_map(x: Tensor, steps: Steps | None) -> Tensor:
    """Return a map with the values that 8 bits have; gradients pass where nothing is clipped."""
    return x if steps is None else torch.fake_quantize_per_tensor_affine(x, *steps, 0, 255)


def steps_of(low: float, high: float) -> Steps:
    """Return the steps of a range; 0 is among its values, as all libraries have it."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 255, torch.finfo(torch.float32).tiny)
    return scale, round(-low / scale)


def round_convolutions(network: nn.Module, rectified: Iterable[str]) -> None:
    """Let every convolution with a bias, in place, round its weight; its maps once they are measured.

    A convolution without one is, in a merged network, the fixed one of the decode, which stays in float.

    Args:
        network: merged.
        rectified: names of the convolutions that a ReLU follows.
    """
    behind = set(rectified)
    for name, conv in network.named_modules():
        if type(conv) is nn.Conv2d and conv.bias is not None:
            conv.__class__ = RoundedConv2d
            conv.__dict__["rectified"] = name in behind


def rounded_convolutions(network: nn.Module) -> dict[str, RoundedConv2d]:
    """Return the convolutions that round, by name."""
    return {name: m for name, m in network.named_modules() if isinstance(m, RoundedConv2d)}


@contextmanager
def unrounded(network: nn.Module) -> Iterator[None]:
    """Make every convolution an ordinary one meanwhile: to measure, and to save what opens everywhere."""
    kept = [
        (conv, {key: conv.__dict__.pop(key, None) for key in ("taken", "given", "rectified")})
        for conv in rounded_convolutions(network).values()
    ]
    for conv, _ in kept:
        conv.__class__ = nn.Conv2d  # type: ignore[assignment]
    try:
        yield
    finally:
        for conv, attributes in kept:
            conv.__class__ = RoundedConv2d
            conv.__dict__.update(attributes)


@torch.no_grad()
def measure_maps(network: nn.Module, images: Iterable[Tensor]) -> None:
    """Give the maps of all convolutions that round the ranges that they have, in float, in these images.

    Args:
        network: in the mode that it is in.
        images: inputs ``[batch, channels, height, width]``.
    """
    convolutions = rounded_convolutions(network)
    ranges: dict[str, list[Tensor]] = {}

    def note(name: str, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen = torch.stack([end for x in (inputs[0], output) for end in x.aminmax()]).float()
        ranges.setdefault(name, []).append(seen)

    with unrounded(network), listening(convolutions.items(), note):
        for image in images:
            network(image)
    for name, seen in ranges.items():
        low, high = (getattr(torch.stack(seen), end)(0).tolist() for end in ("amin", "amax"))
        conv = convolutions[name]
        conv.taken = steps_of(low[0], high[1])
        conv.given = None if conv.rectified else steps_of(low[2], high[3])


def copy_ranges(source: nn.Module, target: nn.Module) -> None:
    """Give the convolutions of a network the ranges that those of another of its kind have."""
    measured = rounded_convolutions(source)
    for name, conv in rounded_convolutions(target).items():
        conv.taken, conv.given = measured[name].taken, measured[name].given
