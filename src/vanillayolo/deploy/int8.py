"""What int8 is made of: its settings, and the writers of two libraries.

A writer takes the merged network, equalised, exports it as float32 ONNX, puts ReLUs before pools, hands the graph to
its library's quantiser and leaves the head's decode in float. Weights have one symmetric scale for each output
channel, maps one scale each.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from vanillayolo.nn.equalize import METHODS
from vanillayolo.settings import Settings
from vanillayolo.values import FLAG, NAMES, Kind, one_of, whole
from vanillayolo.yolo.calibration import Batches
from vanillayolo.yolo.exporting import export_float, write_metadata

from .onnx_graph import decode_nodes, depthwise_weights, matching, relu_before_pool


@dataclass(frozen=True)
class QuantizeSettings(Settings):
    """How a network becomes int8; each default is the choice that the figures in docs/int8_results.md made.

    Attributes:
        equalize: cross-layer equalisation: ``off``, ``weights`` or ``activations``; the format's own where None.
        images: calibration images, at most; taken evenly from the training split.
        bias_correction: take the shift of each layer's mean off its bias (:mod:`vanillayolo.nn.bias`).
        keep_float: modules left in float, by name (``model.0.stem``), with all that is in them.
        weight_bits: 7, or 8, with which CPUs without VNNI clip sums of two products at 16 bits; LiteRT has 8 always.
        decode: of LiteRT: ``inside``, in float; ``outside``, the file ends in int8 maps of boxes and maps of scores.
    """

    SECTION = "int8"
    KINDS: ClassVar[dict[str, Kind]] = {
        "equalize": one_of(*METHODS),
        "images": whole(1, 100_000, exact=True),
        "bias_correction": FLAG,
        "keep_float": NAMES | Kind("()", lambda v: v == () or v == []),
        "weight_bits": Kind("7 or 8", lambda v: v in (7, 8)),
        "decode": one_of("inside", "outside"),
    }
    equalize: str | None = None
    images: int = 300
    bias_correction: bool = True
    keep_float: tuple[str, ...] = ()
    weight_bits: int = 7
    decode: str = "inside"

    @classmethod
    def of(cls, settings: dict[str, Any]) -> QuantizeSettings:
        """Return checked settings.

        Raises:
            UsageError: for a key or value that does not exist.
        """
        kept = settings.get("keep_float", ())
        return cls.from_dict({**settings, "keep_float": tuple(kept.split(",") if isinstance(kept, str) else kept)})


def float_onnx(network: nn.Module, size: tuple[int, int], folder: str, stem: str) -> Path:
    """Write a network as float32 ONNX, ready for a quantiser."""
    import onnx

    path = export_float(network, Path(folder), stem, size)
    model = onnx.load(path)
    relu_before_pool(model)
    onnx.save(model, path)
    return path


def write_openvino(network: nn.Module, target: Path, batches: Batches, settings: QuantizeSettings) -> None:
    """Write a quantised OpenVINO folder of a network with NNCF."""
    with tempfile.TemporaryDirectory() as folder:
        source = float_onnx(network, batches.size, folder, target.name.removesuffix("_int8_openvino_model"))
        _quantize_openvino(source, target, batches, settings)


def _quantize_openvino(source: Path, target: Path, batches: Batches, settings: QuantizeSettings) -> None:
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
            disable_bias_correction=True,  # ours is done, and is the better one (docs/int8_results.md)
        ),
    )
    metadata = {p.key: p.value for p in float_model.metadata_props}
    quantised.set_rt_info("YOLO", ["model_info", "model_type"])
    quantised.set_rt_info("fit_to_window_letterbox", ["model_info", "resize_type"])
    target.mkdir(parents=True, exist_ok=True)
    openvino.save_model(quantised, target / f"{source.stem}.xml", compress_to_fp16=False)
    write_metadata(target, metadata)


def write_onnx(network: nn.Module, target: Path, batches: Batches, settings: QuantizeSettings) -> None:
    """Write a quantised ONNX file (quantise-dequantise pairs) of a network with ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        _quantize_onnx(float_onnx(network, batches.size, folder, "float"), target, batches, settings)


def _quantize_onnx(source: Path, target: Path, batches: Batches, settings: QuantizeSettings) -> None:
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
