"""int8 files: the merged network, equalised, through NNCF (OpenVINO) or ONNX Runtime's static quantisation (ONNX).

One path for both: equalise the network, export it as float32 ONNX, put ReLUs before pools, hand the graph to the
library's quantiser with images of the training split, leave the head's decode in float. Weights have one symmetric
scale for each output channel, maps one scale each.
"""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from vanillayolo.atomic import whole_set
from vanillayolo.errors import DataError, UsageError, closest
from vanillayolo.settings import Settings
from vanillayolo.values import FLAG, NAMES, Kind, one_of, whole
from vanillayolo.yolo import VanillaModel
from vanillayolo.yolo.arguments import fitting_imgsz
from vanillayolo.yolo.exporting import export_float, write_metadata
from vanillayolo.yolo.inference import dataset_images, letterbox, read_image
from vanillayolo.yolo.opened import Opened, open_checkpoint
from vanillayolo.yolo.pictures import usable_images

from .bias import correct_biases
from .equalize import METHODS, equalize
from .onnx_graph import decode_nodes, depthwise_weights, matching, relu_before_pool


@dataclass(frozen=True)
class QuantizeSettings(Settings):
    """How a network becomes int8; each default is the choice that the figures in docs/quantization.md made.

    Attributes:
        equalize: cross-layer equalisation: ``off``, ``weights`` or ``activations``; the format's own where None.
        images: calibration images, at most; taken evenly from the training split.
        bias_correction: take the shift of each layer's mean off its bias (:mod:`vanillayolo.deploy.bias`).
        keep_float: modules left in float, by name (``model.0.stem``), with all that is in them.
        weight_bits: 7, or 8, with which CPUs without VNNI clip sums of two products at 16 bits.
    """

    SECTION = "int8"
    KINDS: ClassVar[dict[str, Kind]] = {
        "equalize": one_of(*METHODS),
        "images": whole(1, 100_000, exact=True),
        "bias_correction": FLAG,
        "keep_float": NAMES | Kind("()", lambda v: v == () or v == []),
        "weight_bits": Kind("7 or 8", lambda v: v in (7, 8)),
    }
    equalize: str | None = None
    images: int = 300
    bias_correction: bool = True
    keep_float: tuple[str, ...] = ()
    weight_bits: int = 7

    @classmethod
    def of(cls, settings: dict[str, Any]) -> QuantizeSettings:
        """Return checked settings.

        Raises:
            UsageError: for a key or value that does not exist.
        """
        kept = settings.get("keep_float", ())
        return cls.from_dict({**settings, "keep_float": tuple(kept.split(",") if isinstance(kept, str) else kept)})


def calibration_images(data: str, most: int, channels: int = 3) -> list[Path]:
    """Return at most ``most`` images of the training split, evenly spaced: never of another split.

    In the place of one that cannot be read, which training leaves out, comes another.

    Raises:
        DataError: when there is none.
    """
    files = dataset_images(data, "train")
    even = np.unique(np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)).tolist()
    rest = sorted(set(range(len(files))) - set(even))
    return sorted(usable_images((files[i] for i in [*even, *rest]), most, channels))


