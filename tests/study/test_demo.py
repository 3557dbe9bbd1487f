from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vanillayolo.errors import UsageError
from vanillayolo.study import demo as module
from vanillayolo.study.demo import demo, montage


def test_montage_fills_rows(tmp_path: Path) -> None:
    pictures = [np.full((16, 16, 3), 40 * i, np.uint8) for i in range(6)]
    picture = cv2.imread(str(montage(pictures, tmp_path / "all.png", columns=3)))
    assert picture is not None
    assert picture.shape == (32, 48, 3)
    assert picture[8, 8].tolist() == [0, 0, 0]
    assert picture[24, 40].tolist() == [200, 200, 200]


def test_a_folder_of_somebody_else_keeps_its_train(tmp_path: Path, tiny_yaml: Path) -> None:
    (tmp_path / "mine" / "train").mkdir(parents=True)
    (tmp_path / "mine" / "train" / "thesis.txt").write_text("years")
    with pytest.raises(UsageError, match="mine: holds other files"):
        demo(tmp_path / "mine", str(tiny_yaml))
    assert [p.name for p in (tmp_path / "mine").rglob("*")] == ["train", "thesis.txt"]


@pytest.mark.slow
def test_the_whole_job_runs_and_says_what_it_made(
    tmp_path: Path, tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.SCENES, "pictures", 24)
    monkeypatch.setitem(module.SCENES, "val_every", 4)
    result = demo(tmp_path / "demo", str(tiny_yaml), epochs=2)
    assert result.untrained < 0.01  # hard enough that an untrained network finds nothing
    assert abs(result.map - result.training_map) < 2e-3  # the same network, but for the float16 of the checkpoint
    assert result.collapsed.equality is not None
    text = str(result)
    for words in ("mAP50-95 collapsed", "merge error", "parameters", "detections.png", "results.png"):
        assert words in text
    assert all(p.exists() for p in result.pictures)
