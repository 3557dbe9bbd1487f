#!/usr/bin/env bash
# ai-edge-quantizer 0.10.0 and ai-edge-litert 2.3.0: a map that is zero for every calibration sample, such as the output
# of a ReLU that no sample switches on, gets a step of 4e-12, and the quantizer writes the file without an error.
# Expected: a step that the runtime of the same project takes (any step describes a zero), or a refusal when quantizing.
# Seen: the default interpreter, with XNNPACK, refuses to load the file and names a node number, not the map. With the
# built-in kernels the same file runs. A detector calibrated on too few samples can meet it in its class branch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ai-edge-quantizer==0.10.0 ai-edge-litert==2.3.0 numpy==2.4.6
cd "$folder"
cat > make.py <<'PY'
"""Two 1x1 convolutions with a ReLU between them; calibrated on samples that do, and on samples that do not pass the ReLU."""
import flatbuffers, numpy as np
from ai_edge_litert import schema_py_generated as s
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_quantizer import quantizer, recipe

def tensor(g, m, shape, data=None):
    t = s.TensorT()
    t.shape, t.type, t.name, t.buffer = list(shape), s.TensorType.FLOAT32, f"t{len(g.tensors)}".encode(), 0
    if data is not None:
        b = s.BufferT(); b.data = np.frombuffer(np.float32(data).tobytes(), np.uint8); m.buffers.append(b); t.buffer = len(m.buffers) - 1
    g.tensors.append(t)
    return len(g.tensors) - 1

m, g = s.ModelT(), s.SubGraphT()
m.version, m.buffers, m.subgraphs, g.tensors, g.operators = 3, [s.BufferT()], [g], [], []
code = s.OperatorCodeT(); code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.CONV_2D; code.version = 1
m.operatorCodes = [code]
relu, none = s.ActivationFunctionType.RELU, s.ActivationFunctionType.NONE
x = at = tensor(g, m, (1, 8, 8, 4))
for bias, act in ((-0.5, relu), (1.0, none)):  # the first one passes what is above 0.5
    w, b = tensor(g, m, (4, 1, 1, 4), np.eye(4).reshape(4, 1, 1, 4)), tensor(g, m, (4,), np.full(4, bias))
    y = tensor(g, m, (1, 8, 8, 4))
    o, q = s.OperatorT(), s.Conv2DOptionsT()
    q.padding, q.strideW, q.strideH, q.dilationWFactor, q.dilationHFactor, q.fusedActivationFunction = s.Padding.VALID, 1, 1, 1, 1, act
    o.opcodeIndex, o.inputs, o.outputs, o.builtinOptionsType, o.builtinOptions = 0, [at, w, b], [y], s.BuiltinOptions.Conv2DOptions, q
    g.operators.append(o); at = y
g.inputs, g.outputs = [x], [y]
sign, i, j = s.SignatureDefT(), s.TensorMapT(), s.TensorMapT()
i.name, i.tensorIndex, j.name, j.tensorIndex = b"x", x, b"y", y
sign.signatureKey, sign.subgraphIndex, sign.inputs, sign.outputs = b"serving_default", 0, [i], [j]
m.signatureDefs = [sign]
f = flatbuffers.Builder(1024); f.Finish(m.Pack(f), b"TFL3"); open("float.tflite", "wb").write(f.Output())

def loads(path, kernels):
    try:
        i = Interpreter(model_path=path, experimental_op_resolver_type=kernels); i.allocate_tensors(); i.invoke()
    except RuntimeError as error:
        return f"refused: {error}"
    return "runs"

seen = {}
for name, top in (("bright", 1.0), ("dark", 0.4)):
    samples = [{"x": np.random.default_rng(k).uniform(0, top, (1, 8, 8, 4)).astype(np.float32)} for k in range(8)]
    q = quantizer.Quantizer("float.tflite", recipe.static_wi8_ai8())
    q.quantize(q.calibrate({"serving_default": samples})).export_model(f"{name}.tflite", overwrite=True)
    plain = Interpreter(model_path=f"{name}.tflite", experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    step = min(t["quantization"][0] for t in plain.get_tensor_details() if t["dtype"] is np.int8 and t["quantization"][0] > 0)
    seen[name] = loads(f"{name}.tflite", OpResolverType.AUTO), loads(f"{name}.tflite", OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    print(f"calibrated on {name} samples: smallest step {step:.1e}; XNNPACK {seen[name][0]}; built-in kernels {seen[name][1]}")
assert seen["bright"] == ("runs", "runs"), seen
assert seen["dark"][0].startswith("refused") and seen["dark"][1] == "runs" and step < 1e-9, (seen, step)
print("as described: ai-edge-quantizer 0.10.0 writes a step that XNNPACK refuses for a map that calibration left at zero")
PY
venv/bin/python make.py 2>&1 | grep -E "^calibrated|^as desc|Error"
