"""What an exported graph is made of: its operators, the precision it computes in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from .formats import FORMATS, graph_of

#: Operators that stand for numbers, not for work.
CONSTANTS = {"Constant", "Parameter", "Result"}
QUANTIZERS = {"QuantizeLinear", "DequantizeLinear", "FakeQuantize"}


def operators(path: str | Path, part: str = "") -> Counter[str]:
    """Return how often a file has each operator, constants left out.

    Args:
        path: an ONNX file or an OpenVINO folder.
        part: count only nodes with this in their names: a module's, as the exporters write it (``/model.0/`` in ONNX,
            ``model.0.`` in OpenVINO).
    """
    nodes = graph_of(Path(path)).nodes(Path(path))
    return Counter(kind for name, kind in nodes if part in name and kind not in CONSTANTS)


def precision(path: str | Path, format: str, metadata: dict[str, Any]) -> str:
    """Return ``float32``, ``float16`` or ``int8``: what the graph shows; where it cannot be read, what the file says.

    What a file says is nothing to go by where more may differ in int8.
    """
    graph = FORMATS[format].graph if format in FORMATS else None
    if graph is not None:
        types = graph.weight_types(Path(path))
        if types & {"i8", "u8"} or QUANTIZERS & set(operators(path)):
            return "int8"
        return "float16" if "f16" in types else "float32"
    asked = (metadata.get("args") or {}).get("quantize")
    return {None: "float32", 32: "float32", 16: "float16"}.get(asked, "int8")
