from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save
from torch import nn
from ultralytics import YOLO
from ultralytics.nn.modules import Conv

from vanillayolo import VanillaYOLO
from vanillayolo.errors import CheckpointError, UsageError
from vanillayolo.nn import randomize_batchnorm
from vanillayolo.nn.deep_training import deep_pairs
from vanillayolo.nn.plasticity import LONGEST
from vanillayolo.nn.reparameterize import is_joined, join_pairs
from vanillayolo.valid_json import digest
from vanillayolo.yolo import VanillaModel, own_weights
from vanillayolo.yolo.detectors import train_detector
from vanillayolo.yolo.families import COMPACT
from vanillayolo.yolo.inference import stock_model
from vanillayolo.yolo.model import VanillaDetectionModel
from vanillayolo.yolo.own_weights import card_of, load_own, read_weights, write_start, write_weights
from vanillayolo.yolo.own_weights import summary as said


@pytest.fixture(scope="module")
def source(small_yaml: Path) -> VanillaDetectionModel:
    """A network in which every weight and statistic is its own; a copy of it where a test changes it."""
    torch.manual_seed(1)
    network = VanillaDetectionModel(small_yaml, nc=5, verbose=False)
    randomize_batchnorm(network)
    return network


@pytest.fixture
def file(source: VanillaDetectionModel, tmp_path: Path) -> Path:
    path = tmp_path / "yolo11n-vanillanet.safetensors"
    write_weights(path, source, {"pictures": 1234})
    return path


def half(network: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.half().float() for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}


@pytest.mark.slow
def test_the_same_network_takes_everything(source: VanillaDetectionModel, file: Path, tiny_cfg: dict[str, Any]) -> None:
    other = VanillaDetectionModel(tiny_cfg, nc=5, verbose=False)
    report = load_own(other, file)
    assert report.missing == report.unexpected == report.shape == []
    assert all(torch.equal(other.state_dict()[k], v) for k, v in half(source).items())
    assert file.stat().st_size < 2.1 * sum(p.numel() for p in source.parameters()) + 1e5
    assert said(file, report) == f"{file.name} (1,234 generated pictures): {len(report.loaded)} tensors taken"


@pytest.mark.slow
def test_joined_weights_join(source: VanillaDetectionModel, tmp_path: Path, tiny_cfg: dict[str, Any]) -> None:
    write_weights(tmp_path / "j.safetensors", join_pairs(copy.deepcopy(source)), {"pictures": 1})
    other = VanillaDetectionModel(tiny_cfg, nc=5, verbose=False)
    load_own(other, tmp_path / "j.safetensors")
    assert is_joined(other)
    assert all(torch.equal(other.state_dict()[k], v) for k, v in half(join_pairs(copy.deepcopy(source))).items())
    with pytest.raises(UsageError, match="leave decay out"):
        own_weights.check_depth(read_weights(tmp_path / "j.safetensors")[0], 0.3, tmp_path / "j.safetensors")


def test_weights_that_have_grown_start_shorter_as_the_same_function(
    source: VanillaDetectionModel, tmp_path: Path, tiny_cfg: dict[str, Any]
) -> None:
    grown = join_pairs(copy.deepcopy(source)).eval()
    pairs = {name: pair for name, pair in deep_pairs(grown) if pair.conv1.kernel_size == (1, 1)}
    with torch.no_grad():
        for pair in pairs.values():
            for tensor in (pair.conv1.weight, pair.conv1.bias, pair.norm2.running_mean):
                tensor.mul_(100)  # the normalisation takes it away again
            pair.norm2.running_var.mul_(100**2)
    write_weights(tmp_path / "g.safetensors", grown, {"pictures": 1})
    loaded = VanillaDetectionModel(tiny_cfg, nc=5, verbose=False).eval()
    load_own(loaded, tmp_path / "g.safetensors")
    for name, pair in deep_pairs(loaded):
        if name in pairs:
            long = pairs[name].conv1.weight.detach()
            assert float(long.square().mean().sqrt()) > 2 * LONGEST
            assert float(pair.conv1.weight.detach().square().mean().sqrt()) < LONGEST * 1.001
            assert torch.cosine_similarity(pair.conv1.weight.flatten(), long.flatten(), 0) > 0.99999  # float16
    plain = copy.deepcopy(loaded)
    plain.load_state_dict(half(grown), strict=False)  # the file, not shortened
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x)[0], plain(x)[0], rtol=1e-4, atol=1e-4)


def test_other_classes_leave_the_rows_of_the_classes(file: Path, tiny_cfg: dict[str, Any]) -> None:
    other = VanillaDetectionModel(tiny_cfg, nc=7, verbose=False)
    report = load_own(other, file)
    left = {entry.split(":")[0] for entry in report.shape}
    assert left == {f"model.18.cv3.{i}.2.{kind}" for i in range(3) for kind in ("weight", "bias")}
    assert "6 of the head's class branches anew (other classes)" in said(file, report)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels(channels: int, source: VanillaDetectionModel, file: Path, tiny_cfg: dict[str, Any]) -> None:
    """A grey image gives what it gave as three equal channels; other channels keep the filters they share."""
    other = VanillaDetectionModel(tiny_cfg, nc=5, ch=channels, verbose=False)
    assert load_own(other, file).shape == []
    theirs, ours = (m.model[0].stem.pair.conv1.weight for m in (source, other))
    if channels == 1:
        assert torch.allclose(ours, theirs.half().float().sum(1, keepdim=True))
    else:
        assert torch.equal(ours[:, :3], theirs.half().float()[:, :channels])
    state, card = read_weights(file)
    scalars = {key: value.flatten()[0].clone() for key, value in state.items() if "conv1" in key}
    file.write_bytes(save({**state, **scalars}))
    card_of(file).write_text(json.dumps({**card, "sha256": digest(file, card)}))
    assert "conv1" in " ".join(load_own(other, file).shape)


