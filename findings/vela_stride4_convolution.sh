#!/usr/bin/env bash
# ethos-u-vela 5.2.0: one int8 CONV_2D with a 4x4 kernel and stride 4, within the documented range of operators, becomes
# one NPU operation for every pixel of its output. The report calls it "NPU" all the same, with no warning. The same
# function as two convolutions of stride 2 becomes two operations and takes a fiftieth of the cycles.
# Expected: one operation, as for strides 1, 2 and 3. Seen: 64x64 px in, 16x16 out, 256 operations.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ethos-u-vela==5.2.0 ai-edge-litert==2.3.0 numpy==2.4.6
cd "$folder"
cat > make.py <<'PY'
"""Write int8 LiteRT files of one convolution each, check them in LiteRT's own interpreter, count Vela's operations."""
import csv, glob, subprocess, sys
import flatbuffers, numpy as np
from ai_edge_litert import schema_py_generated as s
from ai_edge_litert.interpreter import Interpreter

def tensor(g, m, shape, type, scale, data=None):
    t, q = s.TensorT(), s.QuantizationParametersT()
    t.quantization = q
    q.scale, q.zeroPoint = np.float32([scale]), np.zeros(1, np.int64)
    t.shape, t.type, t.name, t.buffer = list(shape), type, f"t{len(g.tensors)}".encode(), 0
    if data is not None:
        b = s.BufferT(); b.data = np.frombuffer(data.tobytes(), np.uint8); m.buffers.append(b); t.buffer = len(m.buffers) - 1
    g.tensors.append(t)
    return len(g.tensors) - 1

def write(path, kernel, stride, size=64, cin=3, cout=16):
    m, g = s.ModelT(), s.SubGraphT()
    m.version, m.buffers, m.subgraphs, g.tensors = 3, [s.BufferT()], [g], []
    code = s.OperatorCodeT(); code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.CONV_2D; code.version = 3
    m.operatorCodes = [code]
    rng, out = np.random.default_rng(0), (size - kernel) // stride + 1
    x = tensor(g, m, (1, size, size, cin), s.TensorType.INT8, 0.05)
    w = tensor(g, m, (cout, kernel, kernel, cin), s.TensorType.INT8, 0.01, rng.integers(-127, 128, (cout, kernel, kernel, cin), np.int8))
    b = tensor(g, m, (cout,), s.TensorType.INT32, 0.0005, np.zeros(cout, np.int32))
    y = tensor(g, m, (1, out, out, cout), s.TensorType.INT8, 0.1)
    o, c = s.OperatorT(), s.Conv2DOptionsT()
    c.padding, c.strideW, c.strideH, c.dilationWFactor, c.dilationHFactor = s.Padding.VALID, stride, stride, 1, 1
    o.opcodeIndex, o.inputs, o.outputs, o.builtinOptionsType, o.builtinOptions = 0, [x, w, b], [y], s.BuiltinOptions.Conv2DOptions, c
    g.operators, g.inputs, g.outputs = [o], [x], [y]
    f = flatbuffers.Builder(1024); f.Finish(m.Pack(f), b"TFL3"); open(path, "wb").write(f.Output())
    i = Interpreter(model_path=path); i.allocate_tensors(); i.invoke()  # a valid file
    return out

counts = {}
for stride in (1, 2, 3, 4):
    name = f"stride{stride}"
    out = write(f"{name}.tflite", 4, stride)
    done = subprocess.run([sys.executable, "-m", "ethosu.vela", f"{name}.tflite", "--accelerator-config", "ethos-u55-256",
                           "--verbose-performance", "--show-cpu-operations"], capture_output=True, text=True, check=True)
    rows = list(csv.DictReader(open(f"output/{name}_per-layer.csv")))
    assert all(r["Target"] == "NPU" for r in rows)
    counts[stride] = len(rows)
    cycles = sum(float(r["Op Cycles"]) for r in rows)
    print(f"4x4 kernel, stride {stride}: {out}x{out} out, {len(rows)} operations, {cycles:,.0f} cycles")
assert [counts[k] for k in (1, 2, 3, 4)] == [1, 1, 1, 256], counts
print("as described: vela 5.2.0 makes 256 operations of one convolution of stride 4")
PY
venv/bin/python make.py 2>&1 | grep -v "^INFO"
