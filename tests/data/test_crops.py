from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from five_shapes import make_scenes
from vanillayolo.data import check_folders, make_crops
from vanillayolo.errors import DataError


@pytest.mark.slow
def test_boxes_become_pictures_of_their_class(tmp_path: Path) -> None:
    data = make_scenes(tmp_path / "scenes", train=20, val=20, size=160, seed=2)
    folder = make_crops(data, tmp_path / "crops", margin=0.0)
    assert check_folders(folder) == folder.resolve()
    labels = [row for f in (data.parent / "labels" / "val").iterdir() for row in f.read_text().splitlines()]
    wanted = [r for r in labels if min(float(v) for v in r.split()[3:]) * 160 >= 8]
    crops = sorted((folder / "val").rglob("*.png"))
    assert len(crops) == len(wanted)
    for crop in crops[:10]:
        stem, _, number = crop.stem.rpartition("-")
        row = (data.parent / "labels" / "val" / f"{stem}.txt").read_text().splitlines()[int(number)].split()
        with Image.open(crop) as picture:
            assert picture.size == pytest.approx((float(row[3]) * 160, float(row[4]) * 160), abs=1.01)


@pytest.mark.slow
def test_most_and_smallest(tmp_path: Path) -> None:
    data = make_scenes(tmp_path / "scenes", train=20, val=20, size=160, seed=2)
    folder = make_crops(data, tmp_path / "crops", most=3)
    assert all(len(list(c.iterdir())) <= 3 for split in folder.iterdir() for c in split.iterdir())
    with pytest.raises(DataError, match="no box of class"):
        make_crops(data, tmp_path / "none", smallest=1000)
    assert not (tmp_path / "none").exists()
