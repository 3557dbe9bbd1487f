#!/usr/bin/env bash
# ultralytics 8.4.190, faster-coco-eval 1.8.0: COCO's run-length masks become label files whose holes are filled.
# Expected: a frame in the JSON is a frame in the labels (one outline can run round both edges, as a mask in several parts
# is joined), or a line that says what is lost.
# Seen: convert_coco(use_segments=True) takes the outer contour alone. The frame of 540 px becomes a full square of 1,024 when
# the labels are read again, without a warning: a network learns the hole as object.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 ultralytics==8.4.190 \
  faster-coco-eval==1.8.0 numpy==2.4.6
cd "$folder"
export YOLO_OFFLINE=1 YOLO_AUTOINSTALL=false YOLO_CONFIG_DIR="$folder" MPLBACKEND=Agg
cat > ring.py <<'PY'
"""Write a square ring as RLE, convert it, read the label file as training does, and count pixels."""
import json
from pathlib import Path
import cv2, numpy as np
from faster_coco_eval.core import mask as coco
from ultralytics.data.converter import convert_coco
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import polygon2mask

ring = np.zeros((64, 64), np.uint8)
ring[16:48, 16:48] = 1
ring[21:43, 21:43] = 0  # a frame of 32 px, 5 px wide
rle = coco.encode(np.asfortranarray(ring))
assert int(coco.area(rle)) == ring.sum()
rle["counts"] = rle["counts"].decode()
Path("json").mkdir()
annotation = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [16, 16, 32, 32], "area": int(ring.sum())}
data = {"images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}], "categories": [{"id": 1, "name": "ring"}]}
data["annotations"] = [{**annotation, "segmentation": rle}]
Path("json/instances_train.json").write_text(json.dumps(data))
convert_coco("json", "out", use_segments=True, cls91to80=False)
Path("out/images/train").mkdir()
cv2.imwrite("out/images/train/a.png", np.zeros((64, 64, 3), np.uint8))
label = YOLODataset("out/images/train", data={"names": {0: "ring"}, "channels": 3}, task="segment", augment=False).labels[0]
(outline,) = label["segments"]
filled = polygon2mask((64, 64), [(outline * 64).round().astype(int).ravel()])
print(f"pixels in the JSON: {ring.sum()}, in the label file: {filled.sum()}; in the middle of the hole: {filled[32, 32]}")
assert ring.sum() == 540 and filled[32, 32] == 1 and filled.sum() == 1024, (ring.sum(), filled.sum())
print("as described: ultralytics 8.4.190 fills the holes of COCO's run-length masks")
PY
venv/bin/python ring.py 2>&1 | grep -E "^pixels|^as desc|Error"
