from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from torch import nn

from five_shapes import make_scenes
from vanillayolo import VanillaYOLO
from vanillayolo.nn import randomize_batchnorm
from vanillayolo.yolo import model_yaml
from vanillayolo.yolo.architecture import dump_yaml


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data YAML of 8 training and 4 validation scenes of 96 px."""
    return make_scenes(tmp_path_factory.mktemp("painted") / "scenes", train=8, val=4, size=96, seed=3)


@pytest.fixture(scope="session")
def finished(painted: Path, shrink_yaml: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint at slope 1 that answers images: random BN with the statistics of the scenes, nothing trained."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("finished")
    cfg = {**shrink_yaml(model_yaml("yolo11n-vanillanet-6"), [16, 16, 24, 32, 32]), "nc": 3}
    (folder / "yolo11n-narrow.yaml").write_text(dump_yaml(cfg), encoding="utf-8")
    model = VanillaYOLO(folder / "yolo11n-narrow.yaml")
    network = randomize_batchnorm(model.model)
    network.names = {0: "disc", 1: "square", 2: "ring"}
    pictures = [cv2.imread(str(p)) for p in sorted((painted.parent / "images/train").iterdir())]
    batch = torch.stack([torch.from_numpy(p).permute(2, 0, 1).flip(0) for p in pictures]).float() / 255
    with torch.no_grad():
        for classes in network.model[-1].cv3:
            nn.init.normal_(classes[-1].weight, std=0.3)
            classes[-1].bias.zero_()  # scores all over 0 to 1
        for m in network.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = 1.0
        network.train()(batch)
    path = folder / "best.pt"
    model.save(path)
    return path
