#!/usr/bin/env bash
# ultralytics 8.4.190, onnxruntime 1.32.0: a file exported with nms=True and validation's own thresholds (conf=0.001,
# iou=0.7, max_det=300) is scored by val() on other boxes than the network it came from.
# Expected: the same detections, since the file holds the same NMS with the same thresholds.
# Seen: val() of the network gives one box several labels (each class above conf is a candidate), the NMS in the file
# keeps the best class of each box only. Its metadata record neither this nor the thresholds, and val(iou=) of the file
# changes nothing, without a warning. So a mAP lost in such a file is not the loss of the export.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 ultralytics==8.4.190 \
  onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
export YOLO_OFFLINE=1 YOLO_AUTOINSTALL=false YOLO_CONFIG_DIR="$folder" MPLBACKEND=Agg
cat > make.py <<'PY'
"""Export a fresh network of three classes with the NMS in it, validate both, count the labels that each box gets."""
import ast, json
from collections import Counter
from pathlib import Path
import cv2, numpy as np, onnx, torch
from ultralytics import YOLO
from ultralytics.cfg import DEFAULT_CFG_DICT as default

for f in ("images", "labels"):
    Path(f).mkdir()
for k in range(2):
    cv2.imwrite(f"images/{k}.png", np.random.default_rng(k).integers(0, 256, (64, 64, 3), np.uint8))
    Path(f"labels/{k}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
Path("data.yaml").write_text(f"path: {Path.cwd()}\ntrain: images\nval: images\nnames: [a, b, c]\n")
text = (Path(__import__("ultralytics").__file__).parent / "cfg/models/11/yolo11.yaml").read_text()
Path("yolo11n.yaml").write_text(text.replace("nc: 80", "nc: 3"))

torch.manual_seed(0)
net = YOLO("yolo11n.yaml")
for branch in net.model.model[-1].cv3:
    torch.nn.init.constant_(branch[-1].bias, -1.0)  # every class of every box scores about 0.27
for branch in net.model.model[-1].cv2:
    branch[-1].bias.data.view(4, -1)[:, 1] = 10.0  # every box reaches one stride to each side, and stays in the image
net.model.names = {0: "a", 1: "b", 2: "c"}
file = net.export(format="onnx", nms=True, conf=0.001, iou=default["iou"], max_det=default["max_det"], imgsz=64)
recorded = ast.literal_eval({p.key: p.value for p in onnx.load(file).metadata_props}["args"])

def labels(model, name, **settings):
    """Return how many boxes of the two images have 1, 2 and 3 labels in what val() writes."""
    model.val(data="data.yaml", imgsz=64, batch=1, save_json=True, plots=False, workers=0, rect=False,
              project=str(Path.cwd()), name=name, **settings)
    rows = json.loads(Path(name, "predictions.json").read_text())
    return dict(sorted(Counter(Counter((r["image_id"], *r["bbox"]) for r in rows).values()).items()))

seen = {"network": labels(net, "net"), "file": labels(YOLO(file), "file"), "file, val(iou=0.2)": labels(YOLO(file), "low", iou=0.2)}
for name, boxes in seen.items():
    print(f"boxes with so many labels, {name}: {boxes}")
assert seen["network"].get(3, 0) > 20 and set(seen["file"]) == {1} and seen["file, val(iou=0.2)"] == seen["file"], seen
assert recorded["nms"] is True and not {"conf", "iou", "max_det"} & set(recorded), recorded
print("as described: the NMS that Ultralytics 8.4.190 puts into a file gives a box one label, its val() several")
PY
venv/bin/python make.py 2>&1 | grep -E "^boxes|^as desc|Error"
