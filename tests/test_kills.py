"""Trainings that are killed at any moment lose the epoch in work and nothing else; see kills.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_killed_and_resumed_is_the_run_that_was_not(tmp_path: Path) -> None:
    # A process of its own: kills.py forks its trainings, and one that has computed gradients cannot be forked.
    script = Path(__file__).with_name("kills.py")
    words = ["--kills", "4", "--epochs", "6", "--out", str(tmp_path / "kills.json")]
    done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "kills.json").read_text(encoding="utf-8"))
    assert record["counts"]["kills"] == 4
    assert record["counts"]["trainings"] >= 1  # to the end, where rows and rates are compared
    assert record["faults"] == 0, record["counts"]
