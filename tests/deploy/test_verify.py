from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vanillayolo import VanillaYOLO, cli
from vanillayolo.deploy import Exported, export, verify
from vanillayolo.deploy.graph import precision
from vanillayolo.deploy.layer_report import layer_report
from vanillayolo.deploy.power import FAULTS
from vanillayolo.deploy.running import batches
from vanillayolo.deploy.verification import TOLERANCES
from vanillayolo.deploy.verify import compare_file
from vanillayolo.errors import CheckpointError, MergeError, UsageError, VerificationError
from vanillayolo.nn import set_negative_slope
from vanillayolo.yolo.inference import raw_output
from vanillayolo.yolo.opened import open_checkpoint

# ---------------------------------------------------------------------------------------------------------------------
# Real files


@pytest.fixture(scope="module")
def exported(lively: Path) -> Exported:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install 'vanillayolo[export]'")
    return export(lively, format="onnx", imgsz=64, verify=False)


@pytest.mark.slow
def test_a_good_file_is_proven_with_its_map(exported: Exported, lively: Path, lively_data: Path) -> None:
    result = verify(exported.path, lively, data=str(lively_data))
    assert result.verified, result.breaches
    (record,) = result.records.values()
    assert list(result.records) == ["64x64"]
    assert record.boxes > 10
    assert record.matched >= 0.95 * record.boxes
    assert 0 < record.worst.relative < 5e-5
    assert result.map is not None
    assert result.map.reference[0] > 0.1  # the labels are its own boxes
    assert result.map.file[0] == pytest.approx(result.map.reference[0], abs=1e-3)


