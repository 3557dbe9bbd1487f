#!/usr/bin/env bash
# esp-ppq 1.3.12: espdl_quantize_onnx saves its simplified graph over the ONNX file that it was given to read.
# Expected: onnx_import_file is an input; it stays as it was. The signature and its docstring ("onnx model file path") say
# nothing else. Seen: its bytes are others afterwards, names of nodes that were folded are gone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q esp-ppq==1.3.12 torch==2.14.1 setuptools==80.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import hashlib

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from esp_ppq.api import espdl_quantize_onnx

# one 1x1 convolution behind an Identity, which the simplifier removes
weight = numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "weight")
nodes = [
    helper.make_node("Identity", ["images"], ["same"], name="keep_me"),
    helper.make_node("Conv", ["same", "weight"], ["out"], name="conv"),
]
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("images", "out")]
graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "mine.onnx")


def state():
    content = open("mine.onnx", "rb").read()
    return hashlib.sha256(content).hexdigest()[:12], [node.name for node in onnx.load("mine.onnx").graph.node]


before = state()
images = [torch.rand(1, 3, 8, 8) for _ in range(2)]
espdl_quantize_onnx("mine.onnx", "chip.espdl", images, 2, [1, 3, 8, 8], target="esp32p4", error_report=False)
after = state()
print("given file before", before)
print("given file after ", after)
changed = before != after
print("the input file was overwritten" if changed else "the input file is as it was: changed")
raise SystemExit(0 if changed else 1)
PY
