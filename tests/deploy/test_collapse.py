from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from ultralytics import YOLO

from vanillayolo import VanillaYOLO
from vanillayolo.deploy import collapse, export, load_collapsed
from vanillayolo.deploy.collapse import Collapsed, summary
from vanillayolo.deploy.equality import Equality
from vanillayolo.errors import CheckpointError, MergeError, UsageError
from vanillayolo.nn import VARIANTS, randomize_batchnorm, set_negative_slope
from vanillayolo.study.cost import cost
from vanillayolo.yolo import VanillaDetectionModel, model_yaml
from vanillayolo.yolo.architecture import dump_yaml
from vanillayolo.yolo.inference import letterbox, raw_output, raw_outputs
from vanillayolo.yolo.stock import to_stock


@pytest.fixture(scope="session")
def made(small_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> Collapsed:
    """The collapse of ``best.pt`` beside it: a tiny detector with random BN, not trained, but no BN is the identity."""
    model = VanillaYOLO(small_yaml)
    randomize_batchnorm(model.model)
    model.model.names = {i: f"thing{i}" for i in range(80)}
    path = tmp_path_factory.mktemp("best") / "best.pt"
    model.save(path)
    return collapse(path, imgsz=96)


@pytest.fixture
def best(made: Collapsed, tmp_path: Path) -> Path:
    """A copy of that checkpoint, alone in its folder."""
    return Path(shutil.copy(made.checkpoint.with_name("best.pt"), tmp_path))


@pytest.fixture
def collapsed(made: Collapsed, best: Path) -> Collapsed:
    """Copies of the three files beside it."""
    assert made.weights is not None
    assert made.description is not None
    files = [Path(shutil.copy(file, best.parent)) for file in (made.checkpoint, made.weights, made.description)]
    return dataclasses.replace(made, checkpoint=files[0], weights=files[1], description=files[2])


def noise(size: int = 96) -> torch.Tensor:
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return letterbox(image, size)


@pytest.mark.slow
def test_three_files_with_the_same_function(best: Path, collapsed: Collapsed) -> None:
    result = collapsed
    assert [p.name for p in (result.checkpoint, result.weights, result.description) if p] == [
        "best-collapsed.pt",
        "best-collapsed.safetensors",
        "best-collapsed.json",
    ]
    reference = raw_output(VanillaYOLO(best).model.double().eval(), noise().double())
    for network in (VanillaYOLO(result.checkpoint).model, load_collapsed(result.checkpoint)):
        got = raw_output(network.eval(), noise()).double()
        # float32 arithmetic through some 60 layers against float64: 6e-8 a rounding
        assert float((got - reference).abs().max() / reference.abs().max()) < 1e-5
    before, after = result.parameters
    assert after < before
    assert f"{before:,}" in summary(result)


@pytest.mark.slow
def test_the_three_files_are_always_of_one_make(
    best: Path, collapsed: Collapsed, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in best.parent.iterdir()}
    changed = VanillaYOLO(best)
    randomize_batchnorm(changed.model)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt  # after the checkpoint, before the two others

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[Collapsed.__module__], "_without_pickle", stop)
        with pytest.raises(KeyboardInterrupt):
            collapse(changed, imgsz=96)
    assert {path: path.read_bytes() for path in best.parent.iterdir()} == before
    collapse(changed, imgsz=96)
    after = {path: path.read_bytes() for path in best.parent.iterdir()}
    same = {path.name for path in after if after[path] == before[path]}
    assert not any(name.startswith("best-collapsed") for name in same)


def test_only_stock_classes_and_no_statistics_left(made: Collapsed) -> None:
    stock = torch.load(made.checkpoint, weights_only=False)["model"]
    modules = {type(m).__module__.split(".")[0] for m in stock.modules()}
    assert modules == {"torch", "ultralytics"}
    assert not any("running_" in key for key in stock.state_dict())
    backbone = [type(m).__name__ for row in stock.model[: len(stock.yaml["backbone"])] for m in row.modules()]
    assert set(backbone) == {"Conv", "DWConv", "Conv2d", "Identity", "ReLU", "MaxPool2d"}


