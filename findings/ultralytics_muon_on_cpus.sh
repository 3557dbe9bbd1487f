#!/usr/bin/env bash
# ultralytics 8.4.190, torch 2.14.1: optimizer="auto" takes AdamW for up to 10,000 updates and MuSGD for more. MuSGD
# makes its matrices orthogonal in bfloat16 on every device. A CPU without instructions for bfloat16 emulates the
# products, so there a training that is one update longer is many times slower a step.
# Expected: a longer training takes as long a step. Seen (AVX2, one thread): an update of YOLO11n's matrices takes 8 s in
# bfloat16, 0.3 s in float32; its forward and backward pass at 320 px, batch 8, takes 1 to 2 s.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 ultralytics==8.4.190 numpy==2.4.6
cd "$folder"
export YOLO_OFFLINE=1 YOLO_AUTOINSTALL=false YOLO_CONFIG_DIR="$folder" MPLBACKEND=Agg
cat > make.py <<'PY'
"""Let the trainer choose its optimizer for 10,000 and 10,001 updates, and time MuSGD's update in two types."""
import time
import torch
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.optim.muon import muon_update, zeropower_via_newtonschulz5

torch.set_num_threads(1)
network = YOLO("yolo11n.yaml").model
trainer = DetectionTrainer.__new__(DetectionTrainer)
trainer.args = get_cfg()
trainer.data = {"nc": 80}
trainer.model = network
chosen = [type(trainer.build_optimizer(network, name="auto", iterations=n)).__name__ for n in (10_000, 10_001)]
print(f"optimizer=auto: {chosen[0]} for 10,000 updates, {chosen[1]} for 10,001")
assert chosen == ["AdamW", "MuSGD"], chosen

torch.manual_seed(0)
gradients = [torch.randn_like(p) for p in network.parameters() if p.ndim >= 2]
kind = zeropower_via_newtonschulz5(gradients[0].flatten(1)).dtype
print(f"MuSGD on a CPU, float32 weights: orthogonalised in {kind}")
assert kind == torch.bfloat16, kind

def seconds():
    """Return the shorter of two updates."""
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        muon_update(gradients, [torch.zeros_like(g) for g in gradients])
        taken.append(time.perf_counter() - start)
    return min(taken)

slow = seconds()
torch.Tensor.bfloat16 = torch.Tensor.float  # the same function, its one conversion left out
fast = seconds()
print(f"an update of YOLO11n's matrices: {slow:.2f} s in bfloat16, {fast:.2f} s in float32")
has = torch.cpu.get_capabilities()
if has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16"):
    print("as described: MuSGD computes in bfloat16 (this CPU has instructions for it; the times are of one without)")
else:
    assert slow > 5 * fast, (slow, fast)
    print("as described: without instructions for bfloat16 an update takes many times as long")
PY
venv/bin/python make.py 2>&1 | grep -E "^optimizer=|^MuSGD|^an update|^as desc|Error"
