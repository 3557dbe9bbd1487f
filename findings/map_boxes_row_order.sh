#!/usr/bin/env bash
# map-boxes 1.0.6, mean_average_precision_for_boxes: an object is given to the first row of the detections that covers it,
# not to the surest. Expected: rows may come in any order; scores rank them.
# Seen: three rows in one order have an AP50 of 1.00, in the other 0.67. A table sorted by score is judged rightly; one sorted by
# place, by class or as a tracker, tiles or a pool of networks write it is judged too low: the sure box comes second, finds its object
# taken and counts as wrong. pycocotools gives 1.00 for both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check map-boxes==1.0.6 pandas==3.1.1 cython setuptools pycocotools==2.0.11 numpy==2.4.6
cd "$folder"
cat > order.py <<'PY'
"""Score three detections of two objects, in two orders, with map-boxes and with pycocotools."""
import contextlib, io
import numpy as np
from map_boxes import mean_average_precision_for_boxes
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

truth = [["1", "apple", 10, 50, 10, 50], ["2", "apple", 10, 50, 10, 50]]  # picture, class, xmin, xmax, ymin, ymax
sure, again, other = ["1", "apple", 0.9, 10, 50, 10, 50], ["1", "apple", 0.3, 10, 49, 10, 50], ["2", "apple", 0.6, 10, 50, 10, 50]

def coco(rows):
    """Return pycocotools' AP50."""
    def row(picture, x1, x2, y1, y2, **more):
        return dict(image_id=int(picture), category_id=1, bbox=[x1, y1, x2 - x1, y2 - y1], **more)
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = dict(images=[dict(id=1), dict(id=2)], categories=[dict(id=1)],
                            annotations=[row(t[0], *t[2:], id=k + 1, area=1600, iscrowd=0) for k, t in enumerate(truth)])
        data.createIndex()
        score = COCOeval(data, data.loadRes([row(r[0], *r[3:], score=r[2]) for r in rows]), "bbox")
        score.evaluate(), score.accumulate(), score.summarize()
    return float(score.stats[1])

seen = {}
for name, rows in (("surest first", [sure, again, other]), ("surest second", [again, sure, other])):
    ap, _ = mean_average_precision_for_boxes(np.array(truth, object), np.array(rows, object), iou_threshold=0.5, verbose=False)
    seen[name] = float(ap), coco(rows)
    print(f"{name}: AP50 {seen[name][0]:.2f}, by pycocotools {seen[name][1]:.2f}")
assert np.allclose(seen["surest first"], 1, atol=1e-3) and np.allclose(seen["surest second"], (2 / 3, 1), atol=1e-3), seen
print("as described: map-boxes 1.0.6 judges by the order of the rows")
PY
venv/bin/python order.py 2>&1 | grep -E "^surest|^as desc|Error"
