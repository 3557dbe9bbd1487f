from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from five_shapes import make_scenes
from vanillayolo.study.protocol import compare
from vanillayolo.yolo import model_yaml
from vanillayolo.yolo.architecture import dump_yaml


@pytest.fixture(scope="session")
def budget() -> dict[str, Any]:
    """Settings of a comparison in seconds."""
    return {"epochs": 2, "imgsz": 64, "batch": 4, "nbs": 4, "backends": "onnxruntime", "rounds": 2}


@pytest.fixture(scope="session")
def tested_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data YAML with a test split."""
    data = make_scenes(tmp_path_factory.mktemp("compare") / "scenes", train=8, val=4, size=96, seed=1)
    data.write_text(data.read_text(encoding="utf-8") + "test: images/val\n", encoding="utf-8")
    return data


@pytest.fixture(scope="session")
def small_model(shrink_yaml: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "yolo11n-small.yaml"
    path.write_text(dump_yaml(shrink_yaml(model_yaml("yolo11n-vanillanet-5"), [16, 16, 24, 32])), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def compared(
    tested_scenes: Path, small_model: Path, budget: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A comparison of one of ours with YOLO11, two seeds."""
    folder = tmp_path_factory.mktemp("runs") / "compare"
    return compare([str(small_model), "yolo11n"], tested_scenes, (0, 1), folder, **budget)
