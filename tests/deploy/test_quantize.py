from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from vanillayolo import VanillaYOLO
from vanillayolo.data.scenes import SceneSettings
from vanillayolo.data.scenes.writing import write_scenes
from vanillayolo.deploy.formats import INT8, graph_of
from vanillayolo.deploy.int8 import QuantizeSettings
from vanillayolo.deploy.layer_report import layer_report
from vanillayolo.deploy.onnx_graph import decode_nodes, relu_before_pool
from vanillayolo.deploy.quantize import quantize_export
from vanillayolo.errors import CheckpointError, DataError, MergeError, UsageError
from vanillayolo.nn import set_negative_slope
from vanillayolo.nn.bias import correct_biases, mean_inputs, rounded
from vanillayolo.nn.fake_quantize import measure_maps, unrounded
from vanillayolo.yolo.calibration import Batches, calibration_images
from vanillayolo.yolo.engines import ENGINES
from vanillayolo.yolo.exporting import export_float
from vanillayolo.yolo.files import ExportedFile
from vanillayolo.yolo.inference import checkpoint, letterbox, raw_output, read_image
from vanillayolo.yolo.opened import open_checkpoint
from vanillayolo.yolo.outputs import raw_outputs
from vanillayolo.yolo.quantized_training import QUANTIZED, QuantizedTrainer
from vanillayolo.yolo.tasks import FINDING, TASKS

NEEDED = {"openvino": ("onnx", "openvino", "nncf"), "onnx": ("onnx", "onnxruntime")}  # LiteRT: test_litert.py


def need(format: str) -> None:
    for package in NEEDED[format]:
        pytest.importorskip(package, reason=f"needs {package}: pip install vanillayolo[export]")


@pytest.fixture(scope="session", params=sorted(NEEDED))
def int8_file(request: pytest.FixtureRequest, finished: Path, painted: Path) -> Path:
    """An int8 file of ``finished`` in each format."""
    need(request.param)
    return quantize_export(finished, format=request.param, data=str(painted), imgsz=96)


def outputs(file: Path, image: np.ndarray) -> torch.Tensor:
    """Return the file's raw output by its own library."""
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(None, {"images": image})[0])
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(next(iter(file.glob("*.xml"))), "CPU", settings)
    return torch.from_numpy(np.array(compiled(image)[0]))


@pytest.mark.slow
def test_every_convolution_of_the_backbone_is_int8(int8_file: Path, finished: Path) -> None:
    found = graph_of(int8_file).int8_convolutions(int8_file)
    backbone = [name for name, m in open_checkpoint(finished).merged().named_modules() if isinstance(m, nn.Conv2d)]
    backbone = [name for name in backbone if name.startswith("model.0.")]
    assert len(backbone) == 2 * 5  # stem and four stages of VanillaNet-6
    assert all(found[name] for name in backbone)
    assert all(found.values())


@pytest.mark.slow
def test_int8_is_near_float_and_keeps_the_scores(int8_file: Path, finished: Path, painted: Path) -> None:
    network = open_checkpoint(finished).merged()
    for path in sorted((painted.parent / "images" / "val").iterdir()):
        x = letterbox(read_image(path), 96)
        want, got = raw_output(network, x), outputs(int8_file, x.numpy())
        assert got.shape == want.shape
        # Noise grows through weights that learnt nothing: how much there is of it is a matter of test_layers.
        # A decode in int8 would have one scale for pixels and scores, and so no scores at all.
        assert float(torch.corrcoef(torch.stack([want[:, :4].flatten(), got[:, :4].flatten()]))[0, 1]) > 0.9
        assert float(got[:, 4:].std()) > 0.4 * float(want[:, 4:].std()) > 0
        assert len(got[:, 4:].unique()) > 100