def test_record_is_saved_and_says_where_it_was_taken(made: Collapsed) -> None:
    assert made.description is not None
    record = json.loads(made.description.read_text())["equality"]
    assert record["images"] == 8
    assert record["source"] == "generated scenes"
    assert record["matched"] == record["boxes"]
    assert all(0 < output["relative"] < 1e-4 for output in record["outputs"])


def test_a_second_collapse_changes_nothing(collapsed: Collapsed, tmp_path: Path) -> None:
    first = collapsed.checkpoint
    content = first.read_bytes()
    assert collapse(first).checkpoint == first
    assert first.read_bytes() == content
    assert "already collapsed" in summary(collapse(first))
    assert collapse(first, tmp_path / "copy.pt").checkpoint.read_bytes() == content


@pytest.mark.slow
def test_merged_but_not_yet_stock_becomes_stock(best: Path, tmp_path: Path) -> None:
    """A merged network of our own classes is not what ``collapse`` promises: it opens only where vanillayolo is."""
    model = VanillaYOLO(best)
    model.model.fuse(verbose=False)
    model.save(tmp_path / "merged.pt")
    result = collapse(tmp_path / "merged.pt", imgsz=96)
    assert result.checkpoint.name == "merged-collapsed.pt"
    stock = torch.load(result.checkpoint, weights_only=False)["model"]
    assert {type(m).__module__.split(".")[0] for m in stock.modules()} == {"torch", "ultralytics"}
    assert result.equality is not None
    assert result.equality.worst.relative < 1e-4


@pytest.mark.slow
def test_the_trained_network_at_hand_is_written_beside_its_checkpoint(best: Path, tmp_path: Path) -> None:
    """After ``train`` the interface holds best.pt without having been opened from it."""
    model = VanillaYOLO(best)
    model.ckpt_path, model.model_name = None, "yolo11n-tiny.yaml"
    assert collapse(model, imgsz=96).checkpoint == best.with_name("best-collapsed.pt")


def test_rebuilt_without_pickle(collapsed: Collapsed, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("pickle")

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, refuse)
    collapsed.checkpoint.unlink()
    assert collapsed.description is not None
    network = load_collapsed(collapsed.description)
    assert sum(p.numel() for p in network.parameters()) == collapsed.parameters[1]


def test_refused_below_slope_1_and_nothing_written(best: Path) -> None:
    model = VanillaYOLO(best)
    set_negative_slope(model.model, 0.5)
    with pytest.raises(MergeError, match=r"slope 0\.5"):
        collapse(model)
    assert [p.name for p in best.parent.glob("best*")] == ["best.pt"]


def test_adaptive_pool_variant_is_refused_with_the_reason(shrink_yaml: Callable[..., Any], tmp_path: Path) -> None:
    name = "yolo11n-vanillanet-13_x1_5_ada_pool"
    cfg = shrink_yaml(model_yaml(name), list(VARIANTS["13_x1_5_ada_pool"].scaled(1 / 64)))
    (tmp_path / f"{name}.yaml").write_text(dump_yaml(cfg), encoding="utf-8")
    model = VanillaYOLO(tmp_path / f"{name}.yaml")
    with pytest.raises(MergeError, match="multiples of 24"):
        collapse(model)


