#!/usr/bin/env bash
# supervision 0.31.2 and pycocotools 2.0.11 make two masks of one polygon: supervision (like Ultralytics' polygon2mask,
# both over OpenCV) fills the outline too, one pixel more to the right and below; pycocotools fills the inside.
# Expected: one mask and one area for whole-pixel corners: 64 px for a square of 8x8. Seen: 81 px and 64 px, IoU 0.79.
# So the masks of a YOLO segmentation set, scored against the COCO file that DetectionDataset.as_coco() writes of the same
# set, have a mask mAP50-95 of 0.60 on 8 px squares; and the "area" in that file is 1024 px for a square of 31x31, 961 px
# in pycocotools: it leaves COCO's "small" (below 1024 px) though the polygon beside it does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check supervision==0.31.2 pycocotools==2.0.11 \
  opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$folder"
cat > make.py <<'PY'
"""Read squares from YOLO labels with supervision, write COCO, read that with pycocotools, score the one with the other."""
import contextlib, io
from pathlib import Path
import cv2, numpy as np, supervision as sv
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

def quiet(f, *a):
    with contextlib.redirect_stdout(io.StringIO()):
        return f(*a)

def read(side, size=128):
    """Return the COCO truth, supervision's masks, pycocotools' masks and the areas in the COCO file, of two squares."""
    for f in ("images", "labels"):
        Path(f).mkdir(exist_ok=True)
    cv2.imwrite("images/a.png", np.zeros((size, size, 3), np.uint8))
    Path("data.yaml").write_text("names: [square]\n")
    corners = [[(v + side * a) / size for a in (0, 0, 1, 0, 1, 1, 0, 1)] for v in (10, 60)]
    Path("labels/a.txt").write_text("".join("0 " + " ".join(map(str, r)) + "\n" for r in corners))
    data = sv.DetectionDataset.from_yolo("images", "labels", "data.yaml")
    quiet(lambda: data.as_coco(annotations_path="a.json"))
    truth = quiet(COCO, "a.json")
    rows = truth.loadAnns(truth.getAnnIds())
    ours = next(iter(data.annotations.values())).mask
    return truth, ours, np.stack([truth.annToMask(r) for r in rows]).astype(bool), [r["area"] for r in rows]

truth, ours, theirs, _ = read(8)
iou = (ours & theirs).sum((1, 2)) / (ours | theirs).sum((1, 2))
one = truth.dataset["annotations"][0]
found = [dict(image_id=one["image_id"], category_id=one["category_id"], score=1.0, segmentation=rle.encode(np.asfortranarray(m, np.uint8)))
         for m in ours]
score = COCOeval(truth, quiet(truth.loadRes, found), "segm")
for step in (score.evaluate, score.accumulate, score.summarize):
    quiet(step)
print(f"8x8 px square: supervision {ours[0].sum()} px, pycocotools {theirs[0].sum()} px, IoU {iou[0]:.2f}; "
      f"mask mAP50-95 of the one scored by the other {score.stats[0]:.2f}")
_, ours31, theirs31, areas = read(31)
print(f"31x31 px square: area written by as_coco {areas[0]:.0f}, area of the polygon beside it in pycocotools {theirs31[0].sum()}")
assert (ours[0].sum(), theirs[0].sum()) == (81, 64) and abs(score.stats[0] - 0.6) < 0.005, (ours.sum(), theirs.sum(), score.stats)
assert areas[0] == ours31[0].sum() == 1024 and theirs31[0].sum() == 961, (areas[0], theirs31.sum())
print("as described: supervision 0.31.2 and pycocotools 2.0.11 make masks of different areas of one polygon")
PY
venv/bin/python make.py 2>&1 | grep -E "^[0-9]+x|^as desc|Error"
