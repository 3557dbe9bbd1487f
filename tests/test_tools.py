"""The page of other tools: what it shows runs, where the tool is installed."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from test_docs import BLOCK, ROOT
from test_guide import example
from vanillayolo.deploy import collapse
from vanillayolo.yolo.inference import read_image

CODE = [m["code"] for m in BLOCK.finditer((ROOT / "docs" / "tools.md").read_text()) if m["language"] == "python"]


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}: pip install {package}")


@pytest.fixture
def workplace(lively: Path, lively_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the page's code names."""
    (tmp_path / "best.pt").write_bytes(lively.read_bytes())
    picture = read_image(sorted((lively_data.parent / "images" / "val").iterdir())[0])
    cv2.imwrite(str(tmp_path / "street.jpg"), picture)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_supervision_reads_our_results(workplace: Path) -> None:
    needs("supervision")
    (code,) = [code for code in CODE if "supervision" in code]
    names: dict = {}
    exec(compile(code.replace("640", "64"), "tools.md", "exec"), names)
    boxes, found = names["result"].boxes, names["detections"]
    assert len(found) > 3
    np.testing.assert_array_equal(found.xyxy, boxes.xyxy.numpy())
    np.testing.assert_array_equal(found.confidence, boxes.conf.numpy())
    assert list(found.data["class_name"]) == [names["result"].names[int(c)] for c in boxes.cls]
    assert len((workplace / "boxes.csv").read_text().splitlines()) == len(found) + 1
    assert (cv2.imread("boxes.jpg") != cv2.imread("street.jpg")).any()


@pytest.mark.slow
def test_sahi_tiles_a_large_picture(workplace: Path) -> None:
    needs("sahi")
    collapse("best.pt", "best-collapsed.pt", source="street.jpg", imgsz=64)
    large = np.tile(cv2.imread("street.jpg"), (1, 2, 1))
    cv2.imwrite("street.jpg", large)
    (code,) = [code for code in CODE if "sahi" in code]
    names: dict = {}
    exec(compile(code.replace("640", "64"), "tools.md", "exec"), names)
    boxes = np.array([box["bbox"] for box in names["boxes"]])
    assert (boxes[:, 0] + boxes[:, 2] > large.shape[1] / 2 + 8).any()  # pixels of the whole picture, not of a tile
    assert (boxes[:, :2] + boxes[:, 2:] <= [large.shape[1] + 1, large.shape[0] + 1]).all()
    assert (workplace / "tiles.png").is_file()


def tensorboard_rows(folder: Path, metric: str) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = folder.rglob("events.out.tfevents*")
    return [event.value for event in EventAccumulator(str(events)).Reload().Scalars(metric)]


def mlflow_rows(folder: Path, metric: str) -> list[float]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return [entry.value for entry in client.get_metric_history(run.info.run_id, metric)]


def wandb_rows(folder: Path, metric: str) -> list[float]:
    (log,) = folder.rglob("run-*.wandb")
    found = re.findall(re.escape(metric.encode()) + rb"\x82\x01\x01(\d)", log.read_bytes())  # protobuf: key, value
    return [float(value) for value in found[::2]]  # each stands in the history and in the summary


#: By logger: what reads a metric's values back, epoch by epoch.
LOGGERS: dict[str, Callable[[Path, str], list[float]]] = {
    "tensorboard": tensorboard_rows,
    "mlflow": mlflow_rows,
    "wandb": wandb_rows,
}


@pytest.fixture(scope="module")
def logged(small_yaml: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that every logger follows which is installed.

    In a process that does not know of the test: in one that does Ultralytics logs nothing.
    """
    folder = tmp_path_factory.mktemp("logged")
    small = f"model={small_yaml} data={scenes} imgsz=64 batch=4 workers=0 plots=False project={folder}/runs"
    settings, train = example("tools", {"train": small})
    assert settings == ["settings", "tensorboard=True"]
    wanted = [f"{logger}={importlib.util.find_spec(logger) is not None}" for logger in LOGGERS]
    known = ("PYTEST", "GITHUB_", "RUNNER_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(known)}
    environment |= {"YOLO_CONFIG_DIR": str(folder / "config"), "WANDB_MODE": "offline"}  # its settings change
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    both = f"from vanillayolo.cli import main; exit(main({['settings', *wanted]}) or main({train}))"
    subprocess.run([sys.executable, "-c", both], cwd=folder, env=environment, timeout=600, check=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("logger", LOGGERS)
def test_loggers_carry_slope_and_joining(
    logger: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(logger)
    folder = request.getfixturevalue("logged")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    assert LOGGERS[logger](folder, "metrics/negative_slope") == [0, 1, 1]
    assert LOGGERS[logger](folder, "metrics/joined") == [0, 1, 1]
