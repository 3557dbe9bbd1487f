#!/usr/bin/env bash
# nncf 3.4.0 with openvino 2026.4.1, nncf.quantize with its defaults: how the calibration images are put into batches, and whether
# the object that holds the batches has an attribute "batch_size", sets the ranges of the int8 maps.
# Expected: twenty images give one range, however they are handed over.
# Seen: a map's range ends at the mean of the maxima of the batches. Nineteen images with a peak of 0.1 and one of 1.0 give 0.145 one by
# one, 0.325 in batches of five and 1.0 in one batch of twenty: the more in a batch, the wider. The same batches from an object with a
# batch_size, as torch's DataLoader has, give 0.145 always: then NNCF takes the images apart again, and a list or a generator has none.
# The range of the images one by one cuts the bright one off at 15% of its peak. RangeEstimatorParametersSet.MINMAX gives 1.0 in all cases.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nncf==3.4.0 openvino==2026.4.1 numpy==2.4.6
cd "$folder"
cat > make.py <<'PY'
"""Quantise a network that multiplies by one with the same twenty images, handed over in several ways."""
import logging
import numpy as np, nncf, openvino, openvino.opset13 as op
from nncf.quantization.range_estimator import RangeEstimatorParametersSet

nncf.set_log_level(logging.ERROR)
ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)
images = [ramp * np.float32(0.1)] * 19 + [ramp]

class Loader(list):
    """What NNCF asks of torch's DataLoader: the batches and how large they are."""
    batch_size = 1

def end(batch, loader=False, **settings):
    """Return where the range of the input ends, with batches of so many images, and the bright image's peak after int8."""
    x = op.parameter((batch, 1, 8, 8), np.float32, name="x")
    x.output(0).get_tensor().set_names({"x"})
    y = op.convolution(x, op.constant(np.ones((1, 1, 1, 1), np.float32)), [1, 1], [0, 0], [0, 0], [1, 1])
    batches = Loader(np.concatenate(images[i : i + batch]) for i in range(0, 20, batch))
    batches.batch_size = batch
    done = nncf.quantize(openvino.Model([op.result(y)], [x], "one"), nncf.Dataset(batches if loader else list(batches)),
                         advanced_parameters=nncf.AdvancedQuantizationParameters(**settings))
    fake = next(n for n in done.get_ordered_ops() if n.get_type_name() == "FakeQuantize" and n.input_value(0).get_node().get_type_name() == "Parameter")
    run = openvino.Core().compile_model(done, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    peak = run([np.repeat(ramp, batch, 0)])[0].max()
    return float(fake.input_value(2).get_node().get_data().max()), float(peak)

seen = {}
for batch in (1, 5, 20):
    for loader in (False, True):
        seen[batch, loader] = end(batch, loader)
        print(f"batches of {batch} from {'an object with batch_size' if loader else 'a list'}: the range ends at {seen[batch, loader][0]:.3f}, "
              f"the bright image's peak of 1.000 comes out as {seen[batch, loader][1]:.3f}")
wide = [end(batch, loader, activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX)[0] for batch, loader in seen]
print(f"batches with MINMAX: {wide}")
expected = {(1, False): 0.145, (5, False): 0.325, (20, False): 1.0, (1, True): 0.145, (5, True): 0.145, (20, True): 0.145}
assert all(np.allclose(seen[case], expected[case], rtol=0.02) for case in seen), seen
assert np.allclose(wide, 1), wide
print("as described: NNCF 3.4.0 sets ranges by how images are put into batches")
PY
venv/bin/python make.py 2>&1 | grep -E "^batches|^as desc|Error"
