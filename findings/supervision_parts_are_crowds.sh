#!/usr/bin/env bash
# supervision 0.31.2: an object whose mask has a hole or more than one part is written to COCO JSON as a crowd (iscrowd 1),
# though iscrowd says how the object is to be used, not how its mask is encoded, and COCO lets a single object have several polygons.
# Expected: one object each, with iscrowd 0.
# Seen: of four single objects (a plain square; one cut in two by something in front of it; one with a hole of 4x4 px; one with a
# stray pixel, as networks' masks have) three are crowds, without a warning. pycocotools then counts one object, leaves three
# right detections out, and lets any number of detections in the crowds pass; trainings that leave crowds out
# (Ultralytics' convert_coco, ours) learn these objects as background. That is the way of pictures labelled by a network and written by
# DetectionDataset.as_coco().
# A way round it: data={"iscrowd": numpy.zeros(n, int)} in the Detections.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check supervision==0.31.2 pycocotools==2.0.11 \
  opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$folder"
cat > make.py <<'PY'
"""Write four single objects with supervision, score perfect detections of them with pycocotools."""
import contextlib, io, json, warnings
from pathlib import Path
import cv2, numpy as np, supervision as sv
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

masks = np.zeros((4, 100, 100), bool)
masks[0, 10:30, 10:30] = 1
masks[1, 40:60, 10:20] = masks[1, 40:60, 25:35] = 1
masks[2, 10:40, 50:90] = 1
masks[2, 20:24, 60:64] = 0
masks[3, 60:90, 50:90] = masks[3, 95, 95] = 1
Path("images").mkdir()
cv2.imwrite("images/a.png", np.zeros((100, 100, 3), np.uint8))
warnings.simplefilter("error")

def write(**data):
    """Return what COCO JSON says of the four: iscrowd, and the precision and recall of four perfect detections."""
    found = sv.Detections(sv.mask_to_xyxy(masks).astype(float), mask=masks, class_id=np.zeros(4, int), data=data)
    sv.DetectionDataset(["thing"], ["images/a.png"], {"images/a.png": found}).as_coco(annotations_path="a.json")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO("a.json")
        rows = truth.dataset["annotations"]
        code = [rle.encode(np.asfortranarray(m, np.uint8)) for m in masks]
        score = COCOeval(truth, truth.loadRes([dict(image_id=r["image_id"], category_id=r["category_id"], score=0.9, segmentation=c)
                                               for r, c in zip(rows, code)]), "segm")
        score.evaluate(), score.accumulate()
    seen = next(e for e in score.evalImgs if e and e["aRng"] == [0, 1e10])
    return [r["iscrowd"] for r in rows], int((np.array(seen["gtIgnore"]) == 0).sum()), int((~seen["dtIgnore"][0]).sum())

crowds, objects, scored = write()
print(f"iscrowd of the plain, cut, holed and specked object: {crowds}; objects that count: {objects}, detections that count: {scored}")
forced = write(iscrowd=np.zeros(4, int))
print(f"the same with iscrowd given as 0: {forced[0]}; {forced[1]} and {forced[2]}")
assert (crowds, objects, scored) == ([0, 1, 1, 1], 1, 1) and forced == ([0, 0, 0, 0], 4, 4), (crowds, objects, scored, forced)
print("as described: supervision 0.31.2 writes objects of several parts, or with a hole, as crowds")
PY
venv/bin/python make.py 2>&1 | grep -E "^iscrowd|^the same|^as desc|Error"
