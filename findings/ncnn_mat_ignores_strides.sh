#!/usr/bin/env bash
# ncnn 1.0.20261020, Python: ncnn.Mat(array) takes the array's shape and ignores its strides, without a word.
# Expected: the array's values, as OpenVINO, ONNX Runtime and MNN take them, or an error.
# Seen: a picture [H, W, 3] turned into [3, H, W] by .transpose(2, 0, 1), a view on the same memory, arrives as rows of interleaved
# channels: of an all-red picture the network sees a third of each colour, in stripes. Nothing fails, and what a detector then
# misses looks like the loss of an export. A crop of an array arrives as its first numbers in memory. clone() comes too late, and
# arithmetic on the view (/ 255) does not help, as NumPy keeps the order of the memory; numpy.ascontiguousarray before does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ncnn==1.0.20261020 numpy==2.4.6
cd "$folder"
cat > red.py <<'PY'
"""Give an all-red picture to a network that takes the mean of each channel, and a crop to one that changes nothing."""
import ncnn, numpy as np

MEAN, SAME = "Pooling one 1 1 in0 out0 0=1 4=1", "Noop one 1 1 in0 out0"

def run(layer, array):
    """Return the output of one layer for an array."""
    with open("net.param", "w") as f:
        f.write(f"7767517\n2 2\nInput in0 0 1 in0\n{layer}\n")
    open("net.bin", "wb").close()
    net = ncnn.Net()
    net.load_param("net.param"), net.load_model("net.bin")
    extractor = net.create_extractor()
    extractor.input("in0", ncnn.Mat(array).clone())
    return np.array(extractor.extract("out0")[1]).squeeze()

picture = np.zeros((32, 48, 3), np.uint8)
picture[..., 0] = 255  # red, green, blue
view = picture.transpose(2, 0, 1) / np.float32(255)
assert view.dtype == np.float32 and view.shape == (3, 32, 48) and view[0].min() == 1 and not view[1:].any() and not view.flags.c_contiguous
seen, right = run(MEAN, view), run(MEAN, np.ascontiguousarray(view))
print(f"mean of red, green and blue in an all-red picture: {seen.round(2).tolist()}, with ascontiguousarray {right.round(2).tolist()}")
crop = np.arange(64, dtype=np.float32).reshape(1, 8, 8)[:, 2:4, 2:4]
seen_crop, right_crop = run(SAME, crop), run(SAME, np.ascontiguousarray(crop))
print(f"a crop of 2x2: {seen_crop.ravel().tolist()}, with ascontiguousarray {right_crop.ravel().tolist()}")
assert np.allclose(right, [1, 0, 0], atol=0.01) and np.allclose(seen, 1 / 3, atol=0.01), (seen, right)
assert np.array_equal(right_crop, crop[0]) and np.array_equal(seen_crop.ravel(), [18, 19, 20, 21]), (seen_crop, right_crop)
print("as described: ncnn 1.0.20261020 ignores the strides of an array")
PY
venv/bin/python red.py 2>&1 | grep -E "^mean|^a crop|^as desc|Error"
