"""Trainings that are killed at any moment lose the epoch in work and nothing else; see kills.py."""

from __future__ import annotations

from pathlib import Path

import pytest

import kills


@pytest.mark.slow
def test_killed_and_resumed_is_the_run_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "EPOCHS", 6)
    counts = kills.run_kills(4, tmp_path, seed=0)
    assert counts["kills"] == 4
    assert not [key for key in counts if key.startswith("fault")], counts
