"""The backbone alone: which maps it gives, and where on the image their cells lie."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.nn.modules import Conv, Detect

from vanillayolo.nn import VARIANTS, Stage
from vanillayolo.yolo import VanillaDetectionModel, model_yaml
from vanillayolo.yolo.modules import VanillaBackbone, VanillaStage

variants = pytest.mark.parametrize("variant", list(VARIANTS))
few = pytest.mark.parametrize("variant", ["5", "9", "13_x1_5_ada_pool"])


def backbone(variant: str, **kwargs: object) -> VanillaBackbone:
    row = VARIANTS[variant]
    settings = {"dims": row.scaled(1 / 64), "strides": row.strides, "adaptive_pool": row.adaptive_pool, **kwargs}
    return VanillaBackbone(settings).eval()


@variants
def test_taps_are_the_last_stage_of_each_resolution(variant: str) -> None:
    net = backbone(variant)
    reductions = [info["reduction"] for info in net.feature_info]
    assert len(net.taps) == len(net.out_channels) == 3
    for tap, stride, channels in zip(net.taps, net.out_strides, net.out_channels, strict=True):
        assert reductions[tap] == stride
        assert tap == len(reductions) - 1 or reductions[tap + 1] == 2 * stride
        assert net.feature_info[tap]["num_chs"] == channels
    assert net.out_strides == ([6, 12, 24] if variant.endswith("ada_pool") else [8, 16, 32])
    assert net.taps[-1] == len(net.stages)  # nothing after the coarsest map is computed in vain
    assert not list(net.head.parameters())


@few
@pytest.mark.parametrize("size", [(256, 256), (320, 320), (256, 416), (64, 96), (640, 32)])
def test_maps_fit_each_other_at_every_image_size(variant: str, size: tuple[int, int]) -> None:
    net = backbone(variant)
    with torch.no_grad():
        maps = net(torch.zeros(1, 3, *size))
    for x, stride, channels in zip(maps, net.out_strides, net.out_channels, strict=True):
        assert x.shape[1] == channels
        # every cell has its stride's worth of pixels, and none of the image is left out
        coarsest = net.out_strides[-1]
        assert tuple(x.shape[-2:]) == tuple(-(-side // coarsest) * coarsest // stride for side in size)


ADA_POOL = backbone("13_x1_5_ada_pool")


@given(height=st.integers(24, 200), width=st.integers(24, 200))
@settings(max_examples=20, deadline=None)
def test_adaptive_pool_maps_fit_at_sizes_that_divide_by_nothing(height: int, width: int) -> None:
    net = ADA_POOL
    with torch.no_grad():
        fine, middle, coarse = net(torch.zeros(1, 3, height, width))
    for a, b in ((fine, middle), (middle, coarse)):
        assert tuple(a.shape[-2:]) == (2 * b.shape[-2], 2 * b.shape[-1])


@few
@pytest.mark.parametrize("size", [(256, 256), (160, 224)])
def test_a_cell_sees_the_square_it_stands_for(variant: str, size: tuple[int, int]) -> None:
    # act_num 0 leaves no neighbourhood but the stem's own: what the gradient reaches is the cell's square, and for a
    # stem of kernel 4 and stride 3 one pixel around it
    torch.manual_seed(0)
    net = backbone(variant, act_num=0).double()
    for stage in net.modules():
        if isinstance(stage, Stage):  # weights above 0 keep every ReLU open
            for p in stage.pair.parameters():
                torch.nn.init.uniform_(p, 0.1, 1.0)
            torch.nn.init.uniform_(stage.act.conv.weight, 0.1, 1.0)
    margin = 1 if variant.endswith("ada_pool") else 0
    image = torch.rand(1, 3, *size, dtype=torch.float64, requires_grad=True)
    for x, stride in zip(net(image), net.out_strides, strict=True):
        row, column = size[0] // stride - 2, size[1] // stride - 1
        (gradient,) = torch.autograd.grad(x[0, :, row, column].sum(), image, retain_graph=True)
        rows, columns = (gradient.abs().sum((0, 1)) > 0).nonzero().T
        for seen, cell in ((rows, row), (columns, column)):
            assert cell * stride - margin <= seen.min()
            assert seen.max() < (cell + 1) * stride + margin
            # max pooling passes on one pixel's way only, so the square is not filled; its middle is near all the same
            assert abs((seen.min() + seen.max() + 1) / 2 - (cell + 0.5) * stride) <= stride / 2


def test_image_channels() -> None:
    net = backbone("5", in_chans=1)
    assert [x.shape[1] for x in net(torch.zeros(1, 1, 64, 64))] == net.out_channels


def test_checkpointing_serves_the_detector_too() -> None:
    net = backbone("5").train()
    net.set_grad_checkpointing()
    sum(x.mean() for x in net(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_stage_as_a_row_halves_where_asked() -> None:
    stage = VanillaStage(8, 16, stride=2)
    assert stage.eval()(torch.rand(1, 8, 10, 6)).shape == (1, 16, 5, 3)
    assert abs(float(stage.pair.conv1.weight.std()) - 0.02) < 0.01


@pytest.mark.parametrize("letter", "nx")
def test_the_plain_neck_collapses_and_keeps_yolo11s_head(letter: str) -> None:
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Detect, "bias_init", lambda self: None)  # reads a stride's value, which meta has not
        model = VanillaDetectionModel(model_yaml(f"yolo11{letter}-vanillanet", neck="plain"), verbose=False)
    head = model.model[-1]
    assert not isinstance(head.cv3[0][0], Conv)  # YOLO11's depthwise class branch, not YOLOv8's
    assert not any(type(m).__name__ in {"C3k2", "C2PSA"} for m in model.modules())
