"""What a chip's compiler says is read as it says it; the whole way runs where the compilers are."""

from __future__ import annotations

import csv
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from vanillayolo import cli
from vanillayolo.deploy import chip_cost, simulators, targets
from vanillayolo.deploy.body import write_body
from vanillayolo.deploy.chip_cost import body_of, calibration_images, render
from vanillayolo.deploy.litert import write_int8
from vanillayolo.deploy.rewrites import REWRITES, rewritten
from vanillayolo.deploy.targets import PACKAGES, TARGETS
from vanillayolo.deploy.vela import CUT_UP, Layer, estimate, module_path, read_layers
from vanillayolo.errors import UsageError
from vanillayolo.study.records import read_record
from vanillayolo.yolo.files import missing_packages

RELU = "torch.nn.modules.container.Sequential_act/torch.nn.modules.activation.ReLU_0;;x/a.B_y;"
STEM = "litert_torch._convert.to_channel_last_io.ChannelLastIOWrapper/a.b.Model_wrapped/a.Backbone_0/a.Stage_stem/"
needs_compilers = pytest.mark.skipif(bool(missing_packages(PACKAGES)), reason="needs the extra npu")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (f"{STEM}torch.nn.modules.conv.Conv2d_pair;1", "0.stem.pair"),
        (
            f"{STEM}torch.nn.modules.container.Sequential_act/torch.nn.modules.activation.ReLU_0;;x/a.B_y;",
            "0.stem.act.0",
        ),
        ("serving_default_output_0_output", "serving_default_output_0_output"),
    ],
)
def test_names_of_tensors_become_paths_of_modules(name: str, path: str) -> None:
    assert module_path(name) == path


def test_operations_of_one_operator_are_put_together(tmp_path: Path) -> None:
    rows = [("a.X_stem", "Conv2D", "NPU", 10.0)] * 40 + [
        ("a.X_stem", "Relu", "NPU", 1.0),
        ("a.X_up", "Resize", "CPU", 0.0),
    ]
    table = tmp_path / "x_per-layer.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("Name", "NNG Operator", "Target", "Op Cycles"), *rows])
    layers = read_layers(table)
    assert layers[0] == Layer("stem", "Conv2D", "NPU", 400.0, 40)
    assert [layer.is_cut_up for layer in layers] == [True, False, False]
    assert [layer.where for layer in layers] == ["NPU", "NPU", "CPU"]


def record(**layer: Any) -> dict[str, Any]:
    layers = [{"name": "stem", "kind": "Conv2D", "where": "NPU", "cycles": 3e6, "operations": 1, **layer}]
    model = {"parameters": 10, "cycles": 3e6, "milliseconds": 6.0, "sram": 800.0, "dram": 0.0, "flash": 20.0}
    model |= {"system": "Embedded, Shared, 500 MHz", "layers": layers, "by_kind": {"Conv2D": 3e6}}
    return {"target": "ethos-u55-256", "settings": {"imgsz": 320}, "rewrites": [], "models": {"a": model, "b": model}}


def test_the_table_says_what_is_cut_up_and_what_is_left_to_the_cpu() -> None:
    assert "cut into" not in render(record())
    assert f"stem (Conv2D) is cut into {CUT_UP} operations" in render(record(operations=CUT_UP))
    assert "| a | 10 | 3.00 | 1.00 | 6.00 | 800 | 0 | 20 | 1 | 0 |" in render(record())
    assert "| a | 10 | 3.00 | 1.00 | 6.00 | 800 | 0 | 20 | 1 | 1 |" in render(record(where="CPU"))


