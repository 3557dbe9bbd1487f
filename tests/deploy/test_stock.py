"""Files and checkpoints of stock Ultralytics, without a network of ours: the way in for everybody else's users."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.nn.tasks import yaml_model_load

from vanillayolo import cli
from vanillayolo.deploy import verify
from vanillayolo.nn import randomize_batchnorm
from vanillayolo.prove import prove

#: By model: what its files have, and the initializer of a last layer with the output that it is in.
STOCK = {
    "yolo11n": ("boxes scores", "cv2.1.2.weight", "boxes"),
    "yolo11n-seg": ("boxes scores mask coefficients prototypes", "proto.cv3.conv.weight", "prototypes"),
    "yolo11n-pose": ("boxes scores key points visibility", "cv4.1.2.weight", "key points"),
    "yolo11n-obb": ("boxes scores angles", "cv4.1.2.weight", "angles"),
    "yolo11n-cls": ("probabilities", "linear.weight", "probabilities"),
    "yolo26n": ("boxes scores", "cv2.1.2.weight", "boxes"),
}


def lively_stock(name: str, folder: Path) -> Path:
    """Write a checkpoint of stock Ultralytics, narrow and untrained, that answers: BN settled, last layers widened."""
    torch.manual_seed(0)
    cfg = {**yaml_model_load(f"{name}.yaml"), "scales": {"n": [0.33, 0.125, 1024]}, "nc": 3, "kpt_shape": [3, 3]}
    yolo = YOLO(f"{name}.yaml", verbose=False)
    network = randomize_batchnorm(type(yolo.model)(copy.deepcopy(cfg), verbose=False))
    head: Any = network.model[-1]
    with torch.no_grad():
        for layer in head.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.normal_(layer.weight, std=0.3)
        for branches in (getattr(head, key, ()) for key in ("cv3", "one2one_cv3")):
            for branch in branches:
                branch[-1].bias.fill_(-2.0)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 1.0
        pictures = nn.functional.interpolate(torch.rand(8, 3, 8, 8), size=(64, 64), mode="bilinear")
        network.train()(pictures)
    network.names, network.task, network.args = {0: "disc", 1: "square", 2: "ring"}, yolo.task, {"imgsz": 64}
    yolo.model = network.eval()
    yolo.save(folder / f"{name}.pt")
    return folder / f"{name}.pt"


def with_fault(file: Path, last: str, swap: bool = False) -> Path:
    """Write an ONNX file with a last layer 10 % larger; ``swap``: with two classes in each other's places."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        classes = any(key in tensor.name for key in ("cv3.0.2.", "cv3.1.2.", "cv3.2.2.", "linear."))
        if classes if swap else tensor.name.endswith(last):
            value = onnx.numpy_helper.to_array(tensor)
            value = value[[1, 0, 2]] if swap else (1.1 * value).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    onnx.save(model, file.with_name("wrong.onnx"))
    return file.with_name("wrong.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", STOCK)
def test_a_stock_file_is_verified_proven_and_its_faults_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install 'vanillayolo[export]'")
    checkpoint = lively_stock(name, tmp_path)
    file = Path(YOLO(checkpoint).export(format="onnx", imgsz=64, simplify=False, verbose=False))
    assert cli.main(["verify", f"model={file}", f"reference={checkpoint}", "images=2"]) == 0
    record = json.loads(file.with_name(f"{file.name}.verify.json").read_text())
    outputs, last, named = STOCK[name]
    assert " ".join(x["name"] for x in record["records"]["64x64"]["outputs"]) == outputs
    assert record["power"]["classes_swapped"]
    assert f"{file.name}: proven with onnxruntime" in prove(file)
    for swap, part in ((False, named), (True, "probabilities" if name.endswith("-cls") else "scores")):
        verdict = verify(with_fault(file, last, swap), checkpoint, images=2).verdict
        assert verdict.startswith(f"NOT VERIFIED: {part} at 64x64 differ by"), verdict
    capsys.readouterr()