@pytest.mark.slow
def test_a_file_of_other_weights_is_found_out_on_the_command_line(
    exported: Exported, lively: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = VanillaYOLO(lively)
    with torch.no_grad():
        next(m for m in model.model.model[-1].modules() if isinstance(m, nn.Conv2d)).weight.mul_(1.05)
    model.save(tmp_path / "other.pt")
    words = ["verify", f"model={exported.path}", f"reference={tmp_path / 'other.pt'}"]
    assert cli.main(words) == 1
    out, err = capsys.readouterr()
    assert "NOT VERIFIED" in out
    assert err.count("\n") == 1
    assert "differ by" in err
    assert cli.main([*words[:2], f"reference={lively}", "layers=True"]) == 0
    assert "stem" in capsys.readouterr().out
    assert json.loads((exported.path.parent / f"{exported.path.name}.verify.json").read_text())["breaches"] == []


def with_fault(file: Path, target: Path, fault: Callable[[np.ndarray], np.ndarray], layer: int) -> Path:
    """Write an ONNX file whose weight of one convolution, counted in the graph's order, is changed."""
    import onnx

    model = onnx.load(file)
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    stored = {i.name: i for i in model.graph.initializer}
    weight = stored[convolutions[layer].input[1]]
    weight.CopyFrom(onnx.numpy_helper.from_array(fault(onnx.numpy_helper.to_array(weight)), weight.name))
    onnx.save(model, target)
    return target


@pytest.mark.slow
def test_faults_in_the_file_are_found_as_its_power_says(exported: Exported, lively: Path, tmp_path: Path) -> None:
    whole = verify(exported.path, lively, images=2)
    assert whole.power is not None
    assert whole.power.seen[FAULTS[0]] == whole.power.layers  # so 1 % in any layer is seen
    for layer in (0, 9, 30, -2):
        wrong = with_fault(exported.path, tmp_path / "wrong.onnx", lambda w: (1.01 * w).astype(np.float32), layer)
        result = verify(wrong, lively, images=2)
        assert result.verdict.startswith("NOT VERIFIED")
        assert result.power is None
    lying = with_metadata(wrong, tmp_path / "lying.onnx", args=str({"quantize": 8}))
    assert verify(lying, lively, images=2).precision == "float32"  # so that nothing more may differ in it
    nan = with_fault(exported.path, tmp_path / "nan.onnx", lambda w: np.full_like(w, np.nan), 5)
    assert "not finite" in verify(nan, lively, images=2).verdict
    with pytest.raises(VerificationError, match="not finite"):
        layer_report(nan, lively, open_checkpoint(lively).images(most=1)[0])


def with_metadata(file: Path, target: Path, **said: str) -> Path:
    """Write an ONNX file that says something else of itself."""
    import onnx

    model = onnx.load(file)
    for entry in model.metadata_props:
        entry.value = said.get(entry.key, entry.value)
    onnx.save(model, target)
    return target


@pytest.mark.slow
def test_what_a_file_says_to_those_who_run_it_is_compared(exported: Exported, lively: Path, tmp_path: Path) -> None:
    cases = {
        "names": (str({0: "1", 1: "0", 2: "2"}), "it says class 0 '1', not '0'; it says class 1 '0', not '1'"),
        "stride": ("64", "it says stride 64, not 32"),
        "task": ("segment", "it says task 'segment', not 'detect'"),
    }
    for key, (value, told) in cases.items():
        wrong = with_metadata(exported.path, tmp_path / "wrong.onnx", **{key: value})
        assert verify(wrong, lively, images=1).verdict == f"NOT VERIFIED: {told}"
    other = with_metadata(exported.path, tmp_path / "wrong.onnx", imgsz="[96, 96]")
    with pytest.raises(VerificationError, match=r"wrong\.onnx: does not run on 1x3x96x96 \(.*Expected: 64"):
        verify(other, lively, images=1)


class OfTwo:
    """A file that takes two images, and whose second is wrong."""

    name, batch = "two.onnx", 2

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def tensors(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [torch.cat([raw_output(self.network, x[:1]), raw_output(self.network, 0.9 * x[1:])])]


def test_every_image_of_a_batch_is_compared(lively: Path) -> None:
    network = open_checkpoint(lively).merged()
    images, allowed = list(torch.rand(3, 1, 3, 64, 64)), TOLERANCES["float32"]
    assert torch.equal(batches(images, 2)[1], torch.cat([images[2], images[0]]))
    record = compare_file(OfTwo(network), network, images, 0.25, allowed, None)  # type: ignore[arg-type]
    assert record.images == 4
    assert record.worst.relative > 1e-3


@pytest.mark.slow
def test_a_file_of_other_classes_is_told(exported: Exported, tiny_yaml: Path, tmp_path: Path) -> None:
    model = VanillaYOLO(tiny_yaml)
    set_negative_slope(model.model, 1.0)
    model.save(tmp_path / "other.pt")
    with pytest.raises(VerificationError, match=r"output \[1, 7, .*\], not \[1, 84"):
        verify(exported.path, tmp_path / "other.pt")


@pytest.mark.slow
def test_what_does_not_fit_is_told_in_one_line(exported: Exported, lively: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(exported.path.read_bytes()[:1000])
    model = VanillaYOLO(lively)
    set_negative_slope(model.model, 0.5)
    cases: list[tuple[Any, Any, dict[str, Any], type[Exception], str]] = [
        (tmp_path / "nowhere.onnx", lively, {}, UsageError, "no such file"),
        (lively, lively, {}, UsageError, "not an exported file"),
        (exported.path, exported.path, {}, CheckpointError, "the reference is a checkpoint"),
        (exported.path, lively, {"imgsz": 96}, UsageError, "made for 64x64"),
        (exported.path, model, {}, MergeError, r"slope 0\.5"),
        (damaged, lively, {}, CheckpointError, "cannot be opened as onnx"),
    ]
    for file, reference, settings, kind, told in cases:
        with pytest.raises(kind, match=told) as error:
            verify(file, reference, **settings)
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_int8_is_seen_in_the_graph_whatever_the_metadata_say(exported: Exported, tmp_path: Path) -> None:
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(exported.path), str(tmp_path / "q.onnx"), op_types_to_quantize=["MatMul"])
    model = onnx.load(exported.path)
    assert precision(exported.path, "onnx", {"args": {"quantize": None}}) == "float32"
    model.graph.node.append(onnx.helper.make_node("QuantizeLinear", ["a", "b"], ["c"]))
    onnx.save(model, tmp_path / "int8.onnx")
    assert precision(tmp_path / "int8.onnx", "onnx", {"args": {"quantize": None}}) == "int8"
    assert precision(tmp_path / "x.torchscript", "torchscript", {"args": {"quantize": 16}}) == "float16"
