"""What an exported graph is made of: its operators, the precision it computes in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vanillayolo.yolo.files import xml_of

#: Operators that stand for numbers, not for work.
CONSTANTS = {"Constant", "Parameter", "Result"}
QUANTIZERS = {"QuantizeLinear", "DequantizeLinear", "FakeQuantize"}


def nodes(path: str | Path) -> Iterator[tuple[str, str]]:
    """Yield name and operator type of every node of an ONNX file or an OpenVINO folder."""
    path = Path(path)
    if path.suffix == ".onnx":
        import onnx

        for node in onnx.load(path, load_external_data=False).graph.node:
            yield node.name, node.op_type
    else:
        import openvino

        for operation in openvino.Core().read_model(xml_of(path)).get_ordered_ops():
            yield operation.get_friendly_name(), operation.get_type_name()


def operators(path: str | Path, part: str = "") -> Counter[str]:
    """Return how often a file has each operator, constants left out.

    Args:
        path: an ONNX file or an OpenVINO folder.
        part: count only nodes with this in their names: a module's, as the exporters write it (``/model.0/`` in ONNX,
            ``model.0.`` in OpenVINO).
    """
    return Counter(kind for name, kind in nodes(path) if part in name and kind not in CONSTANTS)


def weight_types(path: str | Path) -> set[str]:
    """Return the types, as OpenVINO names them (``f16``), of an ONNX or OpenVINO file's tensors of two axes or more."""
    path = Path(path)
    if path.suffix == ".onnx":
        import onnx

        names = {"FLOAT": "f32", "FLOAT16": "f16", "INT8": "i8", "UINT8": "u8"}
        stored = onnx.load(path, load_external_data=False).graph.initializer
        types = (onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in stored if len(tensor.dims) > 1)
        return {names.get(name, name) for name in types}
    import openvino

    xml = path if path.is_file() else next(path.glob("*.xml"))
    nodes = [n for n in openvino.Core().read_model(xml).get_ordered_ops() if n.get_type_name() == "Constant"]
    return {n.get_element_type().to_string() for n in nodes if len(n.get_output_shape(0)) > 1}


def precision(path: str | Path, format: str, metadata: dict[str, Any]) -> str:
    """Return ``float32``, ``float16`` or ``int8``: what the graph shows; where it cannot be read, what the file says.

    What a file says is nothing to go by where more may differ in int8.
    """
    if format in {"onnx", "openvino"}:
        types = weight_types(path)
        if types & {"i8", "u8"} or QUANTIZERS & set(operators(path)):
            return "int8"
        return "float16" if "f16" in types else "float32"
    asked = (metadata.get("args") or {}).get("quantize")
    return {None: "float32", 32: "float32", 16: "float16"}.get(asked, "int8")