def test_every_target_names_rewrites_that_there_are() -> None:
    assert all(set(target.rewrites) <= set(REWRITES) for target in TARGETS.values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["target=ethos-u55-265", "models=yolo11n"], "did you mean ethos-u55-256"),
        (["target=ethos-u55-256", "models=yolo11n", "image=3"], "cost has no key 'image'"),
        (["target=ethos-u55-256", "models=yolo11n", "path=nowhere/x.json"], "the folder 'nowhere' does not exist"),
        (["target=ethos-u55-256", "models=yolo11n", "imgsz=[320,640]"], "give a whole number of pixels from 32"),
        (["target=ethos-u55-256", "models=yolo11n", "images=0"], "images=0: give a whole number from 1 to"),
        (["models=yolo11n"], "target= is missing"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], said: str, small_yaml: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data={scenes}", *(word.replace("=yolo11n", f"={small_yaml}") for word in words)]
    assert cli.main(["cost", "imgsz=64", *words] if "imgsz" not in str(words) else ["cost", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_a_missing_package_is_one_line_with_the_extra(
    small_yaml: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(targets, "missing_packages", lambda names: [name for name in names if "vela" in name])
    assert cli.main(["cost", "target=ethos-u55-256", f"models={small_yaml}", f"data={scenes}", "imgsz=64"]) == 2
    assert "needs ethos-u-vela>=5.2: pip install 'vanillayolo[npu]' installs them." in capsys.readouterr().err


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Let ONNX Runtime compute the chip's file, and a function spoil its maps."""

    def put(spoil: Callable[[list[Any]], list[Any]]) -> None:
        def run(chip: str, body: Any, calibration: Any, images: Any, file: Path) -> simulators.Built:
            assert chip == "rk3588"
            write_body(body, file, images[0])
            session = onnxruntime.InferenceSession(str(file))
            maps = [spoil(session.run(None, {"images": image.numpy()})) for image in images]
            return simulators.Built(maps, memory=3 << 20)

        monkeypatch.setitem(simulators.SIMULATORS, "rknn-toolkit2", run)

    monkeypatch.setattr(targets, "missing_packages", lambda names: [])
    monkeypatch.setattr(chip_cost, "version", lambda name: "1.0")
    return put


def refuse(maps: list[Any]) -> list[Any]:
    raise simulators.RefusedError("IndexError: list index out of range")


def go_wrong(maps: list[Any]) -> list[Any]:
    raise KeyError("a defect of ours")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "all_found"),
    [
        (lambda maps: maps, True),
        (lambda maps: [maps[0], maps[1], maps[2], *(0 * x - 9 for x in maps[3:])], False),  # every score lost
        (lambda maps: [np.roll(x, 1, 3) for x in maps], False),  # every box a cell aside
    ],
)
def test_boxes_of_a_simulator_are_compared_with_those_of_pytorch(
    spoil: Any, all_found: bool, simulated: Any, lively: Path, lively_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulated(spoil)
    words = ["target=rk3588", f"models={lively}", "imgsz=64", "images=2", f"data={lively_data}"]
    assert cli.main(["cost", *words]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"| {lively}"))
    cells = row.split("|")
    assert cells[4].strip() == "3,072"
    found, boxes = (int(word) for word in cells[7].split(" of "))
    assert boxes > 4
    assert (found == boxes) == all_found


@pytest.mark.slow
def test_a_network_that_a_simulators_tool_refuses_is_a_row(
    simulated: Any, lively: Path, lively_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulated(refuse)
    words = ["target=rk3588", f"models={lively}", "imgsz=64", "images=2", f"data={lively_data}"]
    assert cli.main(["cost", *words]) == 0
    assert "rk3588's tool does not build it: IndexError: list index out of range" in capsys.readouterr().out


@pytest.mark.slow
def test_a_defect_of_ours_keeps_its_traceback(simulated: Any, lively: Path, lively_data: Path) -> None:
    simulated(go_wrong)
    with pytest.raises(KeyError, match="a defect of ours"):
        cli.main(["cost", "target=rk3588", f"models={lively}", "imgsz=64", "images=2", f"data={lively_data}"])


class Tool:
    """Stands for rknn-toolkit2's class."""

    code = 0
    built: Callable[[], int] = staticmethod(lambda: 0)  # type: ignore[assignment]

    def __init__(self, verbose: bool) -> None: ...

    def config(self, mean_values: Any, std_values: Any, target_platform: str) -> None:
        assert [len(mean_values[0]), len(std_values[0])] == [1, 1]

    def load_onnx(self, model: str) -> int:
        return self.code

    def build(self, do_quantization: bool, dataset: str) -> int:
        return self.built()

    def release(self) -> None: ...

    def export_rknn(self, file: str) -> int:
        raise OSError("full")


@pytest.mark.parametrize(
    ("inside", "code", "built", "raised", "said"),
    [
        ("rknn.api", 0, 'raise ValueError("Traceback\\nIndexError: 7")', simulators.RefusedError, "^IndexError: 7$"),
        ("rknn.api", 0, "return -1", simulators.RefusedError, "no reason"),
        ("rknn.api", -1, "return 0", simulators.RefusedError, "no reason"),
        ("ours", 0, 'raise ValueError("ours")', ValueError, "ours"),
        ("rknn.api", 0, "return 0", OSError, "full"),  # nothing of the network: it was built
    ],
)
def test_only_what_the_tool_raises_or_tells_while_it_builds_is_a_refusal(
    inside: str, code: int, built: str, raised: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space: dict[str, Any] = {"__name__": inside}
    exec(f"def build():\n    {built}", space)
    monkeypatch.setattr(Tool, "code", code)
    monkeypatch.setattr(Tool, "built", staticmethod(space["build"]))
    for name in ("rknn", "rknn.api"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(RKNN=Tool))
    image = torch.zeros(1, 1, 32, 32)
    monkeypatch.setattr(simulators, "write_body", lambda *_: [])
    with pytest.raises(raised, match=said):
        simulators.rockchip("rk3588", torch.nn.Identity(), [image], [image], tmp_path / "chip.bin")


def test_sonys_converter_without_java_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_compression_toolkit", types.SimpleNamespace())
    monkeypatch.setattr(simulators.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="imx500 needs Java"):
        simulators.sony("imx500", torch.nn.Identity(), [], [], tmp_path / "chip.bin")


def test_a_call_that_the_tool_does_not_take_is_a_defect_of_ours() -> None:
    space: dict[str, Any] = {"__name__": "esp_ppq.api"}
    exec("def build(file):\n    return 0", space)
    with pytest.raises(TypeError), simulators.refusals_of("esp_ppq"):
        space["build"](path="body.onnx")


@pytest.mark.slow
def test_a_missing_tool_is_one_line_with_its_package(
    small_yaml: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(targets, "missing_packages", lambda names: [name for name in names if "rknn" in name])
    assert cli.main(["cost", "target=rk3588", f"models={small_yaml}", "imgsz=64"]) == 2
    said = "target=rk3588 needs rknn-toolkit2>=2.5: pip install 'rknn-toolkit2>=2.5' installs them."
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_scenes_calibrate_where_no_data_is_given(scenes: Path) -> None:
    for data, channels in ((None, 3), (str(scenes), 3), (None, 1)):
        images = calibration_images(data, 64, 2, channels=channels)
        assert [tuple(image.shape) for image in images] == [(1, channels, 64, 64)] * 2
        assert not torch.equal(images[0], images[1])


def run_int8(path: Path, x: torch.Tensor) -> list[torch.Tensor]:
    """Run a full int8 LiteRT file on an image ``[1, 3, height, width]``, 0 to 1; return its outputs in that layout."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    scale, zero = given["quantization"]
    rows = np.round(x.permute(0, 2, 3, 1).numpy() / scale) + zero
    interpreter.set_tensor(given["index"], rows.clip(-128, 127).astype(np.int8))
    interpreter.invoke()
    found = []
    for detail in sorted(interpreter.get_output_details(), key=lambda detail: detail["name"]):
        scale, zero = detail["quantization"]
        values = (interpreter.get_tensor(detail["index"]).astype(np.float32) - zero) * scale
        found.append(torch.from_numpy(values).permute(0, 3, 1, 2))
    return found


@needs_compilers
@pytest.mark.heavy
def test_the_int8_file_computes_the_network_and_the_stem_is_cut_up_unless_rewritten(
    lively: Path, scenes: Path, tmp_path: Path
) -> None:
    body = body_of(str(lively))
    images = calibration_images(str(scenes), 64, 4)
    target = TARGETS["ethos-u55-256"]
    cut = {}
    for name in ((), target.rewrites):
        network = rewritten(body, name)
        file = write_int8(network, tmp_path / f"{len(name)}.tflite", images)
        with torch.no_grad():
            expected = network(images[0])
        found = run_int8(file, images[0])
        assert [tuple(x.shape) for x in found] == [tuple(x.shape) for x in expected]
        for a, b in zip(expected, found, strict=True):
            # one scale a map costs a network of random weights much; maps in another order have nothing in common
            assert float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) > 0.5
        result = estimate(file, target.arguments)
        assert not result.on_cpu
        cut[name] = result
    assert [layer.operations for layer in cut[()].cut_up] == [256]  # one for each pixel of the stem's map
    assert not cut[target.rewrites].cut_up
    assert cut[target.rewrites].cycles < 0.8 * cut[()].cycles


@needs_compilers
@pytest.mark.heavy
def test_the_command_writes_table_and_record(
    lively: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["target=ethos-u85-512", f"models={lively}", "imgsz=64", "images=1", f"data={scenes}"]
    path = tmp_path / "x.json"
    assert cli.main(["cost", *words, f"path={path}"]) == 0
    assert f"| {lively} |" in capsys.readouterr().out
    (model,) = read_record(path)["models"].values()
    assert model["cycles"] > 0
    assert {layer["where"] for layer in model["layers"]} == {"NPU"}


@needs_compilers
@pytest.mark.heavy
def test_a_file_that_the_compiler_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "no.tflite").write_bytes(b"not a file of LiteRT")
    with pytest.raises(UsageError, match=r"no: Vela with .* does not compile it"):
        estimate(tmp_path / "no.tflite", TARGETS["ethos-u55-256"].arguments)
