#!/usr/bin/env bash
# onnxruntime 1.32.0, quantize_static with extra_options={"CalibMaxIntermediateOutputs": n}, which is there to save memory
# ("the maximum number of intermediate outputs before an intermediate range is computed"): each time n samples have been
# collected they are thrown away, and no range is computed of them.
# Expected: the ranges that all samples have without the option.
# Seen: only the samples after the last full n count. Of nine, one of them with a peak of 1.0 and eight of 0.1, n = 4 uses the
# last one alone: the range ends at 0.1, and the int8 file cuts the bright sample off at a tenth of its peak, without a
# warning. Where n divides the number of samples, "No data is collected" is raised.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 sympy==1.14.0
cd "$folder"
cat > make.py <<'PY'
"""Quantise a file that multiplies by one, with and without the option, and run it on the bright sample."""
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

shape = [1, 1, 4, 4]
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")
graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "one", [x], [y], [weight])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "float.onnx")
ramp = np.linspace(0, 1, 16, dtype=np.float32).reshape(shape)

class Samples(CalibrationDataReader):
    def __init__(self, peaks):
        self.left = iter(peaks)

    def get_next(self):
        peak = next(self.left, None)
        return None if peak is None else {"x": ramp * np.float32(peak)}

def run(peaks, **options):
    """Return the end of the calibrated range, and the peak that the int8 file gives for the sample with peak 1."""
    quantize_static("float.onnx", "int8.onnx", Samples(peaks), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8, extra_options=options)
    scale = next(numpy_helper.to_array(i) for i in onnx.load("int8.onnx").graph.initializer if i.name == "x_scale")
    (out,) = InferenceSession("int8.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": ramp})
    return float(scale) * 255, float(out.max())

peaks = [1.0] + [0.1] * 8
whole, cut, late = run(peaks), run(peaks, CalibMaxIntermediateOutputs=4), run(peaks[::-1], CalibMaxIntermediateOutputs=4)
for name, (end, peak) in (("without the option", whole), ("n = 4", cut), ("n = 4, bright sample last", late)):
    print(f"nine samples, {name}: range ends at {end:.2f}, a peak of 1.00 comes out as {peak:.2f}")
try:
    run(peaks, CalibMaxIntermediateOutputs=3)
    said = "nothing"
except ValueError as error:
    said = str(error)
print(f"nine samples, n = 3: {said}")
assert np.allclose(whole, 1, atol=0.01) and np.allclose(late, 1, atol=0.01), (whole, late)
assert np.allclose(cut, 0.1, atol=0.002) and said == "No data is collected.", (cut, said)
print("as described: ONNX Runtime 1.32.0 drops the samples that CalibMaxIntermediateOutputs has filled")
PY
venv/bin/python make.py 2>&1 | grep -E "^nine|^as desc|Error"
