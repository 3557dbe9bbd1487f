#!/usr/bin/env bash
# ultralytics 8.4.190, task=pose: how far a key point may be off depends on how many key points an object has. Unless they are COCO's
# 17, each gets the tolerance ("sigma" of COCO's similarity) 1/n: 1.0 where there is one, 0.1 for ten. COCO's own are 0.025 to 0.107.
# Expected: a tolerance of the points' kind, or a score that falls when the points are wrong.
# Seen: with one key point, in the box's centre by the labels, a network that says "the upper left corner" for every object, wrong by
# half the box's diagonal, has a pose mAP50-95 of 0.8, with ten points so placed 0.0. val says nothing of it. So the mAP of sets with
# few key points is that of the boxes, and scores of sets with different numbers of points do not compare.
# kpt_oks_sigmas in the data YAML ([0.05] here) changes the score, not the loss of the training, which keeps 1/n.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 ultralytics==8.4.190 numpy==2.4.6
cd "$folder"
export YOLO_OFFLINE=1 YOLO_AUTOINSTALL=false YOLO_CONFIG_DIR="$folder" MPLBACKEND=Agg
cat > points.py <<'PY'
"""Validate a "network" that knows every box and puts every key point into the box's corner, for sets of 1 to 20 key points."""
from pathlib import Path
import cv2, numpy as np, torch
from ultralytics import YOLO
from ultralytics.models.yolo.pose import PoseValidator

SIDE, BOX = 128, 40
CORNERS = [(12, 12), (70, 16), (20, 76), (76, 80)]
Path("images").mkdir(); Path("labels").mkdir()
for k in range(2):
    cv2.imwrite(f"images/{k}.png", np.full((SIDE, SIDE, 3), 114, np.uint8))

class Corner(PoseValidator):
    """Takes these boxes and corners in place of what the network gives."""

    def postprocess(self, preds):
        n = self.kpt_shape[0]
        x = torch.tensor(CORNERS, dtype=torch.float32)
        points = torch.cat([x, torch.ones(len(x), 1)], 1)[:, None].repeat(1, n, 1)
        return [dict(bboxes=torch.cat([x, x + BOX], 1), conf=torch.full((len(x),), 0.9), cls=torch.zeros(len(x)), keypoints=points) for _ in range(self.images)]

    def preprocess(self, batch):
        self.images = len(batch["img"])
        return super().preprocess(batch)

def score(points, sigmas=None):
    """Return mAP50-95 of boxes and of key points."""
    Path("labels/labels.cache").unlink(missing_ok=True); Path("labels.cache").unlink(missing_ok=True)
    rows = [[0, (x + BOX / 2) / SIDE, (y + BOX / 2) / SIDE, BOX / SIDE, BOX / SIDE] + [(x + BOX / 2) / SIDE, (y + BOX / 2) / SIDE, 2] * points for x, y in CORNERS]
    for k in range(2):
        Path(f"labels/{k}.txt").write_text("".join(" ".join(map(str, r)) + "\n" for r in rows))
    Path("data.yaml").write_text(f"path: {Path.cwd()}\ntrain: images\nval: images\nnames: [thing]\nkpt_shape: [{points}, 3]\n"
                                 + (f"kpt_oks_sigmas: {sigmas}\n" if sigmas else ""))
    text = (Path(__import__("ultralytics").__file__).parent / "cfg/models/11/yolo11-pose.yaml").read_text()
    Path("yolo11n-pose.yaml").write_text(text.replace("kpt_shape: [17, 3]", f"kpt_shape: [{points}, 3]"))
    found = YOLO("yolo11n-pose.yaml").val(validator=Corner, data="data.yaml", imgsz=SIDE, batch=2, rect=False, plots=False, workers=0, verbose=False)
    return float(found.box.map), float(found.pose.map)

seen = {}
for points, sigmas in ((1, None), (2, None), (5, None), (10, None), (20, None), (1, [0.05])):
    seen[points, bool(sigmas)] = score(points, sigmas)
    print(f"{points} key points, all in the wrong place, {'sigmas ' + str(sigmas) if sigmas else 'defaults'}: mAP50-95 of boxes "
          f"{seen[points, bool(sigmas)][0]:.2f}, of key points {seen[points, bool(sigmas)][1]:.2f}")
assert all(box > 0.99 for box, _ in seen.values()), seen
assert seen[1, False][1] > 0.75 and seen[10, False][1] < 0.01 and seen[20, False][1] < 0.01 and seen[1, True][1] < 0.01, seen
print("as described: Ultralytics 8.4.190 judges the fewer key points, the more mildly")
PY
venv/bin/python points.py 2>&1 | grep -E "^[0-9]+ key|^as desc|Error"
