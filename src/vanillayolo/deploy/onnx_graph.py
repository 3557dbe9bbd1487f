"""ONNX files: what is in the graph, its decode, its ReLUs before its pools, the outputs of its convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: Runs an image ``[1, 3, height, width]`` and returns the convolutions' outputs by module name.
Run = Callable[[np.ndarray], dict[str, np.ndarray]]
#: Operators that pass int8 values on: between a convolution and the quantiser of its input.
PASSING = {"MaxPool", "Reshape", "Concat", "Resize", "Transpose", "Slice", "Split"}


def is_file(path: Path) -> bool:
    """Return whether a path is one of this library's files by its name."""
    return path.suffix == ".onnx"


def nodes(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and operator of every node."""
    import onnx

    for node in onnx.load(path, load_external_data=False).graph.node:
        yield node.name, node.op_type


def weight_types(path: Path) -> set[str]:
    """Return the types, as OpenVINO names them (``f16``), of the tensors of two axes or more."""
    import onnx

    names = {"FLOAT": "f32", "FLOAT16": "f16", "INT8": "i8", "UINT8": "u8"}
    stored = onnx.load(path, load_external_data=False).graph.initializer
    types = (onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in stored if len(tensor.dims) > 1)
    return {names.get(name, name) for name in types}


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


def matching(names: Iterable[str], prefixes: Iterable[str]) -> list[str]:
    """Return the node names whose module is one of ``prefixes``, or in one of them."""
    wanted = [prefix.rstrip(".") for prefix in prefixes]
    return [n for n in names if any(f"{module_name(n)}.".startswith(f"{prefix}.") for prefix in wanted)]


def int8_convolutions(path: Path) -> dict[str, bool]:
    """Return, for every convolution in order, by its module, whether it computes in int8."""
    import onnx

    graph = onnx.load(path).graph
    writer = {output: node for node in graph.node for output in node.output}

    def quantised(name: str) -> bool:
        node = writer.get(name)
        while node is not None and node.op_type in PASSING:
            node = writer.get(node.input[0])
        return node is not None and node.op_type == "DequantizeLinear"

    convolutions = [n for n in graph.node if n.op_type == "Conv"]
    return {module_name(n.name): all(quantised(i) for i in n.input[:2]) for n in convolutions}


def taps(path: Path) -> tuple[Run, tuple[int, int], list[str]]:
    """Return a run of the file, the height and width of its image, and the modules of its convolutions."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    found = {module_name(n.name): n.output[0] for n in model.graph.node if n.op_type == "Conv"}
    given = {output.name for output in model.graph.output}
    for name in found.values():
        if name not in given:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # As the file defines it: fused kernels would no longer have these outputs.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(found, session.run(list(found.values()), {entry.name: image}), strict=True))

    return run, (int(entry.shape[2]), int(entry.shape[3])), list(found)
