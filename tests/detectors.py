"""Fixtures: a detector that is trained in seconds, and one whose boxes are many, with the scenes they are for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import cv2
import pytest
import torch
import yaml
from torch import nn

from five_shapes import make_scenes
from vanillayolo import VanillaYOLO
from vanillayolo.nn import get_negative_slope, randomize_batchnorm
from vanillayolo.yolo import model_yaml
from vanillayolo.yolo.architecture import dump_yaml
from vanillayolo.yolo.memory import predict_memory
from vanillayolo.yolo.tasks import TASKS


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data YAML of 8 training and 4 validation scenes of 96 px."""
    return make_scenes(tmp_path_factory.mktemp("scenes") / "scenes", train=8, val=4, size=96, seed=1)


@pytest.fixture(scope="session")
def small_yaml(shrink_yaml: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that trains an epoch of these in a second."""
    path = tmp_path_factory.mktemp("model") / "yolo11n-small.yaml"
    path.write_text(dump_yaml(shrink_yaml(model_yaml("yolo11n-vanillanet-5"), [16, 16, 24, 32])), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def quick(scenes: Path) -> dict[str, Any]:
    """Settings of a training in seconds; ``nbs`` is the batch, so that every batch is a step."""
    return {
        "data": str(scenes),
        "imgsz": 64,
        "batch": 4,
        "nbs": 4,
        "plots": False,
        "verbose": False,
        "optimizer": "AdamW",
        "lr0": 0.002,
        "warmup_epochs": 0.0,
        "exist_ok": True,
    }


@pytest.fixture(scope="session", autouse=True)
def predicted_once() -> Iterator[None]:
    """Predict what a training takes once for each kind of it: a third of the time that one of these takes."""
    known: dict[Any, Any] = {}

    def predict(network: Any, *settings: Any) -> Any:
        shapes = tuple((name, p.shape, p.requires_grad) for name, p in network.named_parameters())
        own = (get_negative_slope(network), network.lean, network.bfloat16, torch.is_autocast_enabled("cpu"))
        key = (type(network), shapes, own, settings)
        if key not in known:
            known[key] = predict_memory(network, *settings)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vanillayolo.yolo.trainer.predict_memory", predict)
        yield


@pytest.fixture(scope="session")
def trained(small_yaml: Path, quick: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> VanillaYOLO:
    """A detector after six epochs, four of them with a slope below 1, with a checkpoint of each."""
    model = VanillaYOLO(small_yaml)
    folder = tmp_path_factory.mktemp("runs")
    model.train(epochs=6, decay=2 / 3, project=str(folder), name="six", save_period=1, **quick)
    return model


@pytest.fixture(scope="session")
def run(trained: VanillaYOLO) -> Path:
    """The run folder of that training."""
    return Path(trained.trainer.save_dir)


@pytest.fixture(scope="session")
def lively(small_yaml: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint at slope 1 whose boxes are many, sure and different in every image.

    A training of seconds leaves a network that answers every image alike, with no metric above 0, so that comparing
    two of them shows nothing. Here nothing is trained: BN is randomised, then its statistics are taken from the images,
    so that they reach the head, whose last layers are widened.
    """
    cfg = {**yaml.safe_load(small_yaml.read_text(encoding="utf-8")), "nc": 3}
    return make_lively(cfg, scenes, tmp_path_factory.mktemp("lively"))


@pytest.fixture(scope="session", params=[task for task, row in TASKS.items() if row.finds_boxes and task != "detect"])
def lively_other(
    request: pytest.FixtureRequest,
    shrink_yaml: Callable[..., dict[str, Any]],
    scenes: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The same of every other task that finds boxes."""
    name = f"yolo11n-vanillanet-5{TASKS[request.param].suffix}"
    cfg = {**shrink_yaml(model_yaml(name), [16, 16, 24, 32]), "nc": 3}
    cfg |= {"kpt_shape": [3, 3]} if request.param == "pose" else {}
    return make_lively(cfg, scenes, tmp_path_factory.mktemp(f"lively-{request.param}"))


@pytest.fixture(scope="session")
def lively_26(
    shrink_yaml: Callable[..., dict[str, Any]], scenes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same with YOLO26's head."""
    cfg = {**shrink_yaml(model_yaml("yolo26n-vanillanet-5"), [16, 16, 24, 32]), "nc": 3}
    return make_lively(cfg, scenes, tmp_path_factory.mktemp("lively-26"))


def make_lively(cfg: dict[str, Any], scenes: Path, folder: Path) -> Path:
    """Write a checkpoint as ``lively`` describes it."""
    torch.manual_seed(0)
    (folder / "yolo11n-lively.yaml").write_text(dump_yaml(cfg), encoding="utf-8")
    model = VanillaYOLO(folder / "yolo11n-lively.yaml")
    pictures = [cv2.resize(cv2.imread(str(p)), (64, 64)) for p in sorted((scenes.parent / "images/train").iterdir())]
    batch = torch.stack([torch.from_numpy(p).permute(2, 0, 1).flip(0) for p in pictures]).float() / 255
    network = randomize_batchnorm(model.model)
    with torch.no_grad():
        head = network.model[-1]
        # sides of a few cells, not of half the map, and none below 0
        sides, spread = (torch.arange(16.0).mul(-0.7), 0.25) if head.reg_max > 1 else (torch.tensor([2.0]), 0.05)
        for branches in (head.one2many, head.one2one) if hasattr(head, "one2one_cv2") else (head.one2many,):
            for boxes, classes in zip(branches["box_head"], branches["cls_head"], strict=True):
                nn.init.normal_(boxes[-1].weight, std=spread)
                boxes[-1].bias.copy_(sides.repeat(4))
                nn.init.normal_(classes[-1].weight, std=0.3)
                classes[-1].bias.fill_(-2.0)
        for name in ("cv4", "cv4_kpts", "one2one_cv4", "one2one_cv4_kpts"):  # what other tasks add
            for branch in getattr(head, name, None) or ():
                last = branch[-1] if isinstance(branch, nn.Sequential) else branch
                if isinstance(last, nn.Conv2d):
                    nn.init.normal_(last.weight, std=0.3)
        for m in network.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = 1.0
        network.train()(batch)
    model.save(folder / "lively.pt")
    return folder / "lively.pt"


@pytest.fixture(scope="session")
def lively_data(lively: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data YAML of the validation scenes, labelled with all that ``lively`` finds in them at 64 px.

    So its metrics there, with ``rect=False`` as for a prediction, are well above 0 (not 1: validation counts several
    classes of a box), and those of a network that differs fall.
    """
    root = tmp_path_factory.mktemp("lively_data")
    copytree(scenes.parent / "images" / "val", root / "images" / "val")
    (root / "labels" / "val").mkdir(parents=True)
    for result in VanillaYOLO(lively).predict(root / "images" / "val", imgsz=64, conf=0.001, verbose=False):
        rows = torch.cat([result.boxes.cls[:, None], result.boxes.xywhn], 1).tolist()
        lines = "".join(f"{int(c)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in rows)
        (root / "labels" / "val" / f"{Path(result.path).stem}.txt").write_text(lines, encoding="utf-8")
    data = {"path": str(root), "train": "images/val", "val": "images/val", "names": ["one", "two", "three"]}
    (root / "scenes.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    return root / "scenes.yaml"
