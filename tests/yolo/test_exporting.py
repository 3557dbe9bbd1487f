from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.nn.modules.block import DFL

from vanillayolo.yolo.exporting import (
    DistributionMean,
    MeanByConvolution,
    export_float,
    offline_mnn,
    with_distribution_mean,
)
from vanillayolo.yolo.files import write_file
from vanillayolo.yolo.inference import raw_output, stock_model, trace_onnx


def test_the_converter_of_mnn_cannot_load_its_logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("MNN", "MNN/tools", "MNN/tools/utils"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
        monkeypatch.delitem(sys.modules, folder.replace("/", "."), raising=False)
    (tmp_path / "MNN/tools/utils/log.py").write_text("mnn_logger = 'reports'")
    monkeypatch.syspath_prepend(tmp_path)
    name = "MNN.tools.utils.log"
    with offline_mnn(), pytest.raises(ImportError):
        importlib.import_module(name)
    assert importlib.import_module(name).mnn_logger == "reports"
    for module in [m for m in sys.modules if m.partition(".")[0] == "MNN"]:
        monkeypatch.delitem(sys.modules, module)


@pytest.mark.parametrize("spread", [0.0, 1.0, 100.0, 1e4])
@pytest.mark.parametrize("bins", [4, 16])
@pytest.mark.parametrize("mean", [DistributionMean, MeanByConvolution])
def test_the_mean_is_that_of_the_softmax(mean: type[DistributionMean], bins: int, spread: float) -> None:
    dfl = DFL(bins).double()
    x = spread * torch.randn(2, 4 * bins, 37, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # one rounding of sums up to bins; no overflow at any spread
    torch.testing.assert_close(mean(dfl)(x), dfl(x), rtol=0, atol=1e-12 * bins)


def test_half_precision_stays_in_range() -> None:
    x = (20 * torch.randn(1, 64, 50, generator=torch.Generator().manual_seed(0))).half()
    got = DistributionMean(DFL().half())(x)
    assert got.dtype == torch.float16
    # bins go up to 15, where float16 has steps of 2^-7
    torch.testing.assert_close(got.float(), DFL()(x.float()), rtol=0, atol=0.05)


def test_a_network_computes_the_same_with_it_and_no_other_part_changes() -> None:
    network: Any = stock_model("yolo11n").double().eval()
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    changed = with_distribution_mean(copy.deepcopy(network))
    before, after = ([type(m) for m in net.modules() if not list(m.children())] for net in (network, changed))
    assert before.count(torch.nn.Conv2d) == after.count(torch.nn.Conv2d) + 1
    assert after.count(DistributionMean) == 1
    torch.testing.assert_close(raw_output(changed, x), raw_output(network, x), rtol=1e-12, atol=1e-10)


def test_other_formats_keep_the_softmax() -> None:
    network = with_distribution_mean(stock_model("yolo11n"), "torchscript")
    assert sum(isinstance(m, DFL) for m in network.modules()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "write",
    [
        lambda network, folder: export_float(network, folder, "float", 64),
        lambda network, folder: write_file(network, folder, "float", {"format": "onnx", "imgsz": 64}),
        lambda network, folder: trace_onnx(network, folder / "float.onnx", 64),
    ],
    ids=["int8's source", "export", "timing"],
)
def test_files_have_no_softmax_over_boxes_and_the_network_keeps_its_own(
    write: Callable[[Any, Path], Path], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'vanillayolo[export]'")
    network = stock_model("yolo11n").eval()
    network.task = "detect"  # as of a network that an interface has opened
    kinds = [n.op_type for n in onnx.load(write(network, tmp_path)).graph.node]
    assert kinds.count("Softmax") == 1  # of C2PSA's attention
    assert sum(isinstance(m, DFL) for m in network.modules()) == 1