class Batches:
    """Images as inputs of batch 1, letterboxed as at inference, read anew each time they are gone through.

    Args:
        files: the images.
        imgsz: side of a square, or height and width, pixels.
        channels: of the network's images.
    """

    def __init__(self, files: Sequence[Path], imgsz: int | Sequence[int], channels: int = 3) -> None:
        sides = [imgsz] if isinstance(imgsz, int) else list(imgsz)
        self.files, self.size, self.channels = files, (sides[0], sides[-1]), channels

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Tensor]:
        return (letterbox(read_image(path, self.channels), self.size) for path in self.files)

    def stacked(self, pixels: int = 8 * 320 * 320) -> Iterator[Tensor]:
        """Yield the same images several at a time, so many as ``pixels`` allow: PyTorch is 2 to 3 times faster so."""
        each = max(1, pixels // (self.size[0] * self.size[1]))
        images = iter(self)
        while batch := list(itertools.islice(images, each)):
            yield torch.cat(batch)


def quantize_openvino(source: Path, target: Path, batches: Batches, settings: QuantizeSettings) -> None:
    """Write a quantised OpenVINO folder of a float32 ONNX file with NNCF."""
    import nncf
    import onnx
    import openvino
    from nncf.quantization.advanced_parameters import OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.WARNING)  # else a line for every operation that stays in float
    float_model = onnx.load(source)
    names = [node.name for node in float_model.graph.node]
    ignored = [*decode_nodes(float_model.graph), *matching(names, settings.keep_float)]
    ignored += [f"{name}/WithoutBiases" for name in ignored]  # a convolution with bias is two nodes in OpenVINO
    quantised = nncf.quantize(
        openvino.convert_model(source),
        nncf.Dataset(batches, lambda image: image.numpy()),
        subset_size=len(batches),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.ENABLE if settings.weight_bits == 7 else OverflowFix.DISABLE,
            # By default the mean of the images' maxima: it clips a channel that few images light up, and a depthwise
            # convolution's input has a scale for each channel.
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            disable_bias_correction=True,  # ours is done, and is the better one (docs/quantization.md)
        ),
    )
    metadata = {p.key: p.value for p in float_model.metadata_props}
    quantised.set_rt_info("YOLO", ["model_info", "model_type"])
    quantised.set_rt_info("fit_to_window_letterbox", ["model_info", "resize_type"])
    target.mkdir(parents=True, exist_ok=True)
    openvino.save_model(quantised, target / f"{source.stem}.xml", compress_to_fp16=False)
    write_metadata(target, metadata)


