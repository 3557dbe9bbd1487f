#!/usr/bin/env bash
# pylabel 0.1.55, dataset.splitter.GroupShuffleSplit, whose group_col defaults to "img_filename" so that the boxes of a picture
# stay together: it shuffles the boxes, not the pictures.
# Expected: every picture in one of train, val and test.
# Seen: of 40 pictures with four boxes each most are in two or three splits, with some of their boxes in each. What the
# YOLO export then writes of the training part: pictures of which objects lack their labels (unlearned as background) and which are
# also in val and test, with the other boxes. group_col itself changes nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pylabel==0.1.55 pandas==2.3.3 numpy==2.3.5 scikit-learn==1.9.1 opencv-python-headless==5.0.0.93
cd "$folder"
cat > split.py <<'PY'
"""Write 40 pictures of four boxes, split them with pylabel, count the pictures that are in more than one split."""
from pathlib import Path
import cv2, numpy as np
from pylabel import importer

PICTURES = 40
for f in ("images", "labels"):
    Path(f).mkdir()
rows = [f"0 {x} {y} 0.2 0.2\n" for x in (0.25, 0.75) for y in (0.25, 0.75)]
for k in range(PICTURES):
    cv2.imwrite(f"images/{k}.jpg", np.zeros((64, 64, 3), np.uint8))
    Path(f"labels/{k}.txt").write_text("".join(rows))

def split(**options):
    """Return how many pictures are in more than one split, and how many each split holds."""
    data = importer.ImportYoloV5(path="labels", path_to_images="../images", cat_names=["thing"], img_ext="jpg")
    data.splitter.GroupShuffleSplit(train_pct=0.6, test_pct=0.2, val_pct=0.2, random_state=0, **options)
    parts = data.df.groupby("img_filename")["split"].nunique()
    return int((parts > 1).sum()), data.df.groupby("split")["img_filename"].nunique().to_dict()

shared, held = split()
print(f"{PICTURES} pictures of four boxes: {shared} are in more than one split; pictures in {', '.join(f'{k} {v}' for k, v in sorted(held.items()))}")
other, _ = split(group_col="img_id")
print(f"with group_col=img_id: {other}")
assert shared == other and shared > PICTURES / 2, (shared, other)
print("as described: pylabel 0.1.55 splits boxes, not pictures")
PY
venv/bin/python split.py 2>&1 | grep -E "^[0-9]+ pic|^with|^as desc|Error"
