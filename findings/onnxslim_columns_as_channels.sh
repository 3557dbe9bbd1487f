#!/usr/bin/env bash
# onnxslim 0.1.98: a convolution followed by a multiplication with one factor for each column (or row) of the map becomes a
# convolution that multiplies each *channel* by these factors, where the map is as many columns wide as it has channels.
# Expected: the same function, or no fusion: the addition of the same constant is left alone.
# Seen: [1, 1, 1, 8], [1, 1, 8, 1] and [8] are all taken for [1, 8, 1, 1], without a warning; the outputs are wrong by as much
# as they are large. Ultralytics 8.4.190 slims what it exports to ONNX by default. The shape decides: at another input size the
# same network is exported rightly.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxslim==0.1.98 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
cat > make.py <<'PY'
"""Slim a convolution of eight channels and a factor (or term) of eight numbers along each axis; compare the outputs."""
import numpy as np, onnx, onnxslim
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

rng = np.random.default_rng(0)
CHANNELS = 8

def compare(op, shape, side):
    """Return the operators after slimming and the largest difference, as a share of the largest output."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, side, side])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CHANNELS, side, side])
    constants = {"w": rng.normal(size=(CHANNELS, 3, 3, 3)), "k": rng.uniform(0, 1, shape)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4), helper.make_node(op, ["c", "k"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    slim = onnxslim.slim(model)
    picture = {"x": rng.normal(size=(1, 3, side, side)).astype(np.float32)}
    before, after = (InferenceSession(m.SerializeToString()).run(None, picture)[0] for m in (model, slim))
    return [n.op_type for n in slim.graph.node], float(np.abs(before - after).max() / np.abs(before).max())

wrong = {}
for op, side, shapes in (("Mul", 8, [(1, 8, 1, 1), (1, 1, 1, 8), (1, 1, 8, 1), (8,)]), ("Add", 8, [(1, 1, 1, 8)]), ("Mul", 16, [(1, 1, 1, 16)])):
    for shape in shapes:
        left, share = compare(op, shape, side)
        wrong[op, side, shape] = share
        print(f"Conv, {op} with {list(shape)}, map 8 x {side} x {side}: {left}, largest difference {share:.2f} of the largest output")
bad = {("Mul", 8, (1, 1, 1, 8)), ("Mul", 8, (1, 1, 8, 1)), ("Mul", 8, (8,))}
assert all((share > 0.2) == (case in bad) for case, share in wrong.items()), wrong
assert all(share < 1e-5 for case, share in wrong.items() if case not in bad), wrong
print("as described: onnxslim 0.1.98 multiplies channels in place of columns")
PY
venv/bin/python make.py 2>&1 | grep -E "^Conv,|^as desc|Error"
