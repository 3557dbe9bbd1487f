"""A detector up to its raw maps gives what its head decodes, whichever branches the head uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.nn.tasks import SegmentationModel

from vanillayolo import VanillaYOLO
from vanillayolo.errors import MergeError, UsageError
from vanillayolo.nn import randomize_batchnorm, set_negative_slope
from vanillayolo.yolo.inference import stock_model
from vanillayolo.yolo.raw_maps import Decode, with_raw_maps


@pytest.mark.parametrize(
    ("model", "one_to_one"),
    [
        ("ours", False),
        pytest.param("yolo11n", False, marks=pytest.mark.slow),
        pytest.param("yolo26n", False, marks=pytest.mark.slow),
        pytest.param("yolo26n", True, marks=pytest.mark.slow),
    ],
)
def test_the_maps_are_those_that_the_head_decodes(model: str, one_to_one: bool, lively: Path) -> None:
    network: Any = VanillaYOLO(lively).model if model == "ours" else randomize_batchnorm(stock_model(model))
    network = network.float().eval()
    if one_to_one:
        network.end2end = True
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        predictions = network(x)[1]
        maps = with_raw_maps(network)(x)
    expected = predictions.get("one2one" if one_to_one else "one2many", predictions)
    levels = len(maps) // 2
    for found, key in ((maps[:levels], "boxes"), (maps[levels:], "scores")):
        joined = torch.cat([m.flatten(2) for m in found], 2)
        # merging and folding round once more, in float32
        torch.testing.assert_close(joined, expected[key], rtol=1e-3, atol=1e-3 * float(expected[key].abs().max()))
    if one_to_one:
        return  # its head gives final boxes
    strides, bins = [int(s) for s in network.stride], network.model[-1].reg_max
    with torch.no_grad():
        pixels, shares = (Decode(strides, bins, (64, 96), given)(maps) for given in (False, True))
        wanted = network(x)[0]
    torch.testing.assert_close(pixels, wanted, rtol=1e-3, atol=0.05)  # of 96 px, through the same roundings
    torch.testing.assert_close(shares[:, :4] * torch.tensor([96, 64, 96, 64]).view(4, 1), pixels[:, :4])


def test_a_slope_below_1_is_refused(lively: Path) -> None:
    network = VanillaYOLO(lively).model
    set_negative_slope(network, 0.5)
    with pytest.raises(MergeError, match=r"slope 0\.5"):
        with_raw_maps(network)


def test_a_head_with_further_outputs_is_refused() -> None:
    with pytest.raises(UsageError, match="Segment"):
        with_raw_maps(SegmentationModel("yolo11n-seg.yaml", verbose=False))
