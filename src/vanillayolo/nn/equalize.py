"""Cross-layer equalisation: the merged network's scales move between layers so that one int8 scale fits all channels.

Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019, arXiv 1906.04721, section 4.1, equations 7 to 11. For any ``s > 0``, ``relu(s x) = s relu(x)``, and so for max
pooling, nearest upsampling and concatenation: row i of a convolution may be divided by ``s_i`` (bias too) where the
columns of every convolution that reads channel i are multiplied by it. In a merged VanillaNet everything is such a
link: convolution, pool, ReLU, depthwise convolution, and from there, without any ReLU, the next stage and the neck.

Two ways to choose the scales:

- ``weights``: equation 11, ``s = sqrt(r1 / r2)`` of the largest weights on both sides; needs no images. It is made for
  one scale per weight tensor.
- ``activations``: with one scale per output channel, as quantisers give today, dividing a row changes nothing about its
  rounding, and a depthwise weight is nothing but rows. What is left of the problem is the map in between, which has one
  scale for all channels. So here the ranges of the maps, seen on calibration images, become equal exactly where only
  depthwise convolutions read them, and meet the columns half way where others do.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from vanillayolo.errors import UsageError, closest

from .hooks import listening

aten = torch.ops.aten

METHODS = ("off", "weights", "activations")
#: How far a channel may be moved: its map gains 3 bits at most. Beyond lie channels that are all but dead, whose rows
#: would grow by as much; NNCF gives no row of a weight a scale below a hundredth of the largest row's.
LARGEST_SCALE = 8.0
#: Positively homogeneous, channel by channel, of one input.
THROUGH = (
    aten.relu.default,
    aten.relu_.default,
    aten.max_pool2d.default,
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest2d.default,
)


@dataclass(frozen=True)
class Reader:
    """A convolution that reads a map: its module's name, and where the map's channels begin among its inputs."""

    name: str
    first: int


@dataclass(frozen=True)
class Link:
    """A convolution and all that read its map through positively homogeneous layers.

    Attributes:
        writer: name of the convolution's module.
        readers: the convolutions behind.
        relu: whether a ReLU stands between, so that negative values of the map do not count.
    """

    writer: str
    readers: tuple[Reader, ...]
    relu: bool


def find_links(model: nn.Module, image: Tensor) -> list[Link]:
    """Return every link of a network, found in its operators, in their order.

    Args:
        model: a network in evaluation mode, of any architecture; it is not changed.
        image: an example input ``[1, channels, height, width]``.
    """
    model = copy.deepcopy(model)
    module: Any
    for module in model.modules():
        if hasattr(module, "export"):
            module.export = True  # as in a file that ships: a detection head gives out its boxes, not the maps too
    with torch.no_grad():
        model(image)  # the head makes its anchors in the first call, from the maps' own tensors
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the head assigns its anchors, here those of a copy
        program = torch.export.export(model, (image,), strict=False)
    weights = program.graph_signature.inputs_to_parameters
    nodes = [n for n in program.graph.nodes if n.target is aten.conv2d.default]
    names = {n: weights[n.args[1].name].removesuffix(".weight") for n in nodes if n.args[1].name in weights}
    once = [name for name in names.values() if list(names.values()).count(name) == 1]
    names = {n: name for n, name in names.items() if name in once}
    links = [_link(node, name, names) for node, name in names.items()]
    return [link for link in links if link is not None]


def _link(writer: Node, name: str, names: dict[Node, str]) -> Link | None:
    """Return the link that begins at a convolution; None where a reader of its map cannot take a scale."""
    readers: list[Reader] = []
    relu: list[bool] = []
    waiting: list[tuple[Node, int, bool]] = [(writer, 0, False)]
    while waiting:
        node, first, rectified = waiting.pop()
        for user in node.users:
            if user.target in THROUGH:
                waiting.append((user, first, rectified or "relu" in str(user.target)))
            elif user.target is aten.cat.default and (user.args[1:] or (0,))[0] == 1:
                parts: Any = user.args[0]
                if parts.count(node) != 1:
                    return None
                before = sum(part.meta["val"].shape[1] for part in parts[: parts.index(node)])
                waiting.append((user, first + before, rectified))
            elif user in names and user.args[0] is node and _takes_scales(user):
                readers.append(Reader(names[user], first))
                relu.append(rectified)
            else:
                return None
    return Link(name, tuple(readers), all(relu)) if readers else None


def _takes_scales(node: Node) -> bool:
    """Return whether each input channel of a convolution has weights of its own: dense or depthwise."""
    groups = node.args[6] if len(node.args) > 6 else 1
    source: Any = node.args[0]
    weight: Any = node.args[1]
    return bool(groups == 1 or (groups == source.meta["val"].shape[1] and weight.meta["val"].shape[1] == 1))


def columns(conv: nn.Conv2d, first: int, channels: int) -> Tensor:
    """Return the weights that read some input channels, as a view ``[channels, ...]``."""
    if conv.groups == 1:
        return conv.weight[:, first : first + channels].transpose(0, 1)
    each = conv.out_channels // conv.groups
    return conv.weight.view(conv.groups, each, *conv.weight.shape[1:])[first : first + channels]


def column_range(conv: nn.Conv2d, first: int, channels: int, per_row: bool) -> Tensor:
    """Return the largest weight that reads each channel ``[channels]``; with ``per_row``, as a share of its row's."""
    read = columns(conv, first, channels).detach().abs()
    if per_row and conv.groups == 1:
        rows = conv.weight.detach().abs().flatten(1).amax(1).clamp_min(torch.finfo(conv.weight.dtype).tiny)
        read = read / rows.view(1, -1, *(1,) * (read.dim() - 2))
    return read.flatten(1).amax(1)