def quantize_onnx(source: Path, target: Path, batches: Batches, settings: QuantizeSettings) -> None:
    """Write a quantised ONNX file (quantise-dequantise pairs) of a float32 one with ONNX Runtime."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.images, None)
            return None if image is None else {"images": image.numpy()}

    prepared = source.with_name(f"{source.stem}-prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    graph = onnx.load(prepared).graph
    names = [node.name for node in graph.node]
    float_nodes = [*decode_nodes(graph), *matching(names, settings.keep_float)]
    depthwise = depthwise_weights(graph)
    quantize_static(
        str(prepared),
        str(target),
        Reader(),
        per_channel=True,
        reduce_range=settings.weight_bits == 7,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        calibrate_method=CalibrationMethod.MinMax,
        op_types_to_quantize=ONNX_OPERATORS,
        nodes_to_exclude=float_nodes,
        extra_options={
            "WeightSymmetric": True,
            "ActivationSymmetric": False,
            "TensorQuantOverrides": {name: [{"axis": 0, "reduce_range": False}] for name in depthwise},
        },
    )
    quantised, float_model = onnx.load(target), onnx.load(source)
    del quantised.metadata_props[:]
    quantised.metadata_props.extend(float_model.metadata_props)
    onnx.save(quantised, target)


#: What ONNX Runtime quantises: what computes, and what passes int8 on between.
ONNX_OPERATORS = ["Conv", "MaxPool", "Relu", "Concat", "Resize"]


@dataclass(frozen=True)
class Int8Format:
    """A library's int8 file.

    Attributes:
        quantize: writes it, from a float32 ONNX file.
        ending: of the file's name, as Ultralytics names its own.
        levels: steps on each side of 0 of a convolution's weight, by ``weight_bits``.
        equalize: the equalisation that its roundings ask for.
    """

    quantize: Callable[[Path, Path, Batches, QuantizeSettings], None]
    ending: str
    levels: Callable[[nn.Conv2d, int], float]
    equalize: str


INT8: dict[str, Int8Format] = {
    # NNCF halves the range, 127 steps for both sides together, but for depthwise convolutions, which sum no channels.
    # Their input has a scale for each channel, so that nothing in it needs to be equal, and no row of a weight has a
    # scale below a hundredth of the largest row's: what counts is that rows are alike, which equation 11 sees to.
    "openvino": Int8Format(
        quantize_openvino,
        "_int8_openvino_model",
        lambda conv, bits: 63.5 if bits == 7 and conv.groups == 1 else 127,
        equalize="weights",
    ),
    "onnx": Int8Format(
        quantize_onnx,
        "_int8.onnx",
        lambda conv, bits: 64 if bits == 7 and conv.groups == 1 else 127,
        equalize="activations",
    ),
}


def float_onnx(
    network: nn.Module, batches: Batches, settings: QuantizeSettings, folder: Path, stem: str, format: str
) -> tuple[Path, int]:
    """Write the network as float32 ONNX, ready for a quantiser; return the file and how many links were equalised.

    Args:
        network: merged; changed in place.
        batches: calibration images.
        settings: what is done.
        folder: where the file goes.
        stem: its name without suffix.
        format: key of :data:`INT8`: biases are corrected for how its library rounds.
    """
    import onnx

    torch.manual_seed(0)
    method = settings.equalize or INT8[format].equalize
    links = equalize(network, torch.zeros(1, batches.channels, *batches.size), method, batches.stacked())
    if settings.bias_correction:
        levels = INT8[format].levels
        correct_biases(network, batches.stacked(), lambda conv: levels(conv, settings.weight_bits), settings.keep_float)
    path = export_float(network, folder, stem, batches.size)
    model = onnx.load(path)
    relu_before_pool(model)
    onnx.save(model, path)
    return path, len(links)


def quantize_export(
    checkpoint: Opened | VanillaModel | str | Path,
    format: str = "openvino",
    data: str | None = None,
    imgsz: int | Sequence[int] | None = None,
    path: str | Path | None = None,
    **settings: Any,
) -> Path:
    """Write an int8 file of a trained detector, calibrated on the training split of its data.

    Args:
        checkpoint: a trained detector or its ``best.pt``, at slope 1 or collapsed.
        format: ``openvino`` (a folder) or ``onnx``.
        data: data YAML; images of its training split are used, labels are not.
        imgsz: side of the image, or height and width, pixels; the training's own by default.
        path: where the file goes; beside the checkpoint by default.
        **settings: fields of :class:`QuantizeSettings`.

    Returns:
        The file or folder, which ``YOLO(file)`` opens.

    Raises:
        UsageError: for an unknown format or setting.
        DataError: without data.
        CheckpointError: when the checkpoint is missing or damaged.
        MergeError: when a slope is below 1.
    """
    if format not in INT8:
        raise UsageError(f"int8 has no format {format!r}: {closest(str(format), INT8)}")
    chosen = QuantizeSettings.of(settings)
    if not data:
        raise DataError("int8 needs data=FILE.yaml: it is calibrated on images of the training split.")
    opened = open_checkpoint(checkpoint, "int8 starts from a checkpoint (.pt)")
    origin, network = opened.origin, opened.merged()
    size = fitting_imgsz(imgsz or opened.imgsz or 640)
    modules = dict(network.named_modules())
    for name in chosen.keep_float:
        if name not in modules:
            raise UsageError(f"keep_float={name!r}: {closest(name, modules)}")
    files = calibration_images(opened.checked_data(data, ("train",)), chosen.images, opened.channels)
    target = Path(path) if path else origin.with_name(f"{origin.stem}{INT8[format].ending}")
    batches = Batches(files, size, opened.channels)
    with tempfile.TemporaryDirectory() as folder, whole_set(target) as stage:
        source, _ = float_onnx(network, batches, chosen, Path(folder), origin.stem, format)
        INT8[format].quantize(source, stage / target.name, batches, chosen)
    return target