@pytest.mark.slow
@pytest.mark.parametrize("format", sorted(NEEDED))
def test_int8_of_every_task_has_its_outputs(format: str, lively_other: Path, scenes: Path, tmp_path: Path) -> None:
    """Random weights round badly: each output only has to go with PyTorch's own, and not with another branch's."""
    need(format)
    model = VanillaYOLO(lively_other)
    if format == "openvino" and model.task != "segment":
        pytest.skip("the same writer: the task with most outputs stands for all")
    settings = SceneSettings(pictures=10, size=64, task=model.task, objects=4)
    data = write_scenes(tmp_path / "scenes", settings, "yolo", 1)
    place = tmp_path / f"best{INT8[format].ending}"
    file = ExportedFile(quantize_export(lively_other, format=format, data=str(data), imgsz=64, images=8, path=place))
    assert file.metadata["task"] == model.task
    image = letterbox(read_image(next(iter((scenes.parent / "images" / "val").iterdir()))), 64)
    network = open_checkpoint(lively_other).merged()

    def alike() -> dict[str, float]:
        expected = raw_outputs(network, image)
        found = expected.like(file.tensors(image)).parts
        pairs = {name: torch.stack([part.flatten(), found[name].flatten()]) for name, part in expected.parts.items()}
        return {name: float(torch.corrcoef(pair)[0, 1]) for name, pair in pairs.items()}

    right = alike()
    assert min(right.values()) > 0.5, right
    with torch.no_grad():
        for branch in network.model[-1].cv4:
            branch[-1].weight.neg_()
    wrong = alike()
    extra = TASKS[model.task].extra
    assert wrong[extra] < right[extra] - 0.02
    assert {name for name in right if wrong[name] != right[name]} <= {extra, "visibility", "boxes"}


@pytest.mark.slow
def test_stock_ultralytics_opens_it_with_names_and_size(int8_file: Path, painted: Path) -> None:
    from ultralytics import YOLO

    model = YOLO(str(int8_file), task="detect")
    image = next(iter(sorted((painted.parent / "images" / "val").iterdir())))
    (result,) = model.predict(str(image), imgsz=96, conf=0.001, verbose=False)
    assert result.names == {0: "disc", 1: "square", 2: "ring"}
    if int8_file.suffix == ".onnx":
        import onnx

        metadata: dict[str, Any] = {p.key: p.value for p in onnx.load(int8_file).metadata_props}
    else:
        metadata = yaml.safe_load((int8_file / "metadata.yaml").read_text(encoding="utf-8"))
    values = {k: ast.literal_eval(str(metadata[k])) for k in ("stride", "imgsz", "batch", "names")}
    assert values == {"stride": 32, "imgsz": [96, 96], "batch": 1, "names": result.names}
    assert metadata["task"] == "detect"
    assert str(painted.parent) not in str(metadata)  # no path of this machine


@pytest.mark.slow
def test_modules_asked_for_stay_in_float(finished: Path, painted: Path, tmp_path: Path) -> None:
    for format in NEEDED:
        need(format)
        path = tmp_path / f"kept{INT8[format].ending}"
        settings: dict[str, Any] = {"keep_float": "model.0.stem,model.4", "equalize": "weights", "images": 2}
        quantize_export(finished, format=format, data=str(painted), imgsz=64, path=path, **settings)
        found = graph_of(path).int8_convolutions(path)
        floats = {name for name, int8 in found.items() if not int8}
        assert floats == {"model.0.stem.pair", "model.0.stem.act.1", "model.4.cv1.conv", "model.4.cv2.conv"}


def test_calibrated_on_the_training_split_only(painted: Path) -> None:
    files = calibration_images(str(painted), 5)
    assert len(files) == 5
    assert all(p.parent.name == "train" for p in files)
    assert len(calibration_images(str(painted), 300)) == 8
    (first, *_) = Batches(files, 64)
    assert first.shape == (1, 3, 64, 64)
    assert torch.equal(first, letterbox(read_image(files[0]), 64))  # as at inference
    batches = Batches(files, (64, 96))
    stacked = list(batches.stacked(2 * 64 * 96))
    assert [len(x) for x in stacked] == [2, 2, 1]
    assert torch.equal(torch.cat(stacked), torch.cat(list(batches)))
    assert [len(x) for x in batches.stacked(1)] == [1] * 5


@pytest.mark.slow
@pytest.mark.parametrize("format", sorted(NEEDED))
def test_height_and_width_may_differ(format: str, finished: Path, painted: Path, tmp_path: Path) -> None:
    need(format)
    path = tmp_path / f"wide{INT8[format].ending}"
    quantize_export(finished, format, str(painted), [64, 96], path, images=2)
    image = sorted((painted.parent / "images" / "val").iterdir())[0]
    x = letterbox(read_image(image), (64, 96))
    assert outputs(path, x.numpy()).shape == raw_output(open_checkpoint(finished).merged(), x).shape
    assert len(layer_report(path, finished, [image]).layers) > 10


@pytest.mark.slow
def test_relu_moves_before_the_pool_without_a_difference(finished: Path, tmp_path: Path) -> None:
    need("onnx")
    import onnx
    import onnxruntime

    path = export_float(open_checkpoint(finished).merged(), tmp_path, "float", 96)
    model = onnx.load(path)
    decode = decode_nodes(model.graph)
    assert any(name.endswith("Sigmoid") for name in decode)
    assert not any(name.endswith("Conv") for name in decode)
    assert relu_before_pool(model) == 3 + 2  # of the backbone and of the neck
    assert relu_before_pool(model) == 0
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(0).random((1, 3, 96, 96), np.float32)
    runs = [
        onnxruntime.InferenceSession(m, providers=["CPUExecutionProvider"]) for m in (path, model.SerializeToString())
    ]
    before, after = (run.run(None, {"images": x})[0] for run in runs)
    assert np.array_equal(before, after)


