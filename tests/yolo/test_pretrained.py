from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from ultralytics.utils.dist import generate_ddp_file

from vanillayolo import VanillaTrainer, VanillaYOLO
from vanillayolo.errors import CheckpointError, UsageError
from vanillayolo.nn import (
    VanillaNet,
    get_negative_slope,
    is_merged,
    load_official_weights,
    randomize_batchnorm,
    reparameterize,
)
from vanillayolo.nn.layers import BN_EPS
from vanillayolo.yolo.architecture import classifier_yaml, dump_yaml
from vanillayolo.yolo.merging import vanilla_batchnorms
from vanillayolo.yolo.pretrained import OFFICIAL, find_weights, load_pretrained

DIMS = [16, 16, 24, 32]


@pytest.fixture(scope="module")
def net() -> VanillaNet:
    """A classifier of VanillaNet-5's shape, with act_num 4 as in the authors' detection weights."""
    torch.manual_seed(3)
    network = VanillaNet(dims=DIMS, strides=(2, 2, 2), act_num=4, num_classes=7)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    randomize_batchnorm(network)
    return network.eval()


@pytest.fixture(scope="module")
def weights(net: VanillaNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save({"model_ema": net.state_dict()}, path)
    return path


def features(model: Any, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model.model[0].eval()(images)[-1]


def classifier_file(tmp_path: Path, classes: int = 7) -> Path:
    cfg = classifier_yaml("5")
    cfg["backbone"][0][3][0]["dims"], cfg["head"][0][3][0], cfg["nc"] = DIMS, DIMS[-1], classes
    path = tmp_path / "vanillanet-5-cls.yaml"
    path.write_text(dump_yaml(cfg), encoding="utf-8")
    return path


def test_classifier_has_the_logits_of_its_weights(net: VanillaNet, weights: Path, tmp_path: Path) -> None:
    model = VanillaYOLO(classifier_file(tmp_path), weights=weights)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.model.eval()(images)[1], net(images))
    assert {bn.eps for bn in vanilla_batchnorms(model.model)} == {BN_EPS}
    assert model.task == "classify"


@pytest.mark.parametrize("form", ["train_form.", "deploy_form."])
@pytest.mark.parametrize("case", ["plain_act3", "stride1_act4", "ada_pool"])
def test_golden_logits(
    shared_file: Callable[[str], Path], tmp_path: Path, assert_near: Callable[..., None], case: str, form: str
) -> None:
    settings = json.loads(shared_file("golden/cases.json").read_text())[case]
    tensors = load_file(shared_file(f"golden/{case}.safetensors"))
    state = {k.removeprefix(form): v for k, v in tensors.items() if k.startswith(form)}
    torch.save({"model_ema": state}, tmp_path / "golden.pth")
    cfg = classifier_yaml("5")  # at act_num 3: the file's own is taken
    cfg["backbone"][0][3][0] |= {"dims": settings["dims"], "strides": settings["strides"]}
    cfg["backbone"][0][3][0]["adaptive_pool"] = "ada_pool" in settings
    cfg["head"][0][3][0], cfg["nc"] = settings["dims"][-1], settings["num_classes"]
    (tmp_path / "golden.yaml").write_text(dump_yaml(cfg), encoding="utf-8")
    model = VanillaYOLO(tmp_path / "golden.yaml", weights=tmp_path / "golden.pth")
    assert is_merged(model.model) == (form == "deploy_form.")
    assert model.model.yaml["backbone"][0][3][0]["act_num"] == settings["act_num"]
    with torch.no_grad():
        # float32, summed in another order
        assert_near(model.model.eval()(tensors["input"])[1], tensors["logits.deploy"], 1e-4)


def test_merged_classifier_runs_and_does_not_train(net: VanillaNet, tmp_path: Path) -> None:
    torch.save(reparameterize(net).state_dict(), tmp_path / "merged.pth")
    model = VanillaYOLO(classifier_file(tmp_path), weights=tmp_path / "merged.pth")
    picture = tmp_path / "grey.png"
    Image.new("RGB", (64, 64), (90, 120, 150)).save(picture)
    probabilities = model.predict(picture, imgsz=64, verbose=False)[0].probs.data
    with torch.no_grad():
        image = torch.tensor([90, 120, 150]).reshape(1, 3, 1, 1).expand(1, 3, 64, 64) / 255
        assert torch.allclose(probabilities, net(image).softmax(1)[0], atol=1e-5)
    with pytest.raises(CheckpointError, match="only the training form trains"):
        model.train(data=str(tmp_path))


def test_other_number_of_classes_keeps_the_new_classifier(weights: Path, tmp_path: Path) -> None:
    model = VanillaYOLO(classifier_file(tmp_path, classes=3))
    with pytest.raises(CheckpointError, match=r"do(es)? not fit"):
        load_pretrained(model.model, weights)  # act_num differs
    model = VanillaYOLO(classifier_file(tmp_path, classes=3), weights=weights)
    assert model.model.eval()(torch.rand(1, 3, 64, 64))[1].shape == (1, 3)


@pytest.mark.slow
def test_detector_has_the_classifiers_features(
    net: VanillaNet, weights: Path, small_yaml: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted = net.forward_features(images)
    assert torch.equal(features(VanillaYOLO(small_yaml, weights=weights).model, images), wanted)

    seen: dict[str, Any] = {}

    def note(trainer: Any) -> None:
        seen["features"], seen["slope"] = features(trainer.model, images), get_negative_slope(trainer.model)
        seen["eps"] = {bn.eps for m in (trainer.model, trainer.ema.ema) for bn in vanilla_batchnorms(m)}
        trainer.model.train()

    def interrupt(trainer: Any) -> None:
        raise KeyboardInterrupt

    model = VanillaYOLO(small_yaml)
    model.add_callback("on_train_start", note)
    model.add_callback("on_model_save", interrupt)
    settings = {**quick, "weights": str(weights), "freeze": 1, "epochs": 2}
    with pytest.raises(KeyboardInterrupt):
        model.train(project=str(tmp_path), name="official", **settings)
    assert torch.equal(seen["features"], wanted)
    assert (seen["slope"], seen["eps"]) == (1, {BN_EPS})
    weights_gone = weights.rename(weights.with_suffix(".gone"))  # a resumed run has its own
    try:
        resumed = VanillaYOLO(tmp_path / "official" / "weights" / "last.pt")
        resumed.add_callback("on_train_start", note)
        seen.clear()
        resumed.train(resume=True)
    finally:
        weights_gone.rename(weights)
    assert (seen["slope"], seen["eps"]) == (1, {BN_EPS})
    # checkpoints hold float16 weights: 11 bits
    assert torch.allclose(seen["features"], wanted, rtol=0, atol=5e-3 * float(wanted.abs().max()))


@pytest.mark.slow
def test_every_process_starts_from_the_weights(
    net: VanillaNet, weights: Path, small_yaml: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    images = torch.rand(1, 3, 64, 64)
    torch.save(images, tmp_path / "images.pt")
    overrides = {**quick, "model": str(small_yaml), "task": "detect", "device": "cpu", "weights": str(weights)}
    trainer = VanillaTrainer(overrides={**overrides, "project": str(tmp_path), "name": "many"})
    script = Path(generate_ddp_file(trainer))
    source = script.read_text(encoding="utf-8")
    # the file as Ultralytics starts it in every process, but for the training itself
    probe = f"""
    trainer.setup_model()
    images = torch.load({str(tmp_path / "images.pt")!r})
    with torch.no_grad():
        torch.save(trainer.model.model[0].eval()(images)[-1], {str(tmp_path)!r} + "/rank" + os.environ["RANK"] + ".pt")
"""
    assert "    trainer.train()\n" in source
    head, tail = source.split("    trainer.train()\n")[0], "    import os, torch\n"
    script.write_text(head + tail + probe, encoding="utf-8")
    try:
        running = [
            subprocess.Popen(
                [sys.executable, str(script)],
                env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
            for rank in (0, 1)
        ]
        errors = [process.communicate(timeout=200)[1] for process in running]
    finally:
        script.unlink()
        script.with_suffix(".pt").unlink()
    assert [process.returncode for process in running] == [0, 0], errors
    with torch.no_grad():
        wanted = net.forward_features(images)
    for rank in (0, 1):
        assert torch.equal(torch.load(tmp_path / f"rank{rank}.pt"), wanted)


def test_what_does_not_fit_is_an_error_in_one_line(
    net: VanillaNet, weights: Path, lively: Path, tmp_path: Path, small_yaml: Path
) -> None:
    torch.save(reparameterize(net).state_dict(), tmp_path / "merged.pth")
    torch.save({"conv1.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    for model, file, told in (
        (small_yaml, tmp_path / "merged.pth", "merged form"),
        (small_yaml, tmp_path / "other.pth", "not the weights of a VanillaNet"),
        ("vanillanet-6-w0.03125-cls", weights, "widths"),
        (small_yaml, tmp_path / "missing.pth", "no such file"),
    ):
        with pytest.raises(CheckpointError, match=told) as error:
            VanillaYOLO(model, weights=file)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="has weights already"):
        VanillaYOLO(lively, weights=weights)


def test_official_files_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VANILLAYOLO_CACHE", str(tmp_path))
    place = tmp_path / "weights" / "vanillanet_6.pth"
    with pytest.raises(CheckpointError, match="put it at") as error:
        find_weights("vanillanet_6.pth", online=False)
    assert str(place) in str(error.value)
    assert "releases/download/ckpt/vanillanet_6.pth" in str(error.value)

    def fetch(url: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(url.encode())

    assert find_weights("vanillanet_6.pth", online=True, fetch=fetch) == place
    assert find_weights("vanillanet_6.pth", online=False) == place
    assert len(OFFICIAL) == 12
    with pytest.raises(CheckpointError, match=r"did you mean vanillanet_6\.pth"):
        find_weights("vanillanet6.pth", online=False)


def test_loaded_into_timm_style_network_after_conversion(net: VanillaNet, weights: Path, tmp_path: Path) -> None:
    from vanillayolo.cli import main

    target = tmp_path / "small.safetensors"
    assert main(["convert", f"model={weights}", f"path={target}"]) == 0
    other = VanillaNet(dims=DIMS, strides=(2, 2, 2), act_num=4, num_classes=7).eval()
    report = load_official_weights(other, target)
    assert report.missing == report.unexpected == report.shape == []
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(other(images), net(images))
    assert main(["convert", f"model={weights}", f"path={target}"]) == 2  # exists
