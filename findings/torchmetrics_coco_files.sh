#!/usr/bin/env bash
# torchmetrics 1.9.0, MeanAveragePrecision.coco_to_tm, which reads a COCO file and its results "in the input format of this metric":
# what was found in pictures without objects is left out, without a word.
# Expected: the numbers of pycocotools, which does the work inside, on the same two files.
# Seen: one object, found, and three surer false boxes in three empty pictures: mAP50 0.25 by pycocotools, 1.00 by torchmetrics. The more
# pictures without objects a set has (conveyor belts, night cameras), the better its score. Also the boxes come as x, y, width, height, even
# if the metric was made for corners (its default): there a right box may count as wrong and an empty one as right;
# box_format="xywh" has to be said. iou_type of the metric is not used either.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 torchmetrics==1.9.0 pycocotools==2.0.11 numpy==2.4.6
cd "$folder"
cat > files.py <<'PY'
"""Score one found object and a number of false boxes in empty pictures from files, with pycocotools and with torchmetrics."""
import contextlib, io, json
from pathlib import Path
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import MeanAveragePrecision

def scores(empty):
    """Return the mAP50 by pycocotools and by torchmetrics, for a set with so many empty pictures, a false box in each."""
    box = [60, 60, 40, 40]  # x, y, width, height
    truth = dict(images=[dict(id=k, width=200, height=200) for k in range(1, empty + 2)], categories=[dict(id=1, name="apple")],
                 annotations=[dict(id=1, image_id=1, category_id=1, bbox=box, area=1600, iscrowd=0)])
    found = [dict(image_id=1, category_id=1, bbox=box, score=0.5)] + [dict(image_id=k, category_id=1, bbox=box, score=0.9) for k in range(2, empty + 2)]
    Path("truth.json").write_text(json.dumps(truth)), Path("found.json").write_text(json.dumps(found))
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO("truth.json")
        score = COCOeval(data, data.loadRes("found.json"), "bbox")
        score.evaluate(), score.accumulate(), score.summarize()
        metric = MeanAveragePrecision(box_format="xywh", iou_type="bbox")
        metric.update(*metric.coco_to_tm("found.json", "truth.json", iou_type="bbox"))
        default = MeanAveragePrecision().coco_to_tm("found.json", "truth.json", iou_type="bbox")[1][0]["boxes"].tolist()
    return float(score.stats[1]), float(metric.compute()["map_50"]), default

seen = {}
for empty in (0, 1, 3):
    *seen[empty], boxes = scores(empty)
    print(f"{empty} empty pictures with a false box each: mAP50 by pycocotools {seen[empty][0]:.2f}, by torchmetrics {seen[empty][1]:.2f}")
print(f"box of a metric that takes corners: {boxes[0]}")
assert all(abs(seen[k][0] - 1 / (k + 1)) < 0.01 and abs(seen[k][1] - 1) < 0.01 for k in seen) and boxes == [[60, 60, 40, 40]], (seen, boxes)
print("as described: torchmetrics 1.9.0 drops what was found in pictures without objects")
PY
venv/bin/python files.py 2>&1 | grep -E "^[0-9]+ empty|^box|^as desc|Error"
