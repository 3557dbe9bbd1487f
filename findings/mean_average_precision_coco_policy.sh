#!/usr/bin/env bash
# mean-average-precision 2024.1.5.0, called as its page says for COCO's numbers (mpolicy="soft", 101 recalls, ten overlaps): a
# network without a fault has a mAP of 0.34 where pycocotools gives 1.00.
# Expected: difficult objects and crowds are left aside, found or not; a class without objects has no say.
# Seen: both are counted among the objects to be found, though a box on a difficult one is rightly left aside: nobody can find them, the
# recall ends at a half. A class of which the set has no object counts as 0 in the mean: with 80 classes, of which a small set holds 20,
# the mAP is a quarter. Areas are those of whole pixels (+1): in normalised coordinates, 0 to 1, a box half as wide has an overlap of 0.87.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mean-average-precision==2024.1.5.0 pandas==3.1.1 pycocotools==2.0.11 numpy==2.4.6
cd "$folder"
cat > policy.py <<'PY'
"""Score boxes that are those of the objects, with mean-average-precision and with pycocotools."""
import contextlib, io
import numpy as np
from mean_average_precision import MetricBuilder
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

EASY, HARD, CROWD = (0, 0), (1, 0), (0, 1)

def package(rows, found, classes):
    metric = MetricBuilder.build_evaluation_metric("map_2d", async_mode=False, num_classes=classes)
    metric.add(np.array([[*b, c, 0.9] for b, c in found], float), np.array([[*b, c, *kind] for b, c, kind in rows], float))
    return float(metric.value(iou_thresholds=np.arange(0.5, 1.0, 0.05), recall_thresholds=np.arange(0.0, 1.01, 0.01), mpolicy="soft")["mAP"])

def coco(rows, found, classes):
    def row(box, label, **more):
        x1, y1, x2, y2 = box
        return dict(image_id=1, category_id=label + 1, bbox=[x1, y1, x2 - x1, y2 - y1], **more)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dict(images=[dict(id=1)], categories=[dict(id=k + 1) for k in range(classes)],
                             annotations=[row(b, c, id=k + 1, area=1600, iscrowd=int(kind != EASY)) for k, (b, c, kind) in enumerate(rows)])
        truth.createIndex()
        score = COCOeval(truth, truth.loadRes([row(b, c, score=0.9) for b, c in found]), "bbox")
        score.evaluate(), score.accumulate(), score.summarize()
    return float(score.stats[0])

one, two, heap, other = (10, 10, 50, 50), (60, 10, 90, 40), (0, 200, 200, 400), (100, 100, 140, 140)
cases = {"plain": ([(one, 0, EASY)], [(one, 0)], 1), "with a difficult object": ([(one, 0, EASY), (two, 0, HARD)], [(one, 0), (two, 0)], 1),
         "with a crowd": ([(one, 0, EASY), (heap, 0, CROWD)], [(one, 0)], 1), "with a class without objects": ([(one, 0, EASY)], [(one, 0)], 2),
         "all three": ([(one, 0, EASY), (two, 0, HARD), (other, 1, EASY), (heap, 1, CROWD)], [(one, 0), (two, 0), (other, 1)], 3)}
seen = {name: (package(*case), coco(*case)) for name, case in cases.items()}
for name, (theirs, right) in seen.items():
    print(f"perfect boxes, {name}: mAP50-95 {theirs:.2f}, by pycocotools {right:.2f}")
assert all(right > 0.99 for _, right in seen.values()) and seen["plain"][0] > 0.99, seen
assert all(abs(theirs - 0.5) < 0.01 for name, (theirs, _) in seen.items() if name.startswith("with ")) and abs(seen["all three"][0] - 1 / 3) < 0.01, seen
small = MetricBuilder.build_evaluation_metric("map_2d", async_mode=False, num_classes=1)
small.add(np.array([[0.1, 0.1, 0.25, 0.4, 0, 0.9]]), np.array([[0.1, 0.1, 0.4, 0.4, 0, 0, 0]]))
half = float(small.value(iou_thresholds=0.85)["mAP"])
print(f"normalised box of half the width, counted as found at an overlap of 0.85: {half:.0f}")
assert half == 1, half
print("as described: mean-average-precision 2024.1.5.0 counts what COCO leaves aside")
PY
venv/bin/python policy.py 2>&1 | grep -E "^perfect|^normal|^as desc|Error"
