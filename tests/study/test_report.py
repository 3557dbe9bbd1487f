from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vanillayolo.study.plots import write_plots
from vanillayolo.study.records import spread, with_spread
from vanillayolo.study.report import html_report, markdown_report, write_report
from vanillayolo.study.results import frontier, gather, judged_split, mean_curve

MODELS = ("yolo11n", "yolo11n-vanillanet <b>")


def made_up() -> dict[str, Any]:
    """Return the result of two models and three seeds."""
    models = {}
    for i, model in enumerate(MODELS):
        scores = [0.40 + 0.02 * i, 0.41 + 0.02 * i, 0.42 + 0.02 * i]
        both = {"map50": spread([s + 0.3 for s in scores]), "map50_95": spread(scores)}
        split = {**both, "per_class": {"RBC": both, "WBC": both}}
        curve = mean_curve([[0.1, 0.2, s] for s in scores])
        models[model] = {
            "seeds": [0, 1, 2],
            "val": split,
            "test": split,
            "parameters": 2_600_000 + i,
            "gflops": 6.5,
            "training_form": {"parameters": 3_200_000, "gflops": 9.0} if i else None,
            "saved_bytes": 230e6 * (i + 1),
            "training_seconds": spread([600.0, 660.0, 720.0]),
            "merge_equality": None,
            "curve": dict.fromkeys(("map50", "map50_95", "train_loss"), curve),
        }
    machine = {"processor": "X", "cores": 2, "versions": {"torch": "2"}}
    timings = {m: {"median": 40.0 - 7 * i, "minimum": 30.0, "maximum": 50.0} for i, m in enumerate(MODELS)}
    latency = {"date": "2026-01-01", "imgsz": 320, "rounds": 5, "machine": machine}
    return {
        "date": "2026-01-01",
        "command": "vanillayolo compare ...",
        "settings": {"data": "bccd.yaml", "epochs": 3, "imgsz": 320, "batch": 8},
        "machine": machine,
        "models": models,
        "latency": {**latency, "milliseconds": {"onnxruntime": timings, "openvino-f32": timings}},
    }


@pytest.fixture
def result() -> dict[str, Any]:
    return made_up()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Its pictures, drawn once."""
    return write_plots(made_up(), tmp_path_factory.mktemp("pictures"))


def test_a_single_seed_has_no_spread() -> None:
    assert with_spread(spread([0.5])) == "0.500"
    assert with_spread(spread([0.4, 0.6])) == "0.500 ± 0.141"


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), min_size=1))
def test_the_frontier_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    edge = frontier(points)
    for x, y in points:
        beaten = any((a <= x and b > y) or (a < x and b >= y) for a, b in points)
        assert beaten == ((x, y) not in edge)


def test_curves_end_where_the_shortest_does() -> None:
    assert mean_curve([[1, 2, 3], [3, 4]]) == {"mean": [2, 3], "low": [1, 2], "high": [3, 4]}


def test_tables_show_every_figure(result: dict[str, Any]) -> None:
    text = markdown_report(result)
    for figure in ("0.410 ± 0.010", "0.730 ± 0.010", "33.0", "3.20", "460", "11.0 ± 1.0", "bccd.yaml"):
        assert figure in text
    assert text.index("Accuracy on test") < text.index("Accuracy on val")


def test_val_is_judged_until_every_model_has_test(result: dict[str, Any]) -> None:
    assert judged_split(result) == "test"
    del result["models"]["yolo11n"]["test"]
    assert judged_split(result) == "val"
    assert "Accuracy on test" not in markdown_report(result)


@pytest.mark.slow
def test_html_is_whole_in_one_file(result: dict[str, Any], pictures: dict[str, Path]) -> None:
    page = html_report(result, pictures)
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "<b>" not in page
    assert page.count('class="best"') > 0


def test_pictures_are_readable_images(pictures: dict[str, Path]) -> None:
    for path in pictures.values():
        picture = cv2.imread(str(path))
        assert picture is not None
        assert picture.shape[1] >= 1200
        assert picture.std() > 5, "something is drawn"


@pytest.mark.slow
def test_without_latency_there_is_no_latency_picture(result: dict[str, Any], tmp_path: Path) -> None:
    bare = {**copy.deepcopy(result), "latency": None}
    assert set(write_plots(bare, tmp_path)) == {"learning_curves", "memory"}
    assert "Latency was not measured" in markdown_report(bare)


@pytest.mark.slow
def test_a_folder_of_runs_becomes_a_report(compared: Path) -> None:
    files = write_report(compared, "vanillayolo compare ...", ["yolo11n"])
    assert set(files) == {"json", "md", "html", "accuracy_latency", "learning_curves", "memory"}
    result = gather(compared)
    assert all(len(m["test"]["map50"]["values"]) == 2 for m in result["models"].values())
    ours = next(m for name, m in result["models"].items() if name != "yolo11n")
    assert ours["parameters"] < ours["training_form"]["parameters"]
    assert next(iter(gather(compared, order=["yolo11n"])["models"])) == "yolo11n"
