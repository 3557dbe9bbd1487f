#!/usr/bin/env bash
# ultralytics 8.4.190: three objects in a row, each overlapping the next. As upright boxes two are found, as turned boxes one.
# Expected: a box goes where a surer box that stays covers it. The middle one goes, the last one, which only the middle one
# covers, stays: so it is for upright boxes.
# Seen: suppression of turned boxes also counts boxes that have themselves been taken away. The last one goes too, at
# angle 0 and a threshold that lies between the two overlaps in either measure. Rows of parked cars or ships thin out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 ultralytics==8.4.190 numpy==2.4.6
cd "$folder"
export YOLO_OFFLINE=1 YOLO_AUTOINSTALL=false YOLO_CONFIG_DIR="$folder" MPLBACKEND=Agg
cat > row.py <<'PY'
"""Suppress three squares of 10 px, 2 px apart, as a head gives them: once as upright boxes, once as turned ones."""
import torch
from ultralytics.utils.metrics import batch_probiou, box_iou
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import xywh2xyxy

boxes = torch.tensor([[20.0, 20, 10, 10], [22, 20, 10, 10], [24, 20, 10, 10]])
scores, angles = torch.tensor([[0.9], [0.8], [0.7]]), torch.zeros(3, 1)
turned = torch.cat([boxes, angles], 1)
overlaps = {"upright": box_iou(*[xywh2xyxy(boxes)] * 2), "turned": batch_probiou(turned, turned)}
found = {}
for kind, more in (("upright", []), ("turned", [angles])):
    next_one, last = overlaps[kind][0, 1].item(), overlaps[kind][0, 2].item()
    iou = (next_one + last) / 2
    output = torch.cat([boxes, scores, *more], 1).T[None]  # [1, 4 + classes (+ angle), anchors]
    kept = non_max_suppression(output, conf_thres=0.25, iou_thres=iou, nc=1, rotated=kind == "turned")[0]
    found[kind] = [round(x, 1) for x in kept[:, 4].tolist()]
    print(f"{kind}: a box covers the next by {next_one:.2f}, the one after by {last:.2f}; iou={iou:.2f} keeps scores {found[kind]}")
assert found == {"upright": [0.9, 0.7], "turned": [0.9]}, found
print("as described: in a row of turned boxes ultralytics 8.4.190 suppresses by boxes that it has suppressed")
PY
venv/bin/python row.py 2>&1 | grep -E "^upright|^turned|^as desc|Error"
