"""The scripts under benchmarks/ are current: they import what they need and say what they take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
