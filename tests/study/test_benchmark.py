from __future__ import annotations

import json
from pathlib import Path

import pytest

from vanillayolo.cli import main
from vanillayolo.deploy.formats import FORMATS
from vanillayolo.errors import CheckpointError, UsageError
from vanillayolo.places import check_file
from vanillayolo.study import benchmark as study
from vanillayolo.study.benchmark import (
    TABLE,
    benchmark,
    fingerprint,
    prepare,
    render,
    share_of_peak,
    subject,
)
from vanillayolo.study.records import write_record
from vanillayolo.yolo.files import missing_packages


@pytest.fixture(scope="module")
def record() -> dict[str, object]:
    """A record as :func:`benchmark` gives it, of made-up figures."""
    timing = {"name": "a", "median": 20.0, "minimum": 19.0, "maximum": 25.0, "rounds": 20}
    return {
        "machine": {"processor": "some processor", "cores": 2},
        "settings": {"imgsz": 640, "batch": 1, "rounds": 20, "backends": ["onnxruntime", "openvino-int8"]},
        "peak_gflops": {"float32": 300.0, "bfloat16": 1000.0},
        "models": {
            "a": {"parameters": 1_234_567, "gflops": 5.4, "milliseconds": {"onnxruntime": timing}},
            "b.onnx": {"parameters": None, "gflops": None, "milliseconds": {"openvino-int8": timing}},
        },
    }


def test_rendering_needs_the_record_alone(record: dict[str, object]) -> None:
    text = render(json.loads(json.dumps(record)))
    assert "| a | 1,234,567 | 5.4 | 20.0 (19.0 to 25.0) |  | 90% |" in text
    assert "| b.onnx |  |  |  | 20.0 (19.0 to 25.0) |  |" in text
    assert "some processor" in text
    assert share_of_peak(record, "a") == pytest.approx(5.4 / 0.020 / 300)
    assert share_of_peak(record, "b.onnx") is None


@pytest.mark.slow
def test_names_of_every_task_are_built() -> None:
    for name, head in (("yolo11n-seg", "Segment"), ("yolo26n-obb", "OBB26"), ("yolo11n-vanillanet-5-pose", "Pose")):
        made = subject(name, 64)
        assert type(made.network.model[-1]).__name__ == head
        assert (made.parameters or 0) > 1e6
    with pytest.raises(CheckpointError, match="is there to classify"):
        subject("vanillanet-6-cls", 64)


@pytest.mark.slow
def test_names_forms_and_files_in_one_run(tiny_yaml: Path, tmp_path: Path) -> None:
    for package in ("onnxruntime", "openvino"):
        pytest.importorskip(package, reason=f"needs {package}: pip install vanillayolo[export]")
    names = [str(tiny_yaml), f"{tiny_yaml}:training", "yolo11n"]
    runtimes = [b for b in ("ncnn", "mnn", "litert") if not missing_packages([*FORMATS[b].running, *FORMATS[b].making])]
    record = benchmark(names, ["torch", "onnxruntime", "onnxruntime-int8", *runtimes], imgsz=64, rounds=2, threads=1)
    assert "threads 1," in render(record)
    merged, training, stock = (record["models"][name] for name in names)
    assert set(merged["milliseconds"]) == {"torch", "onnxruntime", "onnxruntime-int8", *runtimes}
    assert {"torch", "onnxruntime", *runtimes} <= set(stock["milliseconds"])
    assert set(training["milliseconds"]) == {"torch", "onnxruntime"}  # int8 is of the merged network
    assert merged["parameters"] < training["parameters"]
    assert merged["gflops"] < training["gflops"]
    assert stock["parameters"] == pytest.approx(2.6e6, rel=0.03)
    assert all(value > 0 for value in record["peak_gflops"].values())
    path = write_record(tmp_path / "record.json", record)
    assert render(json.loads(path.read_text())) == render(record)


@pytest.mark.slow
def test_the_training_forms_file_has_its_pairs(tiny_yaml: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install vanillayolo[export]")
    found = {}
    for form in ("", ":training"):
        made = prepare(subject(f"{tiny_yaml}{form}", 64), "onnx", 64, tmp_path)
        found[form] = sum(node.op_type == "Conv" for node in onnx.load(made).graph.node)
    assert found[":training"] > found[""] + 4


@pytest.mark.slow
def test_files_of_a_folder_are_made_once(tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install vanillayolo[export]")
    folder = tmp_path / "files"
    item = subject(str(tiny_yaml), 64)
    before = fingerprint(item.network)
    made = [prepare(item, form, 64, folder) for form in ("onnx", "int8-onnx")]
    assert fingerprint(item.network) == before  # equalised and corrected is a copy
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in made)
    times = [path.stat().st_mtime_ns for path in made]

    def refuse(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(study, "write_form", refuse)
    again = subject(str(tiny_yaml), 64)
    assert [prepare(again, form, 64, folder) for form in ("onnx", "int8-onnx")] == made
    assert [path.stat().st_mtime_ns for path in made] == times
    assert benchmark([str(tiny_yaml)], ["onnxruntime"], 64, 1, folder)["models"][str(tiny_yaml)]["milliseconds"]
    other = subject(f"{tiny_yaml}:training", 64)
    with pytest.raises(AssertionError, match="made again"):
        prepare(other, "onnx", 64, folder)  # other weights, another file


@pytest.mark.slow
def test_a_merged_network_and_its_training_form(tiny_yaml: Path) -> None:
    merged, training = (subject(f"{tiny_yaml}{form}", 64) for form in ("", ":training"))
    keys = set(merged.network.state_dict())
    assert not any("running_" in key for key in keys)
    assert any("stages.0.pair.norm1.running_var" in key for key in training.network.state_dict())


def test_an_exported_file_is_run_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"x")
    assert subject(str(path), 64).files == {"onnx": path}
    with pytest.raises(UsageError, match="no such exported"):
        subject(str(tmp_path / "y.onnx"), 64)


def test_mistakes(tmp_path: Path, record: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="onnxruntime"):
        benchmark(["yolo11n"], ["onxruntime"])
    with pytest.raises(UsageError, match="once"):
        benchmark(["yolo11n", "yolo11n"], list(TABLE)[:1])
    with pytest.raises(UsageError, match="does not exist"):
        check_file("path", tmp_path / "nowhere" / "x.json", make=False)
    (tmp_path / "file").write_text("")
    words = ["backends=tensorrt", f"path={tmp_path / 'nowhere' / 'x.json'}", f"folder={tmp_path / 'file'}"]
    for word in words:  # before any work
        assert main(["benchmark", "models=yolo11n", word]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_peak_in_bfloat16_is_of_cpus_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "matmul_peak", lambda dtype: 1.0)
    for has, expected in ((True, {"float32", "bfloat16"}), (False, {"float32"})):
        monkeypatch.setattr(study, "has_bfloat16_instructions", lambda has=has: has)
        assert set(study.peaks()) == expected


@pytest.mark.parametrize("backend", ["ncnn", "mnn", "litert"])
def test_a_runtime_that_is_not_installed_is_named(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanillayolo.deploy.formats.missing_packages", lambda needed: list(needed)[:1])
    with pytest.raises(UsageError, match=rf"format={backend} needs .*vanillayolo\[{backend}\]"):
        benchmark(["yolo11n"], [backend], imgsz=64, rounds=1)
