"""Where an int8 file loses accuracy: signal to quantisation noise of every convolution's output, layer by layer.

The float32 network is the checkpoint's, merged, in PyTorch; the file is run by its own library with the outputs of its
convolutions taken out. Layers are matched by the names that exporters give: those of the modules.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vanillayolo.errors import MergeError, UsageError, VerificationError
from vanillayolo.nn.equalize import find_links
from vanillayolo.nn.hooks import listening
from vanillayolo.yolo.inference import letterbox, read_image
from vanillayolo.yolo.opened import Opened, open_checkpoint
from vanillayolo.yolo.pictures import channels_of
from vanillayolo.yolo.stock import to_stock

from .formats import graph_of


@dataclass(frozen=True)
class LayerNoise:
    """One convolution.

    Attributes:
        name: its module.
        decibels: power of the float32 output over the power of its difference to the file's, all images together; what
            the layers before have lost is in it. Infinite where there is no difference.
        shift: share of that difference (0 to 1) that is constant in each channel: what bias correction can take away.
        channels: channels out.
        int8: whether the file computes it in int8.
    """

    name: str
    decibels: float
    shift: float
    channels: int
    int8: bool


@dataclass(frozen=True)
class LayerReport:
    """All convolutions of a file in the order of its graph.

    Attributes:
        file: the file.
        images: how many images the figures are of.
        layers: the figures.
    """

    file: str
    images: int
    layers: tuple[LayerNoise, ...]

    @property
    def worst(self) -> LayerNoise:
        """The layer with the most noise."""
        return min(self.layers, key=lambda layer: layer.decibels)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON takes it."""
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers]}

    def __str__(self) -> str:
        """Return a table: name, channels, precision, decibels, and the change to the layer before."""
        width = max(len(layer.name) for layer in self.layers)
        head = f"{'layer':<{width}}  channels  precision  signal to noise, dB  change  shift, %"
        rows = []
        before = math.nan
        for layer in self.layers:
            change = "" if not math.isfinite(layer.decibels - before) else f"{layer.decibels - before:+.1f}"
            figures = f"{layer.decibels:19.1f}  {change:>6}  {100 * layer.shift:8.0f}"
            rows.append(f"{layer.name:<{width}}  {layer.channels:8}  {'int8' if layer.int8 else 'float':>9}  {figures}")
            before = layer.decibels
        share = sum(layer.int8 for layer in self.layers)
        end = (
            f"{share} of {len(self.layers)} convolutions in int8; most noise: {self.worst.name}, "
            f"{self.worst.decibels:.1f} dB ({self.images} images)"
        )
        return "\n".join([head, *rows, end])


@contextmanager
def convolution_outputs(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Give a dict that holds, after each run of the network, the outputs of the modules named."""
    outputs: dict[str, Tensor] = {}
    modules = dict(network.named_modules())

    def note(name: str, _: Any, out: Tensor) -> None:
        outputs[name] = out.clone()  # the activation behind may work in place

    with listening(((name, modules[name]) for name in names), note):
        yield outputs


def reference_network(reference: Opened, names: Sequence[str]) -> tuple[nn.Module, list[str]]:
    """Return the merged network of a checkpoint in the form (ours or stock rows) whose names the file has.

    Raises:
        VerificationError: when neither has them.
    """
    network = reference.merged()
    forms = [network]
    with contextlib.suppress(MergeError, AttributeError, KeyError):  # stock already, or without a stock form
        forms.append(to_stock(network))
    shared = [[n for n in names if isinstance(dict(form.named_modules()).get(n), nn.Conv2d)] for form in forms]
    best = max(range(len(forms)), key=lambda i: len(shared[i]))
    if not shared[best]:
        raise VerificationError(
            f"{reference.origin}: none of the file's {len(names)} convolutions has the name of one of the network's; "
            "give the checkpoint that the file was made from."
        )
    return forms[best], shared[best]


class Sums:
    """Sums over images and pixels, per channel and in float64, from which the noise of one layer follows."""

    def __init__(self) -> None:
        self.count = 0
        self.value: Any = 0.0  # [5, channels]: squares, products, squares of the other, and the two plain sums

    def add(self, want: np.ndarray, got: np.ndarray) -> None:
        """Add one image: ``[1, channels, height, width]`` each."""
        a, b = (x.astype(np.float64).reshape(x.shape[1], -1) for x in (want, got))
        self.count += a.shape[1]
        self.value = self.value + np.stack([x.sum(1) for x in (a * a, a * b, b * b, a, b)])

    def noise(self, fit: bool) -> tuple[float, float]:
        """Return decibels and the share of the shift; with ``fit``, for the gain of each channel that fits best."""
        own, cross, other, first, second = self.value
        gain = np.divide(cross, own, out=np.ones_like(own), where=own > 0) if fit else np.ones_like(own)
        signal = float((gain * gain * own).sum())
        noise = float(np.maximum(other - 2 * gain * cross + gain * gain * own, 0).sum())
        if noise <= signal * 1e-15:  # rounding of the sums themselves
            return math.inf, 0.0
        shift = float(((second - gain * first) ** 2).sum() / self.count)
        return 10 * math.log10(max(signal, 1e-300) / noise), min(shift / noise, 1.0)


def layer_report(model: str | Path, reference: Opened | str | Path, images: Sequence[Path]) -> LayerReport:
    """Compare every convolution's output in an int8 (or other) file with the float32 network's.

    Where equalisation can have moved scales (:func:`vanillayolo.nn.equalize.find_links`), the gain of each channel
    that fits best is taken out first: it is none of the quantiser's.

    Args:
        model: an ONNX file, or an OpenVINO file or folder.
        reference: the checkpoint it was made from.
        images: images to compare on.

    Raises:
        UsageError: for a file of another format, or without images.
        VerificationError: when the file's layers are not the network's.
    """
    path = Path(model)
    graph = graph_of(path)
    if not images:
        raise UsageError("layers: no images to compare on; give data= or source=.")
    run, size, names = graph.taps(path)
    network, shared = reference_network(open_checkpoint(reference), names)
    channels = channels_of(network)
    scaled = {link.writer for link in find_links(network, torch.zeros(1, channels, *size))}
    sums = {name: Sums() for name in shared}
    with convolution_outputs(network, shared) as outputs, torch.inference_mode():
        for image in images:
            x = letterbox(read_image(image, channels), size)
            network(x)
            got = run(x.numpy())
            for name in shared:
                want = outputs[name].numpy()
                if got[name].shape != want.shape:
                    raise VerificationError(f"{model}: {name} gives {got[name].shape}, the network {want.shape}.")
                if not (np.isfinite(want).all() and np.isfinite(got[name]).all()):
                    raise VerificationError(f"{model}: {name} gives values that are not finite (NaN or infinite).")
                sums[name].add(want, got[name])
    int8 = graph.int8_convolutions(path)
    layers = [
        LayerNoise(name, *sums[name].noise(name in scaled), sums[name].value.shape[1], int8[name]) for name in shared
    ]
    return LayerReport(str(model), len(images), tuple(layers))
