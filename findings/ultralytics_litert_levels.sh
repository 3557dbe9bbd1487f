#!/usr/bin/env bash
# ultralytics 8.4.190, ai-edge-litert 2.3.0: an int8 file whose input is int8 too (third-party or full-integer ones) gets other
# pictures from Ultralytics than were made of the images: the back end divides by the input's scale and cuts the fraction off.
# Expected: rounding, as LiteRT's QUANTIZE does; grey level 255 is then 127, the largest there is.
# Seen: with the scale 1/255, which holds every level exactly, the levels 193 to 255 arrive one lower, as 193 / 255 / scale - 128 is
# 64.99999 in float32: no white is white. With the scale 1/230 dark levels are too high besides, as cutting goes towards int8's zero.
# A file's accuracy in val() is then not the one it has on the chip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 ultralytics==8.4.190 \
  ai-edge-litert==2.3.0 numpy==2.4.6
cd "$folder"
export YOLO_OFFLINE=1 YOLO_AUTOINSTALL=false YOLO_CONFIG_DIR="$folder" MPLBACKEND=Agg
cat > levels.py <<'PY'
"""Show every grey level 0 to 255 to an int8 file that changes nothing, through Ultralytics' LiteRT back end."""
import flatbuffers, numpy as np, torch
from ai_edge_litert import schema_py_generated as s
from ultralytics.nn.autobackend import AutoBackend

def write(scale):
    """Write a file of one pooling of 1x1, int8 in and out, with this scale; -128 is 0."""
    m, g = s.ModelT(), s.SubGraphT()
    m.version, m.buffers, m.subgraphs, g.tensors = 3, [s.BufferT()], [g], []
    for name in (b"x", b"y"):
        t, q = s.TensorT(), s.QuantizationParametersT()
        q.scale, q.zeroPoint = [scale], [-128]
        t.shape, t.type, t.name, t.buffer, t.quantization = [1, 16, 16, 3], s.TensorType.INT8, name, 0, q
        g.tensors.append(t)
    code = s.OperatorCodeT(); code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.MAX_POOL_2D; code.version = 2
    m.operatorCodes = [code]
    o, p = s.OperatorT(), s.Pool2DOptionsT()
    p.padding, p.strideW, p.strideH, p.filterWidth, p.filterHeight = s.Padding.VALID, 1, 1, 1, 1
    o.opcodeIndex, o.inputs, o.outputs, o.builtinOptionsType, o.builtinOptions = 0, [0], [1], s.BuiltinOptions.Pool2DOptions, p
    g.operators, g.inputs, g.outputs = [o], [0], [1]
    f = flatbuffers.Builder(1024); f.Finish(m.Pack(f), b"TFL3")
    with open("same.tflite", "wb") as file:
        file.write(f.Output())

levels = np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16).repeat(3, 1) / np.float32(255)

def arrive(scale):
    """Return which levels, counted in steps of the scale, arrive for the 256 grey levels, and which rounding gives."""
    write(scale)
    out = np.asarray(AutoBackend("same.tflite", device=torch.device("cpu"))(torch.from_numpy(levels))).reshape(16, 16, 3)[..., 0]
    return (out.ravel() / scale).round().astype(int), np.rint(levels[0, 0].ravel() / scale).clip(0, 255).astype(int)

for name, scale, expected in (("1/255", 1 / 255, (0, 63)), ("1/230", 1 / 230, None)):
    got, right = arrive(scale)
    up, down = np.flatnonzero(got > right), np.flatnonzero(got < right)
    print(f"scale {name}: of 256 grey levels {len(up)} arrive a step too high, {len(down)} a step too low; the low ones from "
          f"{down.min()} to {down.max()}; white is {got[255]} of {right[255]}")
    assert np.abs(got - right).max() == 1 and expected in ((len(up), len(down)), None), (up, down)
    assert expected or min(len(up), len(down)) > 40, (up, down)  # towards zero: up below it, down above it
print("as described: Ultralytics 8.4.190 cuts the fractions of an int8 input off")
PY
venv/bin/python levels.py 2>&1 | grep -E "^scale|^as desc|Error"
