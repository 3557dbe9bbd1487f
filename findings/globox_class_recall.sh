#!/usr/bin/env bash
# globox 2.9.0, COCOEvaluator.save_csv (and show_summary, and "globox evaluate --save_csv"): the columns AR 1, AR 10 and AR 100 of a
# class hold its AP. Expected: its recall, as in AR S, AR M and AR L beside them, and as in ar_100() for all classes.
# Seen: a class whose every object is found, below as many false boxes that are surer, has a recall of 1.00; its row says 0.50, the
# number in AP 50:95. With ten boxes a picture it is 0.25; the row says 0.05. The last line of show_summary (all classes) is right, so the classes' rows do not have it as their mean.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check globox==2.9.0 numpy==2.4.6
cd "$folder"
cat > table.py <<'PY'
"""Evaluate one class: eight objects, each found, and a surer false box for each."""
import csv
from globox import Annotation, AnnotationSet, BoundingBox, COCOEvaluator

def box(x, y, sure=None):
    return BoundingBox(label="apple", xmin=x, ymin=y, xmax=x + 40, ymax=y + 40, confidence=sure)

places = [(100 * k, 0) for k in range(8)]
truth = AnnotationSet([Annotation("a.jpg", (1000, 1000), [box(*p) for p in places])])
rows = [box(x, y, 0.5 + 0.01 * k) for k, (x, y) in enumerate(places)] + [box(x, 500, 0.9 + 0.01 * k) for k, (x, _) in enumerate(places)]
score = COCOEvaluator(ground_truths=truth, predictions=AnnotationSet([Annotation("a.jpg", (1000, 1000), rows)]))
score.save_csv("table.csv")
with open("table.csv", newline="") as file:
    row = next(csv.DictReader(file))
ap, recalls, right = float(row["AP 50:95"]), [float(row[f"AR {n}"]) for n in (10, 100)], [score.ar_10(), score.ar_100()]
print(f"class apple: AP 50:95 {ap:.2f}, AR 10 and AR 100 in the table {recalls[0]:.2f}, {recalls[1]:.2f}; by ar_10() and ar_100() {right[0]:.2f}, {right[1]:.2f}; "
      f"AR M in the table {float(row['AR M']):.2f}")
assert abs(recalls[0] - right[0]) > 0.15 and abs(recalls[1] - ap) < 1e-9 and abs(ap - 0.5) < 0.02 and abs(right[1] - 1) < 1e-9 and abs(float(row["AR M"]) - 1) < 1e-9, (row, right)
print("as described: globox 2.9.0 writes a class's AP for its AR")
PY
venv/bin/python table.py 2>&1 | grep -E "^class|^as desc|Error"