def test_bad_names_and_files(best: Path, collapsed: Collapsed, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.pt"):
        collapse(best, tmp_path / "out.onnx")
    with pytest.raises(CheckpointError, match="no such file"):
        collapse(tmp_path / "nowhere.pt")
    assert collapsed.weights is not None
    collapsed.weights.write_bytes(collapsed.weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be rebuilt"):
        load_collapsed(collapsed.weights)


@pytest.mark.parametrize("kind", ["parameter", "buffer"])
def test_a_value_that_is_not_finite_is_refused_by_name(best: Path, kind: str) -> None:
    model = VanillaYOLO(best)
    tensors = dict(model.model.named_parameters() if kind == "parameter" else model.model.named_buffers())
    name = [n for n, t in tensors.items() if t.is_floating_point() and "model.0." in n][3]
    with torch.no_grad():
        tensors[name].view(-1)[1] = torch.nan if kind == "parameter" else torch.inf
    model.save(best)
    with pytest.raises(CheckpointError, match=rf"best\.pt: {name} holds 1 of \d+ values that are not finite"):
        collapse(best, imgsz=96)
    with pytest.raises(CheckpointError, match=name):
        export(best, imgsz=96)
    assert [p.name for p in best.parent.glob("best*")] == ["best.pt"]


def test_a_network_whose_yaml_says_other_channels_is_one_line(lively: Path, tmp_path: Path) -> None:
    model = VanillaYOLO(lively)
    model.model.yaml["channels"] = 1
    with pytest.raises(CheckpointError, match="its YAML was edited: it says 1 channels, the network takes 3"):
        collapse(model, tmp_path / "x.pt", imgsz=64)


@pytest.mark.slow  # two collapses
def test_a_network_that_answers_every_image_alike_is_not_called_equal(best: Path, lively: Path, tmp_path: Path) -> None:
    untrained = VanillaYOLO(best)
    untrained.reset_weights()
    set_negative_slope(untrained.model, 1.0)
    result = collapse(untrained, tmp_path / "dead.pt", imgsz=96)
    told = summary(result)
    assert "not proven: no box was found" in told
    assert "equal to" not in told
    assert result.description is not None
    assert len(json.loads(result.description.read_text())["equality"]["power"]["blind"]) > 30
    live = collapse(lively, tmp_path / "live.pt", imgsz=64)
    assert live.doubts == []
    assert "equal to" in summary(live)


def test_the_pair_without_pickle_belongs_together_and_says_only_what_is_known(collapsed: Collapsed) -> None:
    result = collapsed
    assert result.weights is not None
    assert result.description is not None
    whole, text = result.weights.read_bytes(), json.loads(result.description.read_text())
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    result.weights.write_bytes(flipped)
    with pytest.raises(CheckpointError, match="not as they were written together: damaged"):
        load_collapsed(result.weights)
    result.weights.write_bytes(whole)
    row = text["yaml"]["backbone"][0]
    changes: list[tuple[dict[str, Any], str]] = [
        ({"extra": 1}, "no key 'extra'"),
        ({"yaml": {**text["yaml"], "activation": "__import__('os').getpid()"}}, "activation"),
        ({"yaml": {**text["yaml"], "backbone": [[-1, 1, "nn.Linear", [3, 3]]]}}, r"nn\.Linear"),
        ({"yaml": {**text["yaml"], "backbone": [[*row[:3], ["__import__('os')"]]]}}, "__import__"),
        ({"yaml": None}, "cannot be rebuilt"),
        ({"format": "other"}, "format 'other'"),
        ({"names": {**text["names"], "0": text["names"]["1"]}}, "edited"),
        ({"stride": "x"}, "edited"),
        (
            {
                "yaml": {
                    **text["yaml"],
                    "head": [
                        [*r[:3], [*r[3][:2], "bilinear"]] if r[2] == "nn.Upsample" else r for r in text["yaml"]["head"]
                    ],
                }
            },
            "edited",
        ),
    ]
    for change, told in changes:
        result.description.write_text(json.dumps({**text, **change}))
        with pytest.raises(CheckpointError, match=told) as error:
            load_collapsed(result.weights)
        assert "\n" not in str(error.value)
    result.description.write_text(json.dumps({k: v for k, v in text.items() if k != "sha256"}))  # as of version 0.1.0
    with pytest.warns(UserWarning, match="no checksum"):
        load_collapsed(result.weights)


ELSEWHERE = """
import json, sys
sys.modules["vanillayolo"] = None  # as where it is not installed
import numpy as np
from ultralytics import YOLO
from ultralytics.nn.tasks import torch_safe_load
file, data = sys.argv[1:]
restricted = torch_safe_load(file, safe_only=True)[0]["model"].float().state_dict()
model = YOLO(file)
assert all(value.equal(restricted[key]) for key, value in model.model.state_dict().items())
layers, parameters, _, gflops = model.info()
image = np.full((96, 96, 3), 127, np.uint8)
boxes = model.predict(image, imgsz=96, conf=0.0001, verbose=False)[0].boxes
metrics = model.val(data=data, imgsz=64, batch=2, rect=False, plots=False, verbose=False, workers=0).box
exported = model.export(format="onnx", imgsz=96, simplify=False)
again = YOLO(exported, task="detect").predict(image, imgsz=96, conf=0.0001, verbose=False)[0].boxes
found = {"parameters": parameters, "gflops": gflops, "boxes": [len(boxes), len(again)], "map": metrics.map}
print("found", json.dumps({**found, "name": model.names[0], "ours": sorted(m for m in sys.modules if "vanilla" in m)}))
"""


@pytest.mark.slow
def test_opens_where_vanillayolo_is_not_installed(lively: Path, lively_data: Path, tmp_path: Path) -> None:
    """Predicts, validates, exports, with its own parameters and arithmetic; restricted loading gives the same."""
    result = collapse(lively, tmp_path / "collapsed.pt", imgsz=64)
    words = [sys.executable, "-c", ELSEWHERE, str(result.checkpoint), str(lively_data)]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("found "))
    found = json.loads(line.removeprefix("found "))
    assert found["ours"] == ["vanillayolo"]  # the stop sign itself
    merged: Any = VanillaYOLO(lively).model.fuse(verbose=False)
    assert found["parameters"] == result.parameters[1] == sum(p.numel() for p in merged.parameters())
    # Ultralytics' counter leaves out the head's arithmetic on boxes, and extrapolates from a small image
    assert found["gflops"] == pytest.approx(cost(merged, 640).gflops, rel=0.03)
    assert found["boxes"][0] == found["boxes"][1] > 0
    want = VanillaYOLO(lively).val(data=str(lively_data), imgsz=64, batch=2, rect=False, plots=False, workers=0).box
    assert found["map"] == pytest.approx(want.map, abs=1e-6)
    assert found["map"] > 0.05


def test_merged_weights_are_laid_out_for_eager_mode(best: Path, made: Collapsed) -> None:
    """A merged 1x1 weight with channels-last strides slows eager mode: strides are those of a fresh tensor."""
    for network in (VanillaYOLO(best).model.fuse(verbose=False), load_collapsed(made.checkpoint)):
        for m in network.modules():
            if isinstance(m, nn.Conv2d):
                assert m.weight.stride() == torch.empty(m.weight.shape).stride()


@pytest.mark.slow  # seven networks at full width
def test_letters_variants_necks_and_heads_keep_their_function() -> None:
    stock_neck = (model_yaml(f"yolo11{name}", neck="yolo11") for name in ("n-vanillanet", "m-vanillanet-6"))
    heads = ({"box": 2, "class": 2, "act_num": 1}, {"box": 0, "class": 1, "act_num": 0})
    heads = (model_yaml("yolo11n-vanillanet-6") | {"head_stages": stages} for stages in heads)
    pool_first = model_yaml("yolo11n-vanillanet-6")
    pool_first["backbone"][0][3][0]["pool_first"] = True
    for row in (row for row in pool_first["head"] if row[2] == "VanillaStage"):
        row[3].append(True)
    for name in ("yolo11n-vanillanet", "yolo11s-vanillanet-7", *stock_neck, *heads, pool_first):
        model: Any = randomize_batchnorm(VanillaDetectionModel(name, verbose=False)).eval()
        reference = raw_output(copy.deepcopy(model).double(), noise(64).double())
        merged = model.fuse(verbose=False)
        got = raw_output(to_stock(merged), noise(64)).double()
        assert float((got - reference).abs().max() / reference.abs().max()) < 1e-5


@pytest.mark.slow
def test_every_task_collapses_to_a_stock_network(lively_other: Path, tmp_path: Path) -> None:
    model = VanillaYOLO(lively_other)
    result = model.collapse(tmp_path / "collapsed.pt", imgsz=64)
    assert result.equality is not None
    assert isinstance(result.equality, Equality)
    assert result.equality.boxes == result.equality.matched > 10
    stock = YOLO(result.checkpoint)
    assert stock.task == model.task
    assert type(stock.model).__module__ == "ultralytics.nn.tasks"
    assert result.description is not None
    reference = raw_outputs(copy.deepcopy(model.model).double().eval(), noise(64).double()).parts
    for network in (stock.model, load_collapsed(result.description)):
        for name, got in raw_outputs(network.eval().float(), noise(64)).parts.items():
            assert (got.double() - reference[name]).abs().max() <= 1e-4 * reference[name].abs().max(), name