@torch.no_grad()
def map_ranges(model: nn.Module, links: Sequence[Link], images: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the largest magnitude of every channel of every link's map on the images, by the writer's name.

    Args:
        model: the network, in evaluation mode.
        links: its links.
        images: inputs ``[batch, channels, height, width]``.
    """
    modules = dict(model.named_modules())
    ranges: dict[str, Tensor] = {}

    def note(link: Link, _: Any, out: Tensor) -> None:
        seen = (out.clamp_min(0) if link.relu else out.abs()).amax((0, 2, 3))
        ranges[link.writer] = torch.maximum(ranges[link.writer], seen) if link.writer in ranges else seen

    with listening(((link, modules[link.writer]) for link in links), note):
        for image in images:
            model(image)
    return ranges


def bounded(scale: Tensor) -> Tensor:
    """Return scales around 1, none further from it than :data:`LARGEST_SCALE`; 1 where a channel is dead."""
    alive = scale.isfinite() & (scale > 0)
    if not alive.any():
        return torch.ones_like(scale)
    scale = scale / scale[alive].log().mean().exp()
    return torch.where(alive, scale.clamp(1 / LARGEST_SCALE, LARGEST_SCALE), 1.0)


def move(modules: dict[str, Any], link: Link, scale: Tensor) -> None:
    """Divide the writer's rows and bias by ``scale`` ``[channels]`` and multiply its readers' columns by it."""
    writer = modules[link.writer]
    writer.weight.div_(scale.view(-1, 1, 1, 1))
    if writer.bias is not None:
        writer.bias.div_(scale)
    for reader in link.readers:
        view = columns(modules[reader.name], reader.first, len(scale))
        view.mul_(scale.view(-1, *(1,) * (view.dim() - 1)))


def _scale(modules: dict[str, Any], link: Link, seen: Tensor | None) -> Tensor:
    """Return the scales of a link from the ranges of its map, or from the weights alone."""
    writer = modules[link.writer]
    channels = writer.out_channels
    reads = [
        column_range(modules[reader.name], reader.first, channels, per_row=seen is not None) for reader in link.readers
    ]
    after = torch.stack(reads).amax(0)
    if seen is None:
        return bounded((writer.weight.detach().abs().flatten(1).amax(1) / after).sqrt())
    if all(modules[reader.name].groups > 1 for reader in link.readers):
        return bounded(seen)
    return bounded((seen / after).sqrt())


@torch.no_grad()
def equalize(
    model: nn.Module,
    image: Tensor,
    method: str = "activations",
    images: Iterable[Tensor] = (),
    passes: int = 1,
    dense: bool = True,
) -> list[Link]:
    """Move scales between the layers of a merged network, in place, without changing its function.

    Args:
        model: a merged network in evaluation mode; layers that are no part of a link stay as they are.
        image: an example input ``[1, channels, height, width]``.
        method: ``off``, ``weights`` or ``activations``; see the head of this module.
        images: calibration inputs, for ``activations``.
        passes: how often all links are gone through, for ``weights``: a change of one link moves its neighbours.
        dense: without, links that dense convolutions read stay; then no weight rounds otherwise than before, since a
            row is scaled as a whole.

    Returns:
        The links that were equalised.

    Raises:
        UsageError: for another method, or ``activations`` without images.
    """
    if method not in METHODS:
        raise UsageError(f"equalize={method!r}: {closest(str(method), METHODS)}")
    if method == "off":
        return []
    modules = dict(model.named_modules())
    links = find_links(model, image)
    links = [link for link in links if dense or all(modules[reader.name].groups > 1 for reader in link.readers)]
    seen = map_ranges(model, links, images) if method == "activations" else {}
    if method == "activations" and len(seen) < len(links):
        raise UsageError("equalize=activations needs calibration images; give data=, or equalize=weights.")
    for _ in range(passes if method == "weights" else 1):
        for link in links:
            move(modules, link, _scale(modules, link, seen.get(link.writer)))
    return links
