"""Exported classifiers: the file computes the merged network's probabilities, or it does not keep its name."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copyfile

import numpy as np
import pytest
import torch
from PIL import Image

from vanillayolo import VanillaYOLO
from vanillayolo.cli import main
from vanillayolo.deploy import export, verify
from vanillayolo.errors import UsageError, VerificationError
from vanillayolo.nn import is_merged, randomize_batchnorm
from vanillayolo.yolo.architecture import classifier_yaml, dump_yaml

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, noise = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(noise.integers(0, 255, (40, 56, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def checkpoint(folder: Path, seed: int = 0) -> Path:
    """A classifier that tells noise apart: random statistics, weights that are not near zero.

    Its file has more than the 0.1 MB that Ultralytics takes for the least.
    """
    cfg = classifier_yaml("6", 1 / 32)
    cfg["nc"] = 4
    (folder / "vanillanet-6-cls.yaml").write_text(dump_yaml(cfg), encoding="utf-8")
    model = VanillaYOLO(folder / "vanillanet-6-cls.yaml")
    torch.manual_seed(seed)
    for parameter in model.model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    randomize_batchnorm(model.model, seed)
    path = folder / f"best{seed}.pt"
    model.save(path)
    return path


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_file_has_the_merged_networks_probabilities(pictures: Path, tmp_path: Path, format: str) -> None:
    best = checkpoint(tmp_path)
    assert main(["export", f"model={best}", f"format={format}", "imgsz=32", f"source={pictures}"]) == 0
    target = best.with_suffix(f".{format}")
    record = json.loads(target.with_name(f"{target.name}.verify.json").read_text())
    assert record["breaches"] == []
    assert record["records"]["32x32"]["images"] == 3
    assert record["records"]["32x32"]["outputs"][0]["absolute"] < 1e-5
    again = verify(target, best, source=pictures)
    assert again.verified
    model = VanillaYOLO(best)
    theirs = VanillaYOLO(target, task="classify").predict(pictures / "0.png", imgsz=32, verbose=False)[0].probs.data
    ours = model.predict(pictures / "0.png", imgsz=32, verbose=False)[0].probs.data
    assert torch.allclose(theirs, ours, atol=1e-5)
    assert float(ours.max()) > 0.3  # not a quarter each, whatever the network computes
    assert not is_merged(model.model)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_network_for_a_microcontroller_is_shipped(pictures: Path, tmp_path: Path, format: str) -> None:
    best = copyfile(Path(__file__).parents[1] / "assets" / "0.1.0" / "classifier.pt", tmp_path / "small.pt")
    assert main(["export", f"model={best}", f"format={format}", "imgsz=32", f"source={pictures}"]) == 0
    assert best.stat().st_size < 1e5  # below 0.1 MB, from which on Ultralytics believes in a file


def test_file_of_other_weights_is_not_verified(pictures: Path, tmp_path: Path) -> None:
    best, other = checkpoint(tmp_path), checkpoint(tmp_path, seed=1)
    export(best, "torchscript", imgsz=32, verify=False)
    result = verify(best.with_suffix(".torchscript"), other, source=pictures)
    assert not result.verified
    with pytest.raises(VerificationError, match="probabilities at 32x32 differ"):
        result.check()
    words = ["verify", f"model={best.with_suffix('.torchscript')}", f"reference={other}", f"source={pictures}"]
    assert main(words) == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"int8": True, "data": "x"}, "int8 is for detectors"), ({"nms": True}, "it is for detectors")],
)
def test_what_a_classifier_has_not_is_refused(tmp_path: Path, settings: dict[str, object], told: str) -> None:
    best = checkpoint(tmp_path)
    with pytest.raises(UsageError, match=told):
        VanillaYOLO(best).export(format="onnx", **settings)
