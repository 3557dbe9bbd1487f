#!/usr/bin/env bash
# ai-edge-litert 2.3.0 (LiteRT's interpreter with XNNPACK, x86-64, one thread): a float depthwise convolution with a kernel
# of 6x6 or larger leaves the fast kernels, which end at 25 taps, and nothing says so.
# Expected: time in proportion to the taps, so 6x6 takes 1.44 times as long as 5x5, and 7x7 1.96 times.
# Seen: 7x7 takes about thirty times as long as 5x5; a multiplication costs twelve to eighteen times as much.
# A 7x7 depthwise layer, as in ConvNeXt or large-kernel detectors, is better cut into stacked ones of 3x3 or 5x5 here.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ai-edge-litert==2.3.0 numpy==2.4.6
cd "$folder"
cat > make.py <<'PY'
"""Write float LiteRT files of one depthwise convolution each, and time them in turn on one thread."""
import time
import flatbuffers, numpy as np
from ai_edge_litert import schema_py_generated as s
from ai_edge_litert.interpreter import Interpreter

def tensor(g, m, shape, data=None):
    t = s.TensorT()
    t.shape, t.type, t.name, t.buffer = list(shape), s.TensorType.FLOAT32, f"t{len(g.tensors)}".encode(), 0
    if data is not None:
        b = s.BufferT(); b.data = np.frombuffer(np.float32(data).tobytes(), np.uint8); m.buffers.append(b); t.buffer = len(m.buffers) - 1
    g.tensors.append(t)
    return len(g.tensors) - 1

def load(k, size=64, c=64):
    m, g = s.ModelT(), s.SubGraphT()
    m.version, m.buffers, m.subgraphs, g.tensors = 3, [s.BufferT()], [g], []
    code = s.OperatorCodeT(); code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.DEPTHWISE_CONV_2D; code.version = 1
    m.operatorCodes = [code]
    x, w = tensor(g, m, (1, size, size, c)), tensor(g, m, (1, k, k, c), np.ones((1, k, k, c)) / k**2)
    b, y = tensor(g, m, (c,), np.zeros(c)), tensor(g, m, (1, size, size, c))
    o, q = s.OperatorT(), s.DepthwiseConv2DOptionsT()
    q.padding, q.strideW, q.strideH, q.dilationWFactor, q.dilationHFactor, q.depthMultiplier = s.Padding.SAME, 1, 1, 1, 1, 1
    o.opcodeIndex, o.inputs, o.outputs = 0, [x, w, b], [y]
    o.builtinOptionsType, o.builtinOptions = s.BuiltinOptions.DepthwiseConv2DOptions, q
    g.operators, g.inputs, g.outputs = [o], [x], [y]
    f = flatbuffers.Builder(1024); f.Finish(m.Pack(f), b"TFL3")
    i = Interpreter(model_content=bytes(f.Output()), num_threads=1); i.allocate_tensors()
    i.set_tensor(x, np.ones((1, size, size, c), np.float32)); i.invoke()
    assert np.allclose(i.get_tensor(y)[0, size // 2, size // 2], 1, atol=1e-5)  # the right answer, fast or slow
    return i

files = {k: load(k) for k in (3, 5, 6, 7)}
best = dict.fromkeys(files, float("inf"))
for _ in range(60):  # in turn, so that a busy machine meets all of them
    for k, i in files.items():
        t = time.perf_counter(); i.invoke(); best[k] = min(best[k], time.perf_counter() - t)
for k in files:
    print(f"{k}x{k} depthwise: {best[k] * 1e3:.2f} ms, {best[k] / (k * k * 64**3) * 1e12:,.0f} ps for each multiplication")
assert best[5] < 6 * best[3], best
assert best[6] > 5 * best[5] and best[7] > 7 * best[5], best  # in proportion: 1.44 and 1.96
print("as described: LiteRT 2.3.0 runs a depthwise kernel of more than 25 taps several times slower than its size explains")
PY
venv/bin/python make.py 2>&1 | grep -E "^[0-9]x|^as desc|Error"
