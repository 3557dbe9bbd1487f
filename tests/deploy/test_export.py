from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
import yaml
from ultralytics.nn.backends.base import BaseBackend

from vanillayolo import VanillaYOLO, cli
from vanillayolo.deploy import collapse, export, verify
from vanillayolo.deploy import formats as formats_module
from vanillayolo.deploy.contract import contract_file
from vanillayolo.deploy.formats import FORMATS
from vanillayolo.deploy.graph import operators
from vanillayolo.deploy.onnx_graph import suppression_settings
from vanillayolo.errors import DataError, MergeError, UsageError, VerificationError
from vanillayolo.nn import randomize_batchnorm, set_negative_slope
from vanillayolo.prove import prove
from vanillayolo.yolo import VanillaModel, files
from vanillayolo.yolo.architecture import dump_yaml
from vanillayolo.yolo.files import CONTRACT, ExportedFile, digest_of, missing_packages, own_conf
from vanillayolo.yolo.inference import letterbox, raw_output, read_image
from vanillayolo.yolo.tasks import TASKS

export_module = importlib.import_module("vanillayolo.deploy.export")  # the package's name is the function


@pytest.fixture
def best(lively: Path, tmp_path: Path) -> Path:
    """A checkpoint alone in its folder."""
    path = tmp_path / "best.pt"
    path.write_bytes(lively.read_bytes())
    return path


def needs(format: str) -> None:
    chosen = FORMATS[format]
    missing = missing_packages([*chosen.running, *chosen.making])
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install 'vanillayolo[{chosen.extra}]'")


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def beside(name: str) -> set[str]:
    """A file, its record and its contract."""
    return {name, f"{name}.verify.json", f"{name}.contract.json"}


@pytest.mark.parametrize(
    "text", ["[" * 10**5, '{"suppression": {"conf": 1%s}}' % ("0" * 400), "7", '{"sha256": 7}', "\0"]
)
def test_a_contract_that_is_none_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "best.onnx").write_bytes(b"")
    contract_file(tmp_path / "best.onnx").write_text(text)
    assert own_conf(tmp_path / "best.onnx") is None


@pytest.mark.parametrize(("version", "conf"), [(CONTRACT, 0.3), (CONTRACT + 1, None)])
def test_a_contract_of_a_higher_version_says_nothing(version: int, conf: float | None, tmp_path: Path) -> None:
    path = tmp_path / "best.onnx"
    path.write_bytes(b"")
    said = {"contract": version, "sha256": digest_of(path), "suppression": {"conf": 0.3}}
    contract_file(path).write_text(json.dumps(said))
    assert own_conf(path) == conf


def check_contract(said: dict[str, Any], path: Path, settings: dict[str, Any]) -> None:
    """Hold what a contract says to the file."""
    assert said["file"] == path.name
    assert list(said["names"].values()) == ["0", "1", "2"]
    sides = [None] * 3 if settings.get("dynamic") else [settings.get("batch", 1), 64, 64]
    assert said["input"]["shape"] == [sides[0], 3, *sides[1:]]
    (output,) = said["outputs"]
    assert output["holds"][:2] == (["x1", "y1"] if settings.get("nms") else ["centre x", "centre y"])
    assert said["suppression"]["inside"] == bool(settings.get("nms"))
    if said["format"] == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        assert [x.name for x in session.get_inputs()] == [said["input"]["name"]]
        assert [x.name for x in session.get_outputs()] == [output["name"]]


CASES: list[Any] = [
    ("torchscript", {}),
    ("onnx", {}),
    ("onnx", {"dynamic": True}),
    ("onnx", {"nms": True}),
    ("onnx", {"half": True}),
    ("onnx", {"batch": 2}),
    ("openvino", {}),
    ("openvino", {"dynamic": True}),
    ("openvino", {"half": True}),
    ("ncnn", {}),
    pytest.param("litert", {}, marks=pytest.mark.heavy),
    pytest.param("mnn", {}, marks=pytest.mark.heavy),
    pytest.param("executorch", {}, marks=pytest.mark.heavy),
]


