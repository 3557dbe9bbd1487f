"""OpenVINO folders: what is in the graph, which convolutions are int8, their outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vanillayolo.yolo.runtimes import xml_of

from .onnx_graph import Run, module_name

#: Operators between a convolution and the quantiser of its input.
PASSING = {"MaxPool", "Reshape", "Concat", "Transpose", "Interpolate", "Convert", "Slice", "VariadicSplit"}
PASSING |= {"StridedSlice", "Multiply", "Subtract"}
CONVOLUTIONS = ("Convolution", "GroupConvolution")


def is_file(path: Path) -> bool:
    """Return whether a path is one of this library's files or folders by its names."""
    return path.suffix == ".xml" or any(path.glob("*.xml"))


def nodes(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and operator of every node."""
    import openvino

    for operation in openvino.Core().read_model(xml_of(path)).get_ordered_ops():
        yield operation.get_friendly_name(), operation.get_type_name()


def weight_types(path: Path) -> set[str]:
    """Return the types of the tensors of two axes or more."""
    import openvino

    constants = [
        n for n in openvino.Core().read_model(xml_of(path)).get_ordered_ops() if n.get_type_name() == "Constant"
    ]
    return {n.get_element_type().to_string() for n in constants if len(n.get_output_shape(0)) > 1}


def of_module(node: str) -> str:
    """Return the module of a convolution, which is two nodes where it has a bias."""
    return module_name(node.removesuffix("/WithoutBiases"))


def int8_convolutions(path: Path) -> dict[str, bool]:
    """Return, for every convolution in order, by its module, whether it computes in int8."""
    import openvino

    network = openvino.Core().read_model(xml_of(path))

    def quantised(output: Any) -> bool:
        node = output.get_node()
        while node.get_type_name() in PASSING:
            node = node.input_value(0).get_node()
        int8 = node.get_type_name() == "Constant" and node.get_element_type().to_string() in ("i8", "u8")
        return int8 or node.get_type_name() == "FakeQuantize"

    convolutions = [n for n in network.get_ordered_ops() if n.get_type_name() in CONVOLUTIONS]
    return {of_module(n.get_friendly_name()): all(quantised(n.input_value(i)) for i in (0, 1)) for n in convolutions}


def taps(path: Path) -> tuple[Run, tuple[int, int], list[str]]:
    """Return a run of the file, the height and width of its image, and the modules of its convolutions."""
    import openvino

    core = openvino.Core()
    model = core.read_model(xml_of(path))
    found: dict[str, Any] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() in CONVOLUTIONS:
            name = of_module(node.get_friendly_name())
            for reader in node.output(0).get_target_inputs():  # the bias is a node of its own
                if reader.get_node().get_type_name() == "Add":
                    node = reader.get_node()
                    break
            found[name] = node.output(0)
    first = len(model.outputs)
    model.add_outputs([*found.values()])
    request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        request.infer([image])
        return {name: np.array(request.get_output_tensor(first + i).data) for i, name in enumerate(found)}

    _, _, height, width = (side.get_length() for side in model.input().get_partial_shape())
    return run, (height, width), list(found)
