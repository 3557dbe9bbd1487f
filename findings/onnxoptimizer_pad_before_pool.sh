#!/usr/bin/env bash
# onnxoptimizer 0.4.2, optimize() as called by default: a Pad with zeros followed by a MaxPool becomes a MaxPool with that padding.
# A MaxPool pads with minus infinity, so where a map is negative at its border the zeros won before and the map's own value
# wins after. Expected: no fusion, or one for maps known to be 0 and above, after a ReLU.
# Seen: fused without a look at what comes before; wrong by 0.28 after a SiLU, whose lowest value that is. An AveragePool that
# leaves its own padding out of the mean (count_include_pad=0) then leaves the zeros out too. YOLOv3-tiny pads and pools so.
# onnxsim 0.8.1 (which brings these passes of its own) and ONNX Runtime 1.32.0 leave such a Pad or keep its numbers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxoptimizer==0.4.2 onnxsim==0.8.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
cat > make.py <<'PY'
"""Optimise SiLU, Pad with zeros and a pool; compare the outputs before and after."""
import numpy as np, onnx, onnxoptimizer, onnxsim
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

x = np.random.default_rng(0).normal(-1, 0.5, (1, 4, 8, 8)).astype(np.float32)

def build(pool, activation="SiLU", **options):
    """Return a model: activation, a row and a column of zeros to the right and below, a pool of 2x2, stride 1."""
    first = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["a"])]
    if activation == "ReLU":
        first = [helper.make_node("Relu", ["x"], ["a"])]
    nodes = [*first, helper.make_node("Pad", ["a", "pads"], ["p"]), helper.make_node(pool, ["p"], ["y"], kernel_shape=[2, 2], **options)]
    pads = numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64), "pads")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", x.shape), ("y", None))]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], [pads]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    return model

def run(model):
    return InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]

off = {}
for name, model in (("SiLU, MaxPool", build("MaxPool")), ("ReLU, MaxPool", build("MaxPool", "ReLU")),
                    ("SiLU, AveragePool with pads", build("AveragePool", count_include_pad=0, pads=[1, 1, 0, 0]))):
    before = run(model)
    for tool, after in (("onnxoptimizer", onnxoptimizer.optimize(model)), ("onnxsim", onnxsim.simplify(model)[0])):
        off[name, tool] = float(np.abs(run(after) - before).max())
        print(f"{name}, {tool}: {[n.op_type for n in after.graph.node][-2:]}, largest difference {off[name, tool]:.3f}, largest output {np.abs(before).max():.3f}")
wrong = {key for key, size in off.items() if size > 0.1}
assert wrong == {("SiLU, MaxPool", "onnxoptimizer"), ("SiLU, AveragePool with pads", "onnxoptimizer")}, off
assert all(size < 1e-5 for key, size in off.items() if key not in wrong), off
print("as described: onnxoptimizer 0.4.2 makes zeros into minus infinity")
PY
venv/bin/python make.py 2>&1 | grep -E "^SiLU|^ReLU|^as desc|Error"