def test_bias_correction_takes_the_mean_error_away(finished: Path, painted: Path) -> None:
    network = open_checkpoint(finished).merged()
    batches = Batches(calibration_images(str(painted), 8), 96)
    stem = network.model[0].stem.pair
    mean = mean_inputs(network, batches)["model.0.stem.pair"]
    want = stem(mean).mean((0, 2, 3))
    quantised = {m: rounded(m.weight.detach()) for m in network.modules() if isinstance(m, nn.Conv2d)}
    count = correct_biases(network, batches, skip=["model.4"])
    assert count == sum(m.bias is not None for m in quantised) - 2
    got = torch.nn.functional.conv2d(mean, quantised[stem], stem.bias, stem.stride).mean((0, 2, 3))
    assert float((got - want).abs().max()) < 1e-5


def test_rounding_is_symmetric_int8_for_each_output_channel() -> None:
    weight = torch.tensor([[1.27, 0.014, -0.006], [0.0, 0.0, 0.0]]).view(2, 3, 1, 1)
    assert torch.allclose(rounded(weight).flatten(1), torch.tensor([[1.27, 0.01, -0.01], [0.0, 0.0, 0.0]]))
    weight = torch.tensor([0.64, 0.014, -0.006]).view(1, 3, 1, 1)
    assert torch.allclose(rounded(weight, 64).flatten(1), torch.tensor([[0.64, 0.01, -0.01]]))


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "least", "most"), [(7, 60, 64), (8, 120, 127)])
def test_onnx_weights_keep_sums_of_two_products_within_16_bits(
    bits: int, least: int, most: int, finished: Path, painted: Path, tmp_path: Path
) -> None:
    """CPUs without VNNI add two products of a map (0 to 255) and a weight at 16 bits, and clip at 32767.

    Depthwise convolutions are computed otherwise and keep 8 bits.
    """
    need("onnx")
    import onnx

    path = quantize_export(finished, "onnx", str(painted), 96, tmp_path / "x.onnx", images=2, weight_bits=bits)
    weights = [onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer if t.data_type == 3]
    dense, depthwise = (
        [w.astype(int) for w in weights if w.ndim == 4 and (w.shape[1] == 1) is d] for d in (False, True)
    )
    assert min(len(dense), len(depthwise)) > 4
    assert least <= max(int(np.abs(w).max()) for w in dense) <= most
    assert all(np.abs(w).max() >= 120 for w in depthwise)
    if bits == 7:
        assert 2 * 255 * most < 2**15


@pytest.mark.slow
@pytest.mark.parametrize("bits", [7, 8])
def test_biases_are_corrected_for_the_steps_that_nncf_rounds_to(
    bits: int, finished: Path, painted: Path, tmp_path: Path
) -> None:
    need("openvino")
    import openvino

    kept = {"images": 2, "equalize": "off", "weight_bits": bits}
    path = quantize_export(finished, "openvino", str(painted), 96, tmp_path / "x", **kept)
    convs = [m for m in open_checkpoint(finished).merged().modules() if isinstance(m, nn.Conv2d)]
    levels = INT8["openvino"].levels
    expected = [rounded(c.weight.detach(), levels(c, bits)).flatten(1) for c in convs]
    constants = 0
    for op in openvino.Core().read_model(next(iter(path.glob("*.xml")))).get_ordered_ops():
        if op.get_type_name() != "Constant" or op.get_element_type() != openvino.Type.i8:
            continue
        convert = next(iter(op.output(0).get_target_inputs())).get_node()
        scale = (
            next(iter(convert.output(0).get_target_inputs())).get_node().input(1).get_source_output().get_node().data
        )
        got = torch.from_numpy(op.data.astype(np.float32) * scale)
        same = [e for e in expected if e.numel() == got.numel()]
        # 63.5 of the largest weight's steps are rounded to 63 or 64: such a weight may be one step off
        shares = [float(torch.isclose(got.reshape(e.shape), e, rtol=1e-4, atol=1e-7).float().mean()) for e in same]
        constants += 1
        assert max(shares) > 0.8, op.get_friendly_name()
    assert constants > 8


