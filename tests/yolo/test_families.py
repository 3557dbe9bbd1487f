from __future__ import annotations

import pytest
from torch import nn

from vanillayolo.errors import ModelNameError
from vanillayolo.nn import VARIANTS, Stage
from vanillayolo.yolo import VanillaDetectionModel, model_yaml
from vanillayolo.yolo.families import DESIGN_NECK, DESIGNS, FAMILIES, NECK_MAPS, NECKS, with_head
from vanillayolo.yolo.tasks import TASKS


def test_the_heads_branches_are_stages_in_n_under_its_own_neck_alone() -> None:
    for variant in ("5", "10"):
        assert model_yaml(f"yolo11n-vanillanet-{variant}")["head_stages"] == {"box": 2, "class": 2, "act_num": 2}
        assert "head_stages" not in model_yaml(f"yolo11n-vanillanet-{variant}", neck="yolo11")
    for name in ("yolo11s-vanillanet", "yolo11n-vanillanet-10-paper"):
        assert "head_stages" not in model_yaml(name)


@pytest.mark.parametrize("design", DESIGNS)
def test_a_design_has_its_neck_and_stages_in_the_head_at_every_letter(design: str) -> None:
    for letter in "ns":
        cfg = model_yaml(f"yolo11{letter}-vanillanet-{design}")
        assert cfg["family"]["variant"] == design
        assert cfg["head"] == with_head(DESIGN_NECK[design])
        assert cfg["head_stages"] == {"box": 2, "class": 2, "act_num": 2}
    with pytest.raises(ModelNameError, match=f"yolo11n-vanillanet-{design}"):
        model_yaml(f"yolo11n-vanillanet-{design}-paper")  # a design has no widths of the paper


def test_slim_keeps_depthwise_kernels_small_and_pools_before_it_widens() -> None:
    network = VanillaDetectionModel("yolo11n-vanillanet-slim", verbose=False).fuse(verbose=False)
    depthwise = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert depthwise
    assert max(m.kernel_size[0] for m in depthwise) == 5  # 25 taps: what XNNPACK has fast kernels for
    stages = [m for m in network.modules() if isinstance(m, Stage) and isinstance(m.pool, nn.MaxPool2d)]
    assert len(stages) == 5  # three in the backbone, two in the neck
    assert all(stage.pool_first for stage in stages)


@pytest.mark.parametrize("family", FAMILIES)
def test_letters_grow(family: str) -> None:
    scales = list(FAMILIES[family].values())
    assert list(FAMILIES[family]) == list("nsmlx")
    assert all(scale.variant in {**VARIANTS, **DESIGNS} for scale in scales)
    assert [s.width for s in scales] == sorted(s.width for s in scales)
    assert [s.neck[1] for s in scales] == sorted(s.neck[1] for s in scales)


@pytest.mark.parametrize("neck", NECKS.values(), ids=NECKS)
def test_a_neck_reads_rows_that_come_before_and_a_head_reads_its_last(neck: list[list[object]]) -> None:
    for number, (source, *_) in enumerate(neck, start=4):
        assert all(-1 <= row < number for row in (source if isinstance(source, list) else [source]))
    assert {task.head for task in TASKS.values()}.isdisjoint(row[2] for row in neck)
    assert len(neck) + 4 == NECK_MAPS[-1] + 1
