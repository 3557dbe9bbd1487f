from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vanillayolo.errors import UsageError
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
