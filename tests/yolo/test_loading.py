"""Our checkpoints in other processes: stock Ultralytics, restricted loading, no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vanillayolo import VanillaYOLO

pytestmark = pytest.mark.slow

STOCK = """
import json, sys
from ultralytics import YOLO
best, data, folder = sys.argv[1:]
where = dict(imgsz=64, verbose=False, project=folder)
model = YOLO(best)
box = model.val(data=data, plots=False, rect=False, **where).box
results = model.predict(data.replace("scenes.yaml", "images/val"), **where)
print("found", json.dumps([float(box.map), [result.boxes.data.tolist() for result in results]]))
names = {type(m).__name__ for m in model.predictor.model.modules()}
assert not names & {"DeepPair", "SeriesActivation"}, names
YOLO(model.export(format="onnx", imgsz=64, simplify=False))
try:
    YOLO(best).train(data=data, epochs=1, plots=False, **where)
except ValueError as error:
    print("refused", error)
"""

RESTRICTED = """
import sys
from ultralytics import YOLO
try:
    YOLO(sys.argv[1])
except Exception as error:
    print("refused", error)
import vanillayolo
from ultralytics.data import utils
assert utils.YAML.__name__ == "WithoutDownloads", "restricted mode does not cover data"
import numpy as np
model = YOLO(sys.argv[1])
model.predict(np.full((64, 64, 3), 127, np.uint8), imgsz=64, verbose=False)
print("loaded")
"""

OFFLINE = """
import socket, subprocess, sys
tried = []
def refuse(*a, **k):
    if not (a and isinstance(a[0], str) and a[0] in ("localhost", "127.0.0.1")):
        tried.append(a)
    raise OSError("no network")
socket.getaddrinfo = refuse
socket.socket.connect = lambda self, address: refuse(str(address))
original = subprocess.Popen.__init__
def popen(self, words, *a, **k):
    text = words if isinstance(words, str) else " ".join(map(str, words))
    if "pip" in text.split() or " install " in text:
        tried.append(text)
    original(self, words, *a, **k)
subprocess.Popen.__init__ = popen
from vanillayolo import VanillaYOLO
model, data, folder = sys.argv[1:]
where = dict(imgsz=64, project=folder)
detector = VanillaYOLO(model)
detector.train(data=data, epochs=1, batch=4, nbs=4, plots=True, **where)
detector.val(data=data, plots=False, **where)
detector.predict(data.replace("scenes.yaml", "images/val"), save=True, **where)
detector.export(format="onnx", imgsz=64)
print("tried", tried)
"""


def python(script: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_stock_ultralytics_runs_the_merged_network_and_refuses_to_train(
    lively: Path, lively_data: Path, tmp_path: Path
) -> None:
    done = python(STOCK, lively, lively_data, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = next(line for line in done.stdout.splitlines() if line.startswith("found"))
    their_map, their_boxes = json.loads(found.removeprefix("found"))
    model = VanillaYOLO(lively)
    where: dict[str, Any] = {"imgsz": 64, "verbose": False, "project": str(tmp_path)}
    assert their_map == pytest.approx(
        model.val(data=str(lively_data), plots=False, rect=False, **where).box.map, abs=1e-4
    )
    assert their_map > 0.1
    results = model.predict(lively_data.parent / "images" / "val", **where)
    for ours, theirs in zip(results, their_boxes, strict=True):
        assert len(theirs) > 0
        # The same network on another number of threads: float32 sums in another order, in pixels.
        torch.testing.assert_close(ours.boxes.data, torch.tensor(theirs), atol=1e-2, rtol=0)
    assert "refused row VanillaBackbone of a network of vanillayolo's" in done.stdout


def test_restricted_loading_after_an_import_and_not_without(run: Path) -> None:
    best = run / "weights" / "best.pt"
    done = python(RESTRICTED, best, ULTRALYTICS_SAFE_LOAD="1")
    assert done.returncode == 0, done.stderr[-2000:]
    refused, loaded = done.stdout.index("refused"), done.stdout.index("loaded")
    assert refused < done.stdout.index("outside the supported") < loaded


def test_offline_nothing_is_contacted_and_nothing_installed(small_yaml: Path, scenes: Path, tmp_path: Path) -> None:
    # A settings folder without fonts: as a user has it who was never online.
    settings = {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": str(tmp_path / "config")}
    done = python(OFFLINE, small_yaml, scenes, tmp_path, **settings)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "tried []" in done.stdout
