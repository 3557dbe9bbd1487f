#!/usr/bin/env bash
# esp-ppq 1.3.12: with its default calibration ("kl") a map whose values are all far from 0 becomes one constant, outside
# the map's whole range. Scales are powers of two without zero point: of -11.3 .. -10.5 the file makes -8.0 everywhere
# (scale 1/16, clipped at -128); with "minmax" the same map keeps several steps around the right values. Score maps of
# detectors (logits of a level on which nothing is found in the calibration images) are such maps.
# Expected: a method that chooses a range from the values at least covers some of them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q esp-ppq==1.3.12 torch==2.14.1 setuptools==80.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import shutil

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from esp_ppq.api import espdl_quantize_onnx
from esp_ppq.api.setting import QuantizationSettingFactory
from esp_ppq.executor import TorchExecutor

torch.manual_seed(0)
arrays = {"weight": np.full((1, 3, 1, 1), 0.27, np.float32), "bias": np.array([-11.3], np.float32)}
values = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
node = helper.make_node("Conv", ["images", "weight", "bias"], ["out"], name="conv")
ends = [
    helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 10, 10])
    for name, channels in (("images", 3), ("out", 1))
]
graph = helper.make_graph([node], "g", ends[:1], ends[1:], values)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "mine.onnx")
images = [torch.rand(1, 3, 10, 10) for _ in range(8)]
true = 0.27 * images[0].sum(1) - 11.3
print(f"float: {true.min():.3f} to {true.max():.3f}")
found = {}
for method in ("kl", "minmax"):
    setting = QuantizationSettingFactory.espdl_setting(num_of_bits=8)
    default = setting.quantize_activation_setting.calib_algorithm
    setting.quantize_activation_setting.calib_algorithm = method
    shutil.copy("mine.onnx", "copy.onnx")
    given = {"target": "esp32p4", "error_report": False, "setting": setting}
    made = espdl_quantize_onnx("copy.onnx", "chip.espdl", images, 8, [1, 3, 10, 10], **given)
    out = TorchExecutor(made, device="cpu")(images[0])[0].detach()
    found[method] = out
    print(f"{method} (default: {default}): {out.min():.3f} to {out.max():.3f}, {len(out.unique())} values")
seen = float(found["kl"].min()) > float(true.max()) and len(found["kl"].unique()) == 1
seen = seen and float((found["minmax"][0] - true).abs().max()) < 0.2
print("all values lie outside the map's range" if seen else "changed")
raise SystemExit(0 if seen else 1)
PY