def test_another_letter_takes_what_fits(file: Path, tiny_cfg: dict[str, Any]) -> None:
    """The tiny network with a wider last stage: the others go in."""
    cfg = json.loads(json.dumps(tiny_cfg))
    cfg["backbone"][0][3][0]["dims"][-1] = cfg["backbone"][3][3][0] = 48
    other = VanillaDetectionModel(cfg, nc=5, verbose=False)
    report = load_own(other, file)
    assert "model.0.stages.1.pair.conv1.weight" in report.loaded
    assert "model.0.stages.2.pair.conv2.weight: [32, 24, 1, 1], [48, 24, 1, 1]" in report.shape
    assert "others anew" in said(file, report)


def test_a_broken_file_is_one_line(file: Path, tiny_cfg: dict[str, Any], tmp_path: Path) -> None:
    other = VanillaDetectionModel(tiny_cfg, nc=5, verbose=False)
    bad, card = tmp_path / "bad" / file.name, card_of(file).read_text(encoding="utf-8")
    bad.parent.mkdir()
    flipped = bytearray(file.read_bytes())
    flipped[-3] ^= 1
    whole = load_file(file)
    mean, variance = "model.0.stem.pair.norm1.running_mean", "model.0.stem.pair.norm1.running_var"
    holes, below = {**whole, mean: whole[mean] * torch.nan}, {**whole, variance: -whole[variance]}
    said = {key: value for key, value in json.loads(card).items() if key != "sha256"}
    nameless = {key: value for key, value in said.items() if key != "pictures"}
    for content, text in (
        (save(holes), said),
        (save(below), said),
        (file.read_bytes(), nameless),
        (file.read_bytes(), {**said, "pictures": "many"}),
        (bytes(flipped), card),
        (file.read_bytes(), card.replace("1234", "1235")),
        (file.read_bytes(), card[:-9]),
        (file.read_bytes(), "[]"),
        (file.read_bytes()[:100], card),
    ):
        bad.write_bytes(content)
        if isinstance(text, dict):  # somebody else's card, whole
            text = json.dumps({**text, "sha256": digest(bad, text)})
        card_of(bad).write_text(text, encoding="utf-8")
        with pytest.raises(CheckpointError) as error:
            load_own(other, bad)
        assert str(bad) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_training_starts_from_what_comes_with_the_package(
    source: VanillaDetectionModel,
    file: Path,
    tiny_yaml: Path,
    quick: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = tmp_path / "plain.yaml"  # the variant that a plain name stands for: the package has weights of no other
    text = tiny_yaml.read_text(encoding="utf-8")
    plain.write_text(re.sub(r"variant: '?5'?", f"variant: {COMPACT['n'].variant}", text), encoding="utf-8")
    assert plain.read_text(encoding="utf-8") != text
    package = tmp_path / "package"
    package.mkdir()
    for path in (file, card_of(file)):
        shutil.copy(path, package)
    monkeypatch.setattr(own_weights, "PACKAGED", package)
    seen: dict[str, Any] = {}

    def stop(trainer: Any) -> None:
        seen.update(weights=trainer.model.model[0].stages[1].pair.conv2.weight.detach().clone())
        seen.update(slope=trainer.model.negative_slope, start=trainer.deep_training.start)
        raise KeyboardInterrupt

    def first_weights(**settings: Any) -> bool:
        model = VanillaYOLO(plain)
        model.add_callback("on_train_start", stop)
        with pytest.raises(KeyboardInterrupt):
            model.train(project=str(tmp_path / "runs"), epochs=3, **{**quick, **settings})
        return torch.equal(seen["weights"], source.model[0].stages[1].pair.conv2.weight.half().float())

    assert first_weights()
    assert seen["slope"] == seen["start"] == 1
    assert first_weights(decay=0.5)  # deepened anew
    assert seen["start"] == 0
    assert not first_weights(pretrained=False)
    write_weights(package / file.name, join_pairs(copy.deepcopy(source)), {"pictures": 1})
    assert not first_weights(decay=0.5)  # one convolution in the place of each pair: noise
    package.joinpath(file.name).unlink()
    assert first_weights(pretrained=str(file))


def test_studies_start_from_noise(tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison with networks that have no weights in the package; a pretraining itself."""
    given: list[Any] = []
    monkeypatch.setattr(VanillaModel, "train", lambda self, **settings: given.append(settings["pretrained"]))
    for settings in ({}, {"pretrained": "file.safetensors"}):
        train_detector(str(tiny_yaml), "data.yaml", tmp_path, settings)
    assert given == [False, "file.safetensors"]


@pytest.mark.slow  # builds YOLO11n
def test_a_stock_network_starts_from_the_same_function_with_shorter_weights(tmp_path: Path) -> None:
    network = randomize_batchnorm(stock_model("yolo11n")).eval()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.mul_(3)
    write_start(tmp_path / "yolo11n.pt", network)
    opened, x = YOLO(tmp_path / "yolo11n.pt").model.float().eval(), torch.rand(1, 3, 64, 64)
    dense = [m.conv.weight for m in opened.modules() if isinstance(m, Conv) and m.conv.groups == 1]
    assert max(float(weight.square().mean().sqrt()) for weight in dense) <= LONGEST * (1 + 1e-6)
    with torch.no_grad():  # pixels; float32 rounds in a hundred layers
        torch.testing.assert_close(opened(x)[0], network(x)[0], rtol=1e-3, atol=1e-2)
