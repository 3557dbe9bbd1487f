#!/usr/bin/env bash
# sahi 0.12.8, slice_coco (and "sahi coco slice"): a crowd of the COCO JSON that goes in, a region with many
# objects that nobody counted, comes out as one object: iscrowd is 1 before and 0 after.
# Expected: iscrowd stays; even a picture that is not cut at all (one tile) is read and written without loss.
# Seen: 0 for a crowd with a polygon, without a word, and for one in RLE as well, with a warning that speaks of its segmentation
# alone. pycocotools then counts a miss for each where it had left them aside, and Ultralytics' convert_coco, which skips crowds,
# writes each as a label: a network learns that twenty apples are one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sahi==0.12.8 pycocotools==2.0.11 numpy==2.4.6
cd "$folder"
cat > apples.py <<'PY'
"""Write one apple and two crowds of apples, slice, and score a detection of the apple before and after."""
import contextlib, io, json
from pathlib import Path
import numpy as np
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sahi.slicing import slice_coco

def row(number, x, y, w, h, crowd, segmentation):
    return dict(id=number, image_id=1, category_id=1, iscrowd=crowd, bbox=[x, y, w, h], area=w * h, segmentation=segmentation)

def polygon(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]

heap = np.zeros((100, 100), np.uint8, order="F")
heap[60:90, 10:50] = 1
code = rle.encode(heap)
code["counts"] = code["counts"].decode()
Path("images").mkdir()
Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save("images/a.png")
rows = [row(1, 10, 10, 20, 20, 0, polygon(10, 10, 20, 20)), row(2, 50, 10, 40, 40, 1, polygon(50, 10, 40, 40)), row(3, 10, 60, 40, 30, 1, code)]
images = [dict(id=1, file_name="a.png", width=100, height=100)]
Path("before.json").write_text(json.dumps(dict(images=images, categories=[dict(id=1, name="apple")], annotations=rows)))
sliced, _ = slice_coco("before.json", "images", "after", "sliced", slice_height=100, slice_width=100)

def recall(file):
    """Return iscrowd of all rows, and the recall of one detection: the apple's box."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(file)
        score = COCOeval(truth, truth.loadRes([dict(image_id=1, category_id=1, bbox=[10, 10, 20, 20], score=0.9)]), "bbox")
        score.evaluate(), score.accumulate(), score.summarize()
    return [r["iscrowd"] for r in truth.dataset["annotations"]], float(score.stats[8])

assert len(sliced["images"]) == 1
before, after = recall("before.json"), recall("sliced/after_coco.json")
for name, (crowds, share) in (("before", before), ("after", after)):
    print(f"iscrowd {name} slice_coco: {crowds}; recall of a network that finds the one apple: {share:.2f}")
assert before[0] == [0, 1, 1] and after[0] == [0, 0, 0], (before, after)
assert np.isclose(before[1], 1) and np.isclose(after[1], 1 / 3), (before, after)
print("as described: sahi 0.12.8 writes crowds as objects")
PY
venv/bin/python apples.py 2>&1 | grep -E "^iscrowd|^as desc|Error"
