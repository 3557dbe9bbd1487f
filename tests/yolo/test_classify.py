from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import ultralytics
from PIL import Image

from vanillayolo import VanillaYOLO
from vanillayolo.deploy import collapse
from vanillayolo.deploy.collapse import load_collapsed
from vanillayolo.errors import DataError, ModelNameError, UsageError
from vanillayolo.nn import get_negative_slope, is_merged, randomize_batchnorm, vanillanet_variant
from vanillayolo.yolo import VanillaClassificationModel
from vanillayolo.yolo.architecture import classifier_yaml, dump_yaml
from vanillayolo.yolo.presets import PAPER, PRESETS, with_preset
from vanillayolo.yolo.recipe import LOSSES

COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy pictures of three colours in ImageNet's layout: 8 and 4 of each."""
    root, noise = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(np.array(colour) + noise.normal(0, 30, (48, 48, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def settings(folder: Path) -> dict[str, Any]:
    return {
        "data": str(folder), "imgsz": 64, "batch": 8, "nbs": 8, "plots": False, "verbose": False, "warmup_epochs": 0.0,
        "optimizer": "AdamW", "lr0": 0.003, "exist_ok": True, "hsv_h": 0.0, "auto_augment": None, "erasing": 0.0,
    }  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VanillaNet-5 classifier of small widths."""
    cfg = classifier_yaml("5")
    cfg["backbone"][0][3][0]["dims"], cfg["head"][0][3][0] = [16, 16, 24, 32], 32
    path = tmp_path_factory.mktemp("model") / "small.yaml"
    path.write_text(dump_yaml(cfg), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def learned(small: Path, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> VanillaYOLO:
    model = VanillaYOLO(small)
    model.train(epochs=6, decay=0.5, project=str(tmp_path_factory.mktemp("runs")), name="six", **settings)
    return model


def test_it_learns_deep_and_keeps_what_detection_keeps(learned: VanillaYOLO) -> None:
    with (Path(learned.trainer.save_dir) / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["metrics/negative_slope"]) for row in rows] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 1], abs=1e-4)
    best = VanillaYOLO(learned.trainer.best)
    assert best.task == "classify"
    assert get_negative_slope(best.model) == 1
    assert float(rows[-1]["train/loss"]) < float(rows[0]["train/loss"])
    assert best.model.names == dict(enumerate(COLOURS))


def test_validation_and_prediction_run_the_merged_network(
    learned: VanillaYOLO, folder: Path, settings: dict[str, Any]
) -> None:
    best = VanillaYOLO(learned.trainer.best)
    metrics = best.val(data=settings["data"], imgsz=64, plots=False, verbose=False)
    assert 0 <= metrics.top1 <= metrics.top5 == 1  # three classes
    result = best.predict(folder / "val" / "red" / "0.png", imgsz=64, verbose=False)[0]
    assert is_merged(best.predictor.model.model)
    assert float(result.probs.data.sum()) == pytest.approx(1, abs=1e-5)
    assert not is_merged(best.model)


def test_merged_classifier_is_the_same_function() -> None:
    torch.manual_seed(0)
    model = VanillaClassificationModel("vanillanet-8-w0.03125-cls", nc=5, verbose=False)
    randomize_batchnorm(model).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = model(images)[1]
        after = model.fuse(verbose=False)(images)[1]
    assert is_merged(model)
    # float32 through a dozen layers
    assert float((before - after).abs().max()) <= 1e-4 * float(before.abs().max())


def test_collapse_is_a_stock_classifier(learned: VanillaYOLO, folder: Path, tmp_path: Path) -> None:
    result = collapse(learned.trainer.best, tmp_path / "deployed.pt")
    assert result.equality is not None
    assert result.equality.images == 8
    assert result.equality.agreed == 8
    assert result.parameters[1] < result.parameters[0]
    stock = ultralytics.YOLO(tmp_path / "deployed.pt")
    assert stock.task == "classify"
    assert type(stock.model).__module__ == "ultralytics.nn.tasks"
    image = folder / "val" / "blue" / "1.png"
    ours, theirs = (
        m.predict(image, imgsz=64, verbose=False)[0].probs.data for m in (VanillaYOLO(learned.trainer.best), stock)
    )
    assert torch.allclose(ours, theirs, atol=1e-5)  # probabilities, float32
    rebuilt, x = load_collapsed(tmp_path / "deployed.json"), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(rebuilt(x), stock.model.float().eval()(x))


@pytest.mark.slow
def test_paper_preset_trains(small: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    quick = {k: v for k, v in settings.items() if k not in ("optimizer", "lr0")}
    model = VanillaYOLO(small)
    seen: list[Any] = []
    model.add_callback("on_train_batch_end", lambda t: seen.append((type(t.optimizer).__name__, t.ema.decay(10**9))))
    model.train(
        preset="paper-6", epochs=2, project=str(tmp_path), name="lamb", **{**quick, "auto_augment": "randaugment"}
    )
    assert set(seen) == {("Lamb", 0.99996)}
    assert model.trainer.recipe.loss == "bce"
    assert model.trainer.args.mixup == PAPER["6"]["mixup"]
    assert model.trainer.args.weight_decay == 0.32
    assert "AugmentOp" in str(model.trainer.train_loader.dataset.torch_transforms)


def test_presets_are_the_published_figures_and_yield_to_the_user() -> None:
    assert [row["lr0"] for row in PAPER.values()] == [3.5e-3, 4.8e-3, 4.7e-3, 3.5e-3, 3.5e-3, 3.5e-3]
    assert set(PRESETS) == {f"paper-{n}" for n in range(5, 11)}
    assert with_preset("paper", "7", {"epochs": 5})["epochs"] == 5
    with pytest.raises(UsageError, match="no recipe is published for variant 12"):
        with_preset("paper", "12", {})
    with pytest.raises(UsageError, match="did you mean"):
        with_preset("papr", "6", {})


def test_losses_take_numbers_and_mixtures() -> None:
    logits, numbers = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([2])
    mixture = torch.tensor([[0.0, 0.0, 1.0]])
    for loss in LOSSES.values():
        assert torch.allclose(loss(logits, numbers), loss(logits, mixture))
    assert torch.allclose(LOSSES["ce"](logits, numbers), torch.nn.functional.cross_entropy(logits, numbers))


@pytest.mark.parametrize("variant", ["5", "9", "13_x1_5_ada_pool"])
def test_variants_have_names(variant: str) -> None:
    model = VanillaClassificationModel(f"vanillanet-{variant}-w0.015625-cls", nc=4, verbose=False).eval()
    net = vanillanet_variant(variant, 1 / 64, num_classes=4)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in net.parameters())
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64))[0].shape == (1, 4)


def test_mistakes_are_told(small: Path, folder: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelNameError, match="width 9"):
        VanillaYOLO("vanillanet-6-w9-cls")
    with pytest.raises(ModelNameError, match="vanillanet-6-cls"):
        VanillaYOLO("vanillanet-66-cls")
    with pytest.raises(UsageError, match="task=classify"):
        VanillaYOLO(small, task="detect")
    model = VanillaYOLO(small)
    for key, value, told in (("loss", "mse", "ce, bce"), ("ema_decay", 2, "ema_decay"), ("rand_augment", "x", "timm")):
        with pytest.raises(UsageError, match=told):
            model.train(project=str(tmp_path), **{**settings, key: value})
    for name in "ab":
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "data" / "train" / name / "0.png")
    with pytest.raises(DataError, match="no folder val"):
        model.train(**{**settings, "data": str(tmp_path / "data")})
    with pytest.raises(UsageError, match="has no key 'loss'"):
        VanillaYOLO("yolo11n-vanillanet").train(data="x.yaml", loss="bce")
