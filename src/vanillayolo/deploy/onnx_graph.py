"""What quantising needs of an ONNX graph: its decode, its ReLUs before its pools, which convolutions are int8."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vanillayolo.yolo.files import xml_of

#: Operators that pass int8 values on: between a convolution and the quantiser of its input.
PASSING = {"MaxPool", "Reshape", "Concat", "Resize", "Transpose", "Interpolate", "Convert", "Slice"}
PASSING |= {"Split", "VariadicSplit", "StridedSlice"}


def module_name(node: str) -> str:
    """Return the module that an exported node came from: ``/model.0/stem/pair/Conv`` is of ``model.0.stem.pair``.

    Ultralytics' and torch's exporters name a list's entries ``cv2.0/cv2.0.0``: the shorter of the two goes.
    """
    parts: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def suppression_settings(path: str | Path) -> dict[str, Any]:
    """Return what the graph of an ONNX file says of the suppression in it, as Ultralytics' exporters write it.

    The overlap is an input of the operator, the score what is compared (``Greater``) before it, and boxes of different
    classes are moved apart (``Add``) unless they suppress each other. Empty where there is no such operator.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    writer = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == "Constant"}
    suppression = next((n for n in graph.node if n.op_type == "NonMaxSuppression"), None)
    if suppression is None:
        return {}
    names = {"iou": [*suppression.input, "", "", ""][3]}
    compared = {name for n in graph.node if n.op_type == "Greater" for name in n.input if name in constants}
    if len(compared) == 1:
        names["conf"] = compared.pop()
    found: dict[str, Any] = {
        key: float(onnx.numpy_helper.to_array(constants[name]).item())
        for key, name in names.items()
        if name in constants
    }
    boxes = writer.get(suppression.input[0])
    while boxes is not None and boxes.op_type in {"Cast", "Unsqueeze", "Concat"}:
        boxes = writer.get(boxes.input[0])
    return found | ({} if boxes is None else {"agnostic_nms": boxes.op_type != "Add"})


def decode_nodes(graph: Any) -> list[str]:
    """Return the names of the nodes from the last convolutions' outputs to the graph's: the head's arithmetic on boxes.

    Their tensors mix pixels (0 to the image's side) with scores (0 to 1), so that one int8 scale for both kills the
    scores.

    Args:
        graph: an ``onnx.GraphProto``.
    """
    writer = {output: node for node in graph.node for output in node.output}
    names: list[str] = []
    waiting = [writer[output.name] for output in graph.output]
    while waiting:
        node = waiting.pop()
        if node.name in names or node.op_type == "Conv":
            continue
        names.append(node.name)
        waiting += [writer[name] for name in node.input if name in writer]
    return names


def depthwise_weights(graph: Any) -> list[str]:
    """Return the names of the weights of depthwise convolutions: no sum in them goes over channels.

    Args:
        graph: an ``onnx.GraphProto``.
    """
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    weights = [node.input[1] for node in graph.node if node.op_type == "Conv"]
    return [name for name in weights if name in shapes and shapes[name][0] > 1 and shapes[name][1] == 1]


def relu_before_pool(model: Any) -> int:
    """Swap, in place, every max pool with the ReLU behind it, and return how many.

    Exact: both are monotone. Behind its convolution the ReLU becomes part of it, the int8 scale covers positive values
    alone (half the range of a map before its ReLU is thrown away by it), and the pool runs on int8.

    Args:
        model: an ``onnx.ModelProto``.
    """
    graph, swapped = model.graph, 0
    outputs = {output.name for output in graph.output}
    for pool in [node for node in graph.node if node.op_type == "MaxPool"]:
        (between,) = pool.output[:1]
        readers = [node for node in graph.node if between in node.input]
        if len(readers) != 1 or readers[0].op_type != "Relu" or between in outputs:
            continue
        relu = readers[0]
        relu.input[0], pool.input[0] = pool.input[0], between
        pool.output[0], relu.output[0] = relu.output[0], between
        first, second = list(graph.node).index(pool), list(graph.node).index(relu)
        kept = type(pool)()
        kept.CopyFrom(pool)
        graph.node[first].CopyFrom(relu)
        graph.node[second].CopyFrom(kept)
        shapes = [info for info in graph.value_info if info.name == between]
        for info in shapes:  # it has the size before the pool now
            graph.value_info.remove(info)
        swapped += 1
    return swapped


def int8_convolutions(path: str | Path) -> dict[str, bool]:
    """Return, for every convolution of a quantised file in order, whether it computes in int8.

    Args:
        path: an ONNX file with quantise-dequantise pairs, or an OpenVINO ``.xml`` or its folder.
    """
    path = Path(path)
    return _onnx_convolutions(path) if path.suffix == ".onnx" else _openvino_convolutions(path)


def _onnx_convolutions(path: Path) -> dict[str, bool]:
    import onnx

    graph = onnx.load(path).graph
    writer = {output: node for node in graph.node for output in node.output}

    def quantised(name: str) -> bool:
        node = writer.get(name)
        while node is not None and node.op_type in PASSING:
            node = writer.get(node.input[0])
        return node is not None and node.op_type == "DequantizeLinear"

    return {n.name: all(quantised(i) for i in n.input[:2]) for n in graph.node if n.op_type == "Conv"}


def _openvino_convolutions(path: Path) -> dict[str, bool]:
    import openvino

    network = openvino.Core().read_model(xml_of(path))

    def quantised(output: Any) -> bool:
        node = output.get_node()
        while node.get_type_name() in PASSING | {"Multiply", "Subtract"}:
            node = node.input_value(0).get_node()
        int8 = node.get_type_name() == "Constant" and node.get_element_type().to_string() in ("i8", "u8")
        return int8 or node.get_type_name() == "FakeQuantize"

    convolutions = [n for n in network.get_ordered_ops() if n.get_type_name() in ("Convolution", "GroupConvolution")]
    return {n.get_friendly_name(): all(quantised(n.input_value(i)) for i in (0, 1)) for n in convolutions}


def matching(names: Iterable[str], prefixes: Iterable[str]) -> list[str]:
    """Return the node names whose module is one of ``prefixes``, or in one of them."""
    wanted = [prefix.rstrip(".") for prefix in prefixes]
    return [n for n in names if any(f"{module_name(n)}.".startswith(f"{prefix}.") for prefix in wanted)]
