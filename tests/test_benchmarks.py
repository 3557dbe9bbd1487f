"""The scripts under benchmarks/ are current: they import what they need and say what they take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vanillayolo.errors import UsageError

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if "ArgumentParser" in path.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_says_what_it_takes(script: Path) -> None:
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_runs_are_added_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import runs

    path = tmp_path / "a.json"
    assert not runs.has_run(path, seed=0)
    runs.add_run(path, {"model": "a", "seed": 0})
    runs.add_run(path, {"model": "b", "seed": 0})
    assert [run["model"] for run in runs.runs_of(path)] == ["a", "b"]
    assert runs.has_run(path, model="b", seed=0)
    assert not runs.has_run(path, model="b", seed=1)


def test_models_are_added_to_a_comparison_of_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from add_models import merged

    def record(name: str, command: str, **settings: Any) -> dict[str, Any]:
        shared = {"data": "a.yaml", "epochs": 4, **settings}
        return {"settings": shared, "models": {name: {}}, "latency": None, "command": command, "machine": {"cores": 1}}

    first, second = record("a", "one", bfloat16=False, workers=0), record("b", "two")
    timing = {"milliseconds": {"onnxruntime": {"median": 1.0}}}
    latency = {
        "date": "today",
        "machine": {},
        "command": "time",
        "settings": {"backends": ["onnxruntime"], "imgsz": 320, "rounds": 2},
        "models": {"a": timing, "b": timing, "c": timing},
    }
    both = merged(first, second, latency)
    assert list(both["models"]) == ["a", "b"]
    assert both["models"]["b"]["machine"] == {"cores": 1}
    assert both["latency"]["milliseconds"] == {"onnxruntime": {"a": {"median": 1.0}, "b": {"median": 1.0}}}
    assert both["command"] == "one; two"
    first["latency"] = {"milliseconds": {"onnxruntime": {"a": timing}}}
    again = merged(first, {**record("a", "three"), "models": {"a": {"seeds": [0]}}}, replace=True)
    assert again["models"]["a"]["seeds"] == [0]
    assert again["latency"] == first["latency"]
    assert merged(first, second)["latency"] is None  # b was not timed
    for other, times, said in (
        (record("b", "two", epochs=5), None, "other settings"),
        (record("a", "two"), None, "in both"),
        (record("d", "two"), latency, "lacks d"),
    ):
        with pytest.raises(UsageError, match=said):
            merged(first, other, times)
