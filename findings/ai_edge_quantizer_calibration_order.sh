#!/usr/bin/env bash
# ai-edge-quantizer 0.10.0, the static int8 recipe: its algorithm is named "min_max_uniform_quantize", but the range of a
# tensor is a moving average that begins at the first sample and keeps 95% of the old value for each one after it.
# Expected: the smallest and the largest value over the calibration set, or at least a result that does not depend on the
# order. Seen: the same twenty samples, nineteen with a peak of 0.1 and one with a peak of 1.0, give a range of 0.44 with
# the bright one first and 0.145 with it last: the int8 file then cuts that very sample off at 14% of its peak.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ai-edge-quantizer==0.10.0 ai-edge-litert==2.3.0 numpy==2.4.6
cd "$folder"
cat > make.py <<'PY'
"""Write a float LiteRT file that multiplies by one, calibrate it in two orders, read the int8 files back."""
import flatbuffers, numpy as np
from ai_edge_litert import schema_py_generated as s
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe

def tensor(g, m, shape, data=None):
    t = s.TensorT()
    t.shape, t.type, t.name, t.buffer = list(shape), s.TensorType.FLOAT32, f"t{len(g.tensors)}".encode(), 0
    if data is not None:
        b = s.BufferT(); b.data = np.frombuffer(np.float32(data).tobytes(), np.uint8); m.buffers.append(b); t.buffer = len(m.buffers) - 1
    g.tensors.append(t)
    return len(g.tensors) - 1

m, g = s.ModelT(), s.SubGraphT()
m.version, m.buffers, m.subgraphs, g.tensors = 3, [s.BufferT()], [g], []
code = s.OperatorCodeT(); code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.CONV_2D; code.version = 1
m.operatorCodes = [code]
x, w, b = tensor(g, m, (1, 8, 8, 1)), tensor(g, m, (1, 1, 1, 1), np.ones((1, 1, 1, 1))), tensor(g, m, (1,), np.zeros(1))
y = tensor(g, m, (1, 8, 8, 1))
o, c = s.OperatorT(), s.Conv2DOptionsT()
c.padding, c.strideW, c.strideH, c.dilationWFactor, c.dilationHFactor = s.Padding.VALID, 1, 1, 1, 1
o.opcodeIndex, o.inputs, o.outputs, o.builtinOptionsType, o.builtinOptions = 0, [x, w, b], [y], s.BuiltinOptions.Conv2DOptions, c
g.operators, g.inputs, g.outputs = [o], [x], [y]
sign, i, j = s.SignatureDefT(), s.TensorMapT(), s.TensorMapT()
i.name, i.tensorIndex, j.name, j.tensorIndex = b"x", x, b"y", y
sign.signatureKey, sign.subgraphIndex, sign.inputs, sign.outputs = b"serving_default", 0, [i], [j]
m.signatureDefs = [sign]
f = flatbuffers.Builder(1024); f.Finish(m.Pack(f), b"TFL3"); open("float.tflite", "wb").write(f.Output())

ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1)  # 0 to 1
assert {r["algorithm_key"] for r in recipe.static_wi8_ai8()} == {"min_max_uniform_quantize"}

def run(peaks):
    """Return the range the input got, and the peak that comes out of the int8 file for the sample with peak 1."""
    q = quantizer.Quantizer("float.tflite", recipe.static_wi8_ai8())
    found = q.calibrate({"serving_default": [{"x": ramp * np.float32(p)} for p in peaks]})
    q.quantize(found).export_model("int8.tflite", overwrite=True)
    i = Interpreter(model_path="int8.tflite"); i.allocate_tensors()
    (scale, zero), at = i.get_input_details()[0]["quantization"], i.get_input_details()[0]["index"]
    i.set_tensor(at, np.clip(np.rint(ramp / scale + zero), -128, 127).astype(np.int8)); i.invoke()
    out = i.get_output_details()[0]
    (s2, z2) = out["quantization"]
    return float(found["t0"]["max"].max()), float((i.get_tensor(out["index"]).max() - np.float64(z2)) * s2)

first, last = run([1.0] + [0.1] * 19), run([0.1] * 19 + [1.0])
for name, (top, peak) in (("first", first), ("last", last)):
    print(f"bright sample {name}: calibrated maximum {top:.3f}, its peak of 1.000 comes out as {peak:.3f}")
assert np.isclose(first[0], 0.1 + 0.9 * 0.95**19, atol=1e-3) and np.isclose(last[0], 0.145, atol=1e-3), (first, last)
assert np.isclose(first[1], first[0], rtol=0.02) and np.isclose(last[1], last[0], rtol=0.02), (first, last)
print("as described: ai-edge-quantizer 0.10.0 averages the ranges, and the order of the samples sets them")
PY
venv/bin/python make.py 2>&1 | grep -E "^bright|^as desc|Error|assert"
