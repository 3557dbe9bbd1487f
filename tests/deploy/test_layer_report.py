from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from vanillayolo.deploy import collapse
from vanillayolo.deploy.formats import FORMATS, INT8
from vanillayolo.deploy.layer_report import Sums, layer_report
from vanillayolo.deploy.quantize import quantize_export
from vanillayolo.errors import UsageError, VerificationError
from vanillayolo.yolo.exporting import export_float
from vanillayolo.yolo.inference import image_files
from vanillayolo.yolo.opened import open_checkpoint


@pytest.fixture(scope="module")
def images(painted: Path) -> list[Path]:
    return image_files(painted.parent / "images" / "val")[:2]


@pytest.mark.slow
@pytest.mark.parametrize("format", sorted(name for name in INT8 if FORMATS[name].graph))
def test_every_convolution_has_its_noise(
    format: str, finished: Path, painted: Path, images: list[Path], tmp_path: Path
) -> None:
    for package in ("onnx", "onnxruntime", "openvino", "nncf"):
        pytest.importorskip(package, reason=f"needs {package}: pip install vanillayolo[export]")
    path = tmp_path / f"x{INT8[format].ending}"
    report = layer_report(quantize_export(finished, format, str(painted), 96, path), finished, images)
    assert report.images == 2
    backbone = [layer for layer in report.layers if layer.name.startswith("model.0.")]
    assert len(backbone) == 10
    assert all(layer.int8 and 10 < layer.decibels < 60 and 0 <= layer.shift <= 1 for layer in backbone)
    assert report.worst.decibels == min(layer.decibels for layer in report.layers)
    text = str(report)
    assert report.worst.name in text.splitlines()[-1]
    assert json.loads(json.dumps(report.to_dict()))["layers"][0]["name"] == "model.0.stem.pair"


@pytest.mark.slow
def test_a_float_file_has_no_noise_to_speak_of(finished: Path, images: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install vanillayolo[export]")
    path = export_float(open_checkpoint(finished).merged(), tmp_path, "float", 96)
    report = layer_report(path, finished, images)
    assert not any(layer.int8 for layer in report.layers)
    assert all(layer.decibels > 90 for layer in report.layers)  # float32: some 7 digits, 20 dB each, less the layers'


@pytest.mark.slow
def test_the_collapsed_checkpoint_is_a_reference_too(finished: Path, images: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install vanillayolo[export]")
    collapsed = collapse(finished, tmp_path / "c.pt", imgsz=96).checkpoint
    path = export_float(open_checkpoint(collapsed).merged(), tmp_path, "stock", 96)
    ours, stock = (layer_report(path, reference, images) for reference in (finished, collapsed))
    assert [layer.name for layer in ours.layers] == [layer.name for layer in stock.layers]
    assert all(layer.decibels > 90 for layer in ours.layers)


def test_gain_is_taken_out_only_where_asked() -> None:
    sums, x = Sums(), np.random.default_rng(0).normal(size=(1, 3, 8, 8))
    sums.add(x, 2 * x)
    decibels, shift = sums.noise(fit=True)
    assert math.isinf(decibels)
    assert shift == 0
    assert abs(sums.noise(fit=False)[0]) < 1e-9  # the noise is as large as the signal


def test_a_constant_error_is_all_shift() -> None:
    sums, x = Sums(), np.random.default_rng(0).normal(size=(1, 3, 8, 8))
    sums.add(x, x + 0.5)
    decibels, shift = sums.noise(fit=False)
    assert shift == pytest.approx(1)
    assert decibels == pytest.approx(10 * math.log10((x**2).mean() / 0.25))


@pytest.mark.slow
def test_wrong_files_are_told(finished: Path, images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="OpenVINO"):
        layer_report(finished, finished, images)
    with pytest.raises(UsageError, match="exist"):
        layer_report(tmp_path / "none.onnx", finished, images)
    pytest.importorskip("onnx", reason="needs onnx: pip install vanillayolo[export]")
    import onnx

    node = onnx.helper.make_node("Conv", ["images", "w"], ["output0"], name="/other/Conv")
    info = [onnx.helper.make_tensor_value_info(n, 1, [1, 3, 96, 96]) for n in ("images", "output0")]
    weight = onnx.numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    graph = onnx.helper.make_graph([node], "other", info[:1], info[1:], [weight])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), tmp_path / "o.onnx")
    with pytest.raises(VerificationError, match="made from"):
        layer_report(tmp_path / "o.onnx", finished, images)
