"""Ways in that do not begin at VanillaYOLO: they work, or one line says what to use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics import YOLO
from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import ClassificationModel, DetectionModel
from ultralytics.utils import DEFAULT_CFG

from vanillayolo import VanillaDetectionModel, VanillaTrainer, VanillaYOLO
from vanillayolo.errors import ModelNameError, UsageError
from vanillayolo.nn import get_negative_slope, randomize_batchnorm
from vanillayolo.nn.reparameterize import is_joined, join_pairs
from vanillayolo.yolo import VanillaClassificationModel
from vanillayolo.yolo.entrances import deep


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (DetectionModel, "yolo11n-vanillanet.yaml"),
        (YOLO, "yolo11n-vanillanet.yaml"),
        (YOLO, "yolo11n-vanillanet"),
        (ClassificationModel, "vanillanet-6-cls.yaml"),
    ],
)
def test_a_name_of_ours_in_ultralytics_own_classes_says_what_to_use(build: Any, name: str) -> None:
    with pytest.raises(ModelNameError, match=r"use vanillayolo\.VanillaYOLO") as error:
        build(name)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_a_yaml_of_ours_in_ultralytics_own_classes_says_what_to_use(
    tiny_yaml: Path, tiny_cfg: dict[str, Any], tmp_path: Path
) -> None:
    for cfg in (str(tiny_yaml), tiny_cfg):
        with pytest.raises(ModelNameError, match=r"row VanillaBackbone .* use vanillayolo\.VanillaYOLO"):
            DetectionModel(cfg, verbose=False)
    with pytest.raises(ModelNameError, match="row VanillaFeatures"):
        ClassificationModel(VanillaClassificationModel("vanillanet-6-w0.125-cls", verbose=False).yaml, verbose=False)


def test_names_of_ultralytics_are_looked_up_as_before() -> None:
    assert DetectionModel("yolo11n.yaml", verbose=False).yaml["scale"] == "n"
    with pytest.raises(FileNotFoundError):
        DetectionModel("yolo11n-vanilanet.yaml", verbose=False)


class Mine(DetectionTrainer):
    """As Ultralytics' guide to trainers of one's own has it."""

    def preprocess_batch(self, batch: Any) -> Any:
        self.seen = getattr(self, "seen", 0) + 1
        return super().preprocess_batch(batch)


class PassesBy(DetectionTrainer):
    """Calls the constructor of the class that it was derived from, not the next in line."""

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: Any = None, _callbacks: Any = None) -> None:
        DetectionTrainer.__init__(self, cfg, overrides, _callbacks)


def test_a_trainer_derived_from_ultralytics_gets_ours_as_the_next_in_line() -> None:
    assert deep(None, VanillaTrainer) is VanillaTrainer
    assert deep(DetectionTrainer, VanillaTrainer) is VanillaTrainer
    assert issubclass(deep(Mine, VanillaTrainer), (Mine, VanillaTrainer))
    assert deep(Mine, VanillaTrainer).__mro__[1:3] == (Mine, VanillaTrainer)
    own = type("Own", (VanillaTrainer,), {})
    assert deep(own, VanillaTrainer) is own
    with pytest.raises(UsageError, match=r"derive it from vanillayolo\.yolo\.trainer\.VanillaTrainer"):
        deep(ClassificationTrainer, VanillaTrainer)


@pytest.mark.slow
def test_a_trainer_of_ones_own_trains_deep(small_yaml: Path, quick: dict[str, Any], tmp_path: Path) -> None:
    model = VanillaYOLO(small_yaml)
    slopes: list[float | None] = []
    model.add_callback("on_train_epoch_end", lambda trainer: slopes.append(get_negative_slope(trainer.model)))
    model.train(trainer=Mine, epochs=2, decay=0.5, project=str(tmp_path), val=False, **quick)
    assert slopes == [0, 1]
    assert model.trainer.seen == 2 * 2  # batches
    with pytest.raises(UsageError, match=r"PassesBy: its __init__ passes .* super\(\)"):
        VanillaYOLO(small_yaml).train(trainer=PassesBy, epochs=1, project=str(tmp_path), **quick)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pairs", "joined"])
def test_the_state_of_a_trained_network_goes_into_a_new_one(
    form: str, tiny_cfg: dict[str, Any], assert_near: Any
) -> None:
    torch.manual_seed(0)
    trained = randomize_batchnorm(VanillaDetectionModel(tiny_cfg, nc=2, verbose=False))
    if form == "joined":
        join_pairs(trained)
    new = VanillaDetectionModel(tiny_cfg, nc=2, verbose=False)
    if form == "joined":
        for pair in new.modules():
            if hasattr(pair, "negative_slope") and hasattr(pair, "conv1"):
                pair.negative_slope = 0.5  # of a network that is in the middle of its training
    assert new.load_state_dict(trained.state_dict()).missing_keys == []
    assert is_joined(new) == (form == "joined")
    assert get_negative_slope(new) == 1
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert_near(new.eval()(x)[0], trained.eval()(x)[0], 0, "the same weights")  # bit for bit
    assert sum(p.requires_grad for p in new.parameters()) == sum(p.requires_grad for p in trained.parameters())
    new.fuse(verbose=False)


def test_part_of_a_state_leaves_the_pairs_as_they_are(tiny_cfg: dict[str, Any]) -> None:
    new = VanillaDetectionModel(tiny_cfg, nc=2, verbose=False)
    state = {k: v for k, v in new.state_dict().items() if ".conv2." not in k}  # norm1 is there: no joined pair
    new.load_state_dict(state, strict=False)
    assert not is_joined(new)