@pytest.mark.slow
@pytest.mark.parametrize("equalize", [None, "activations"])
def test_a_bright_channel_with_a_strong_kernel_leaves_the_others_their_steps(
    equalize: str | None, finished: Path, painted: Path, tmp_path: Path
) -> None:
    """NNCF gives no row a scale below a hundredth of the largest row's; equal maps would make such a row larger yet."""
    need("openvino")
    import openvino

    model = VanillaYOLO(finished)
    stage = model.model.model[0].stages[0]
    with torch.no_grad():
        stage.pair.norm2.weight[0] *= 8
        stage.pair.norm2.bias[0] *= 8
        stage.act.conv.weight[0] *= 60
    model.save(tmp_path / "bright.pt")
    settings = {} if equalize is None else {"equalize": equalize}
    path = quantize_export(tmp_path / "bright.pt", "openvino", str(painted), 96, tmp_path / "x", **settings)
    steps = [
        np.abs(op.data.astype(int)).reshape(len(op.data), -1).max(1)
        for op in openvino.Core().read_model(next(iter(path.glob("*.xml")))).get_ordered_ops()
        if op.get_type_name() == "Constant" and op.get_element_type() == openvino.Type.i8 and op.data.ndim == 5
    ]  # of every row of every depthwise kernel, the largest
    least = np.concatenate(steps).min()
    assert least > 120 if equalize is None else least < 64


def test_mistakes_are_told_and_nothing_is_written(finished: Path, painted: Path, tmp_path: Path) -> None:
    data = str(painted)
    with pytest.raises(UsageError, match="onnx"):
        quantize_export(finished, format="onx", data=data)
    with pytest.raises(DataError, match="training split"):
        quantize_export(finished, format="onnx")
    with pytest.raises(UsageError, match="equalize"):
        quantize_export(finished, format="onnx", data=data, equalise="off")
    with pytest.raises(UsageError, match="weights"):
        QuantizeSettings.of({"equalize": "weight"})
    with pytest.raises(UsageError, match="weight_bits=4"):
        QuantizeSettings.of({"weight_bits": 4})
    with pytest.raises(UsageError, match="images=0"):
        QuantizeSettings.of({"images": 0})
    with pytest.raises(CheckpointError, match="no such file"):
        quantize_export(tmp_path / "nowhere.pt", format="onnx", data=data)
    model = VanillaYOLO(finished)
    set_negative_slope(model.model, 0.5)
    model.save(tmp_path / "half.pt")
    with pytest.raises(MergeError, match=r"slope 0\.5"):
        quantize_export(tmp_path / "half.pt", format="onnx", data=data)
    assert [p.name for p in tmp_path.iterdir()] == ["half.pt"]


@pytest.mark.slow
def test_a_file_rounds_as_the_network_was_trained(finished: Path, painted: Path, tmp_path: Path) -> None:
    """Of a checkpoint of ``train quantize=8`` the file computes what training computed, not the float network."""
    need("onnx")
    settings = {"model": str(finished), "data": str(painted), "imgsz": 64, "quantize": 8, "project": str(tmp_path)}
    assert tuple(QUANTIZED) == FINDING
    assert all(ENGINES[task]["trainer"] in trainer.__mro__ for task, trainer in QUANTIZED.items())
    network = QuantizedTrainer(overrides=settings).get_model(weights=VanillaYOLO(finished).model).eval()
    with torch.no_grad():  # training moves every weight: what is on the grid at its start says nothing
        for parameter in network.parameters():
            parameter.mul_(1 + 0.02 * torch.randn_like(parameter))
    files = calibration_images(str(painted), 8)
    measure_maps(network, Batches(files, 64))
    rounds = [raw_output(network, x)[:, 4:] for x in Batches(files, 64)]

    def noise(args: dict[str, Any]) -> list[float]:
        """Return how far the scores of a file of a checkpoint with these arguments are from rounded and from float."""
        with unrounded(network):
            floats = [raw_output(network, x)[:, 4:] for x in Batches(files, 64)]
            torch.save(checkpoint(network, {}, {"task": "detect", "imgsz": 64, **args}), tmp_path / "best.pt")
        file = ExportedFile(quantize_export(tmp_path / "best.pt", "onnx", str(painted)))
        got = [file(x)[:, 4:] for x in Batches(files, 64)]
        return [sum(float((g - w).square().sum()) for g, w in zip(got, want, strict=True)) for want in (rounds, floats)]

    (close, far), (other, _) = noise({"quantize": 8}), noise({})
    assert close < far / 2, "it computes what was trained, not the float network behind"
    assert close < other / 2, "a checkpoint that was not trained so is equalised and corrected anew"