@pytest.mark.slow
@pytest.mark.parametrize(("format", "settings"), CASES, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_every_format_computes_what_pytorch_does(
    format: str, settings: dict[str, Any], best: Path, lively_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(format)
    opened: list[Any] = []
    load = VanillaModel._load
    monkeypatch.setattr(
        VanillaModel, "_load", lambda self, file, **kw: (opened.append(file), load(self, file, **kw))[1]
    )
    source = lively_data.parent / "images" / "val"
    settings = {"imgsz": 64, "source": source, "simplify": False, **settings}
    if format != "onnx":
        del settings["simplify"]
    result = export(best, format=format, **settings)
    assert opened == [str(best)]  # once, for writing and for proving
    assert result.path == best.with_name(f"best{FORMATS[format].ending}")
    assert result.record is not None
    contract = contract_file(result.path)
    assert names(best.parent) == {"best.pt", result.path.name, result.record.name, contract.name}
    check_contract(json.loads(contract.read_text(encoding="utf-8")), result.path, settings)
    proof = result.verification
    assert proof is not None
    assert proof.format == format
    assert proof.precision == ("float16" if settings.get("half") else "float32")
    assert proof.suppressed == bool(settings.get("nms"))
    assert len(proof.records) == (2 if settings.get("dynamic") else 1)
    assert sum(record.boxes for record in proof.records.values()) > 10
    if proof.precision == "float32" and not proof.suppressed:
        assert all(0 <= record.worst.relative < 5e-5 for record in proof.records.values())
    assert str(best.parent) not in json.dumps(BaseBackend.read_metadata(result.path))
    assert len(VanillaYOLO(result.path).predict(source, imgsz=64, verbose=False)) == 4
    if format == "executorch":
        return
    assert f"{result.path.name}: proven with " in prove(result.path)


@pytest.mark.slow
def test_with_data_the_file_has_the_map_of_pytorch_with_suppression_inside_too(best: Path, lively_data: Path) -> None:
    needs("onnx")
    result = export(best, format="onnx", data=str(lively_data), imgsz=64, nms=True, conf=0.1, simplify=False)
    assert result.verification is not None
    maps = result.verification.map
    assert maps is not None
    assert maps.reference[0] > 0.05
    assert maps.file == pytest.approx(maps.reference, abs=1e-3)
    shown = {"conf": 0.1, "iou": 0.7, "agnostic_nms": False}
    assert suppression_settings(result.path) == pytest.approx(shown)  # as in files of stock Ultralytics
    assert "mAP50-95" in str(result)


@pytest.mark.slow
def test_suppression_inside_is_proven_by_the_settings_of_the_file(best: Path, lively_data: Path) -> None:
    needs("onnx")
    source = lively_data.parent / "images" / "val"
    settings = {"conf": 0.1, "iou": 0.4, "max_det": 5, "agnostic_nms": True}
    result = export(best, format="onnx", imgsz=64, nms=True, simplify=False, data=str(lively_data), **settings)
    said = ast.literal_eval(str(BaseBackend.read_metadata(result.path)["args"]))
    assert {key: said[key] for key in settings} == settings
    assert suppression_settings(result.path) == pytest.approx({k: v for k, v in settings.items() if k != "max_det"})
    proof = verify(result.path, best, source=source)  # nobody says the settings again
    assert proof.verified, proof.verdict
    assert sum(record.boxes for record in proof.records.values()) > 5
    assert verify(result.path, best, source=source, conf=0.6, iou=0.9, agnostic_nms=False).verified  # the file knows
    assert not verify(result.path, altered(best), source=source).verified
    assert result.verification is not None
    assert result.verification.map is not None
    assert result.verification.map.file == pytest.approx(result.verification.map.reference, abs=1e-3)


@pytest.mark.slow
def test_an_untrained_network_is_written_and_not_called_verified(
    small_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = VanillaYOLO(small_yaml)
    set_negative_slope(model.model, 1.0)
    model.save(tmp_path / "best.pt")
    assert cli.main(["export", f"model={tmp_path / 'best.pt'}", "imgsz=64"]) == 0
    out = capsys.readouterr().out
    assert "not proven: no box was found, so boxes prove nothing" in out
    assert "verified" not in out.lower()
    assert names(tmp_path) == {"best.pt", *beside("best.torchscript")}
    record = json.loads((tmp_path / "best.torchscript.verify.json").read_text())
    assert record["verdict"] == "not proven"
    assert len(record["power"]["blind"]) > 30
    words = ["verify", f"model={tmp_path / 'best.torchscript'}", f"reference={tmp_path / 'best.pt'}"]
    assert cli.main(words) == 1
    err = capsys.readouterr().err
    assert "not proven: no box was found" in err
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "int8"), [(1, False), (4, True)])
def test_networks_of_other_channels_are_shipped(channels: int, int8: bool, small_yaml: Path, tmp_path: Path) -> None:
    needs("onnx")
    cfg = yaml.safe_load(small_yaml.read_text(encoding="utf-8")) | {"channels": channels, "nc": 2}
    (tmp_path / "yolo11n-grey.yaml").write_text(dump_yaml(cfg), encoding="utf-8")
    model = VanillaYOLO(tmp_path / "yolo11n-grey.yaml")
    randomize_batchnorm(model.model)
    model.save(tmp_path / "best.pt")
    noise = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for i in range(2):
            pixels = noise.integers(0, 255, (48, 64, max(channels, 3)), np.uint8)
            cv2.imwrite(str(tmp_path / "images" / split / f"{i}.png"), pixels)
            (tmp_path / "labels" / split / f"{i}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    data = {"path": str(tmp_path), "train": "images/train", "val": "images/val", "channels": channels}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(data | {"names": ["a", "b"]}))
    result = collapse(tmp_path / "best.pt", imgsz=64, data=str(tmp_path / "data.yaml"))
    assert result.description is not None
    assert f"[batch, {channels}, height, width]" in json.loads(result.description.read_text())["input"]
    settings = {"int8": True, "images": 2, "data": str(tmp_path / "data.yaml")} if int8 else {"simplify": False}
    made = export(tmp_path / "best.pt", "onnx", imgsz=64, source=tmp_path / "images" / "val", **settings)
    assert made.verification is not None
    assert made.verification.records["64x64"].images == 2
    assert made.verification.breaches == []


BACKBONE = {
    "onnx": ("/model.0/", {"Conv", "MaxPool", "Relu"}),
    # a convolution with bias is two nodes in OpenVINO; a depthwise one is GroupConvolution
    "openvino": ("model.0.", {"Convolution", "GroupConvolution", "Add", "MaxPool", "Relu"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("format", BACKBONE)
def test_the_backbone_is_convolution_pool_and_relu(format: str, best: Path) -> None:
    needs(format)
    part, allowed = BACKBONE[format]
    found = operators(export(best, format=format, imgsz=64, verify=False).path, part)
    assert set(found) == allowed


@pytest.mark.slow
def test_a_file_that_is_not_the_network_is_kept_as_unverified(
    best: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = files.write_file

    def wrong(network: torch.nn.Module, *rest: Any) -> Path:
        with torch.no_grad():
            network.model[-1].cv2[0][-1].weight.mul_(1.1)  # type: ignore[index, union-attr, operator]
        try:
            return original(network, *rest)
        finally:
            with torch.no_grad():
                network.model[-1].cv2[0][-1].weight.div_(1.1)  # type: ignore[index, union-attr, operator]

    monkeypatch.setattr(export_module, "write_file", wrong)
    assert cli.main(["export", f"model={best}", "format=torchscript", "imgsz=64"]) == 1
    err = capsys.readouterr().err
    assert "boxes at 64x64 differ by" in err
    assert err.count("\n") == 1
    assert names(best.parent) == {"best.pt", *beside("best-unverified.torchscript")}
    with pytest.raises(VerificationError, match="best-unverified"):
        export(best, imgsz=64)
    assert not verify(best.with_name("best-unverified.torchscript"), best).verified


@pytest.mark.slow
def test_a_failing_export_leaves_nothing_and_an_earlier_file_as_it_was(
    best: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = best.with_name("best.torchscript")
    earlier.write_bytes(b"before")

    def fail(network: Any, folder: Path, stem: str, *_: Any) -> Path:
        (folder / f"{stem}.torchscript").write_bytes(b"half")
        raise RuntimeError("the tracer gave up")

    monkeypatch.setattr(export_module, "write_file", fail)
    with pytest.raises(RuntimeError, match="gave up"):
        export(best, imgsz=64)
    assert names(best.parent) == {"best.pt", "best.torchscript"}
    assert earlier.read_bytes() == b"before"


def altered(best: Path) -> VanillaYOLO:
    """An interface after training: its network is not the one of the file it was opened from, if of any."""
    model = VanillaYOLO(best)
    with torch.no_grad():
        for branch in model.model.model[-1].cv3:
            branch[-1].bias.sub_(1.0)
    return model


@pytest.mark.slow
def test_int8_is_of_the_network_at_hand(best: Path, lively_data: Path) -> None:
    needs("onnx")
    model = altered(best)
    result = export(model, format="onnx", int8=True, data=str(lively_data), imgsz=64, images=2, verify=False)
    image = next(iter(sorted((lively_data.parent / "images" / "val").iterdir())))
    x = letterbox(read_image(image), 64)
    got = ExportedFile(result.path)(x)[:, 4:].mean()
    before, after = (raw_output(m.model.eval(), x)[:, 4:].mean() for m in (VanillaYOLO(best), model))
    assert abs(got - after) < 0.3 * abs(before - after)


@pytest.mark.slow
def test_the_trained_network_at_hand_is_written_beside_its_checkpoint(best: Path) -> None:
    """After ``train`` the interface holds best.pt without having been opened from it."""
    model = altered(best)
    model.ckpt_path, model.model_name = None, "yolo11n-tiny.yaml"
    result = export(model, imgsz=64, verify=False)
    assert result.path == best.with_name("best.torchscript")


@pytest.mark.slow
def test_boxes_of_a_file_count_from_the_score_of_its_contract(best: Path, lively_data: Path) -> None:
    file = export(best, imgsz=64, verify=False).path
    path, pictures = contract_file(file), lively_data.parent / "images" / "val"

    def scores(**settings: Any) -> torch.Tensor:
        found = VanillaYOLO(file).predict(pictures, imgsz=64, verbose=False, **settings)
        return torch.cat([result.boxes.conf for result in found])

    usual = scores()
    assert float(usual.min()) >= 0.25
    middle = float(usual.median())
    said = json.loads(path.read_text(encoding="utf-8"))
    said["suppression"]["conf"] = middle
    path.write_text(json.dumps(said), encoding="utf-8")
    assert 0 < len(scores()) < len(usual)
    assert len(scores(conf=0.25)) == len(usual)  # the user's own goes before
    for broken in (said | {"sha256": "of another file"}, said | {"suppression": {"conf": "much"}}, []):
        path.write_text(json.dumps(broken), encoding="utf-8")
        assert len(scores()) == len(usual)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"format": "onxn"}, "did you mean onnx"),
        ({"format": "engine"}, "collapsed checkpoint"),
        ({"target": "ethos-u55-25"}, "did you mean ethos-u55-256"),
        ({"target": "ethos-u55-256", "format": "onnx"}, "takes litert; omit format"),
        ({"target": "ethos-u55-256", "int8": False}, "int8 alone"),
        ({"format": "onnx", "dynamyc": True}, "did you mean dynamic"),
        ({"format": "ncnn", "dynamic": True}, "has no key 'dynamic'"),
        ({"format": "torchscript", "int8": True, "data": "x.yaml"}, "int8 is not available for torchscript"),
        ({"format": "torchscript", "half": True}, "float16 is not available"),
        ({"format": "onnx", "quantize": "w8a16"}, "allowed are 32, 16 and 8"),
        ({"format": "onnx", "quantize": 7}, "quantize"),
        ({"format": "onnx", "imgsz": 7}, "from 32"),
        ({"format": "onnx", "batch": 0}, "batch=0"),
    ],
)
def test_a_mistake_is_told_before_any_work(settings: dict[str, Any], told: str, best: Path) -> None:
    with pytest.raises(UsageError, match=told) as error:
        export(best, **settings)
    assert "\n" not in str(error.value)
    assert names(best.parent) == {"best.pt"}


def test_int8_without_data_and_a_slope_below_1_are_refused(best: Path) -> None:
    with pytest.raises(DataError, match="training split"):
        export(best, format="openvino", int8=True)
    model = VanillaYOLO(best)
    set_negative_slope(model.model, 0.5)
    with pytest.raises(MergeError, match=r"slope 0\.5"):
        model.export(format="torchscript")
    assert names(best.parent) == {"best.pt"}


def test_a_missing_package_is_one_line_and_code_2(
    best: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(formats_module, "missing_packages", lambda requirements: list(requirements)[:1])
    for format in ("onnx", "ncnn", "litert", "executorch"):
        assert cli.main(["export", f"model={best}", f"format={format}"]) == 2
        err = capsys.readouterr().err
        assert f"pip install 'vanillayolo[{FORMATS[format].extra}]'" in err
        assert err.count("\n") == 1
    assert names(best.parent) == {"best.pt"}


def test_versions_of_packages_are_read() -> None:
    assert missing_packages(["torch", "torch>=2.6", "ultralytics>=8.4.190,<8.5"]) == []
    wanted = ["torch>=99", "no-such-package", "torch==1.0"]
    assert missing_packages(wanted) == wanted


@pytest.mark.slow
def test_every_output_of_every_task_is_proven(lively_other: Path, lively_data: Path, tmp_path: Path) -> None:
    """In ONNX and OpenVINO; a fault in the last layer of a branch is named by the output that it is in."""
    best = tmp_path / "best.pt"
    best.write_bytes(lively_other.read_bytes())
    source = lively_data.parent / "images" / "val"
    given = {"imgsz": 64, "source": source}
    task = TASKS[VanillaYOLO(best).task]
    for format, settings in (("onnx", {"simplify": False}), ("openvino", {})):
        proof = export(best, format=format, **given, **settings).verification
        assert proof is not None
        assert proof.verdict == "verified"
        (record,) = proof.records.values()
        assert {"boxes", "scores", task.extra, *task.maps} <= {output.name for output in record.outputs}
        assert record.boxes > 10
        assert (record.masks or 0) > 0.99 or not task.maps
    model = onnx.load(best.with_suffix(".onnx"))
    weights = {x.name: x for x in model.graph.initializer}
    last = "proto.cv3.conv" if task.maps else "cv4.1.2"
    (name,) = (key for key in weights if key.endswith(f"{last}.weight"))
    weights[name].CopyFrom(onnx.numpy_helper.from_array(1.1 * onnx.numpy_helper.to_array(weights[name]), name))
    onnx.save(model, tmp_path / "wrong.onnx")
    result = verify(tmp_path / "wrong.onnx", best, source=source)
    named = task.maps[0] if task.maps else task.extra
    assert result.verdict.startswith(f"NOT VERIFIED: {named} at 64x64 differ by")
    with pytest.raises(UsageError, match="detectors"):
        export(best, format="onnx", nms=True)
    with pytest.raises(UsageError, match="is for onnx, openvino, not for litert"):
        export(best, format="litert", int8=True, data=str(lively_data))


@pytest.mark.slow
def test_a_file_for_a_simulators_tool_ends_at_its_maps_and_is_verified(
    lively: Path, lively_data: Path, tmp_path: Path
) -> None:
    best = tmp_path / "best.pt"
    best.write_bytes(lively.read_bytes())
    result = export(best, target="rk3588", imgsz=64, source=lively_data.parent / "images" / "val")
    assert result.path.name == "best_rk3588.onnx"
    assert result.verification is not None
    assert next(iter(result.verification.records.values())).boxes > 4
    assert not result.verification.breaches
    said = json.loads(contract_file(result.path).read_text(encoding="utf-8"))
    assert said["input"]["layout"] == "NCHW"
    levels = [(holds, stride) for holds in ("boxes", "scores") for stride in (8, 16, 32)]
    assert [(x["holds"], x["stride"]) for x in said["outputs"]] == levels
    assert "number" not in said["decode"]  # floats
    with pytest.raises(UsageError, match="has no key 'simplify'"):
        export(best, target="rk3588", simplify=True)
