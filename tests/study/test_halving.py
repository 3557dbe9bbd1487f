"""Successive halving: who goes on from a rung, and what a search makes of those that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vanillayolo.study.halving import goes_on, reason_ended, rungs
from vanillayolo.study.tune import tune


def test_rungs_lie_at_a_ninth_and_a_third_of_the_epochs() -> None:
    assert [rungs(epochs) for epochs in (1, 2, 3, 8, 9, 40)] == [[], [], [1], [2], [1, 3], [4, 13]]


def test_the_best_third_so_far_goes_on_and_a_decision_stays(tmp_path: Path) -> None:
    came = [0.2, 0.1, 0.3, 0.25, 0.05, 0.26, 0.2, 0.3]
    kept = []
    for number, value in enumerate(came):
        kept.append(goes_on(tmp_path / f"trial{number:03}", 4, value))
        best = sorted(came[: number + 1], reverse=True)[: -(-(number + 1) // 3)]
        assert kept[-1] == (value >= best[-1])
    assert kept == [True, False, True, True, False, True, False, True]
    assert goes_on(tmp_path / "trial000", 4, 0.0)  # decided once, when it was the only one
    assert not goes_on(tmp_path / "trial001", 4, 1.0)
    assert goes_on(tmp_path / "trial000", 13, 0.0)  # each rung by itself
    assert reason_ended(tmp_path / "trial001") == "ended early, after epoch 4: mAP50-95 0.100"
    assert not reason_ended(tmp_path / "trial000")


@pytest.mark.slow  # trains two candidates
def test_a_search_ends_poor_candidates_and_counts_them(small_model: Path, tested_scenes: Path, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    words: dict[str, Any] = {"model": str(small_model), "data": str(tested_scenes), "folder": str(root)}
    words |= {"epochs": 3, "imgsz": 64, "batch": 4, "nbs": 4, "rounds": 2, "workers": 0, "asha": True}
    tune(**words, trials=1)
    for number in (901, 902, 903):  # as of other machines' candidates, which found more after the first epoch
        assert goes_on(root / f"trial{number}", 1, 0.9)
    for _ in range(2):  # what has ended is not trained on
        tune(**words, trials=2)
        record = json.loads((root / "tune.json").read_text())
        assert [row["fate"] for row in record["trials"]] == ["trained", "ended early"]
        assert record["trials"][1]["reason"].startswith("ended early, after epoch 1: mAP50-95 0.")
        assert record["best"] == 0
        assert [len((root / f"trial{n:03}" / "results.csv").read_text().splitlines()) for n in (0, 1)] == [4, 2]
    assert "ended early, after epoch 1" in (root / "tune.md").read_text()

    assert not goes_on(root / "trial002", 1, 0.1)  # killed after the decision, before it was told
    tune(**words, trials=3)
    assert json.loads((root / "tune.json").read_text())["trials"][2]["reason"].endswith("mAP50-95 0.100")
    assert not (root / "trial002" / "results.csv").exists()
