from __future__ import annotations

import pytest

from vanillayolo.nn import VARIANTS
from vanillayolo.yolo import model_yaml
from vanillayolo.yolo.families import FAMILIES, NECKS


def test_the_heads_branches_are_stages_in_n_under_its_own_neck_alone() -> None:
    for variant in ("5", "10"):
        assert model_yaml(f"yolo11n-vanillanet-{variant}")["head_stages"] == {"box": 2, "class": 2, "act_num": 2}
        assert "head_stages" not in model_yaml(f"yolo11n-vanillanet-{variant}", neck="yolo11")
    for name in ("yolo11s-vanillanet", "yolo11n-vanillanet-10-paper"):
        assert "head_stages" not in model_yaml(name)


@pytest.mark.parametrize("family", FAMILIES)
def test_letters_grow(family: str) -> None:
    scales = list(FAMILIES[family].values())
    assert list(FAMILIES[family]) == list("nsmlx")
    assert all(scale.variant in VARIANTS for scale in scales)
    assert [s.width for s in scales] == sorted(s.width for s in scales)
    assert [s.neck[1] for s in scales] == sorted(s.neck[1] for s in scales)


@pytest.mark.parametrize("neck", NECKS.values(), ids=NECKS)
def test_a_neck_reads_rows_that_come_before_and_ends_in_the_head(neck: list[list[object]]) -> None:
    for number, (source, *_) in enumerate(neck, start=4):
        assert all(-1 <= row < number for row in (source if isinstance(source, list) else [source]))
    assert [row[2] for row in neck].count("Detect") == 1
    assert neck[-1][2] == "Detect"
