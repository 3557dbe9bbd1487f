#!/usr/bin/env bash
# ensemble-boxes 1.0.9, weights= of several networks: the same call gives other scores each time, and a score may pass 1.
# Expected: a pure function; weighted_boxes_fusion(allows_overflow=False), its default, keeps a score at 1 or below, as it says.
# Seen: nms and soft_nms write the weighted scores into the lists that they were given. The second call weighs them again: 0.90 gives
# 0.60, then 0.40, then 0.27. In a loop over thresholds the last ones have lost all boxes.
# weighted_boxes_fusion gives 1.13 where the network of weight 2 (of 2 and 1) has two boxes on one object: it counts boxes, not networks.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ensemble-boxes==1.0.9 numba==0.67.0 numpy==2.4.6
cd "$folder"
cat > weigh.py <<'PY'
"""Fuse two boxes of one network and one of another, by NMS three times over and by weighted fusion."""
import warnings
from ensemble_boxes import nms, weighted_boxes_fusion

boxes = [[[0.1, 0.1, 0.5, 0.5], [0.11, 0.1, 0.51, 0.5]], [[0.6, 0.6, 0.9, 0.9]]]
scores, labels, weights = [[0.9, 0.8], [0.7]], [[0, 0], [0]], [2, 1]
fused = weighted_boxes_fusion(boxes, scores, labels, weights=weights, iou_thr=0.5, allows_overflow=False)[1]
highest = float(max(fused))
print(f"weighted_boxes_fusion, allows_overflow=False: highest score {highest:.2f}")
calls = [round(float(max(nms(boxes, scores, labels, iou_thr=0.5, weights=weights)[1])), 2) for _ in range(3)]
print(f"nms, the same call three times: highest score {calls}")
assert abs(highest - 1.7 * 2 / 3) < 1e-3 and calls == [0.6, 0.4, 0.27], (highest, calls)
print("as described: ensemble-boxes 1.0.9 weighs what it has weighed, and passes 1")
PY
venv/bin/python weigh.py 2>&1 | grep -E "^weigh|^nms|^as desc|Error"
