#!/usr/bin/env bash
# ultralytics 8.4.190: training with optimizer="AdamW" (or Adam) and everything else left alone begins with steps of 0.1
# for each BatchNorm shift. warmup_bias_lr=0.1 was made for SGD, whose step is the rate times the gradient; Adam's first
# steps are as long as the rate, whatever the gradient. The group "bias" is found by name, so it holds the shift of every
# BatchNorm ("bn.bias") and not only the head's biases. optimizer="auto" sets warmup_bias_lr to 0 for itself.
# Expected: a first step of at most lr0, 0.001. Seen: 0.1 for the shifts, a hundred times lr0, and 0 for all weights.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 ultralytics==8.4.190 numpy==2.4.6
cd "$folder"
export YOLO_OFFLINE=1 YOLO_AUTOINSTALL=false YOLO_CONFIG_DIR="$folder" MPLBACKEND=Agg
cat > make.py <<'PY'
"""Train a fresh network on a few images, and measure how far the first step moves each kind of parameter."""
from pathlib import Path
import cv2, numpy as np, torch
from ultralytics import YOLO

for f in ("images", "labels"):
    Path(f).mkdir()
for k in range(8):
    cv2.imwrite(f"images/{k}.png", np.random.default_rng(k).integers(0, 256, (64, 64, 3), np.uint8))
    Path(f"labels/{k}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
Path("data.yaml").write_text(f"path: {Path.cwd()}\ntrain: images\nval: images\nnames: [a]\n")

def first_step(**settings):
    """Return the median distance that the first step moves the BatchNorm shifts, and that of the other weights."""
    seen, before = {}, {}

    def keep(trainer):
        before.update({n: p.detach().clone() for n, p in trainer.model.named_parameters()})

    def look(trainer):
        if not seen:
            moved = {n: (p.detach() - before[n]).abs() for n, p in trainer.model.named_parameters()}
            shift = torch.cat([d.flatten() for n, d in moved.items() if n.endswith("bn.bias")])
            weight = torch.cat([d.flatten() for n, d in moved.items() if n.endswith("weight")])
            seen.update(shift=float(shift.median()), weight=float(weight.max()))

    net = YOLO("yolo11n.yaml")
    net.add_callback("on_train_start", keep)
    net.add_callback("on_train_batch_end", look)
    net.train(data="data.yaml", epochs=2, imgsz=64, batch=4, workers=0, device="cpu", plots=False, val=False, save=False, lr0=0.001,
              project=str(Path.cwd()), exist_ok=True, **settings)
    return seen

adam, auto = first_step(optimizer="AdamW"), first_step(optimizer="auto")
for name, seen in (("AdamW", adam), ("auto", auto)):
    print(f"optimizer={name}: the first step moves a BatchNorm shift by {seen['shift']:.4f} (median), a weight by {seen['weight']:.4f} at most")
assert 0.09 < adam["shift"] < 0.101 and adam["weight"] < 1e-4, adam
assert auto["shift"] < 0.001, auto
print("as described: AdamW's warm-up in Ultralytics 8.4.190 begins with steps of 0.1 for each BatchNorm shift")
PY
venv/bin/python make.py 2>&1 | grep -E "^optimizer=|^as desc|Error"
