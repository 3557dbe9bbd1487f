"""``train quantize=8``: from a finished checkpoint, merged, to an ordinary merged checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ultralytics import YOLO

from detectors import make_lively
from vanillayolo import VanillaYOLO
from vanillayolo.errors import CheckpointError, DataError, UsageError
from vanillayolo.nn import is_merged
from vanillayolo.nn.fake_quantize import rounded_convolutions
from vanillayolo.yolo.inference import letterbox, raw_output, read_image
from vanillayolo.yolo.merging import student
from vanillayolo.yolo.pictures import dataset_images
from vanillayolo.yolo.quantized_training import is_trained_rounded

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lively(small_yaml: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of that name, with as many classes as the scenes have."""
    cfg = {**yaml.safe_load(small_yaml.read_text(encoding="utf-8")), "nc": 5}
    return make_lively(cfg, scenes, tmp_path_factory.mktemp("lively"))


@pytest.fixture(scope="module")
def stopped(lively: Path, quick: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The run folder of such a training, stopped after the first of two epochs, and what rounded in its validation."""
    seen: list[Any] = []

    def look(trainer: Any) -> None:
        for network in (trainer.model, trainer.ema.ema):
            seen.append([conv.taken for conv in rounded_convolutions(student(network)).values()])

    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    model = VanillaYOLO(lively)
    model.add_callback("on_train_epoch_end", look)
    model.add_callback("on_model_save", stop)
    settings = {**quick, "epochs": 2, "lr0": 1e-4, "quantize": 8}
    with pytest.raises(KeyboardInterrupt):
        model.train(project=str(tmp_path_factory.mktemp("runs")), name="rounded", **settings)
    return Path(model.trainer.save_dir), seen


def test_it_trains_rounded_and_saves_an_ordinary_merged_network(
    stopped: tuple[Path, list[Any]], lively: Path, quick: dict[str, Any]
) -> None:
    folder, seen = stopped
    assert len(seen) == 2
    assert all(taken and None not in taken for taken in seen)
    resumed = VanillaYOLO(folder / "weights" / "last.pt")
    resumed.train(resume=True)
    rows = (folder / "results.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == [1, 2]
    best = YOLO(folder / "weights" / "best.pt")
    assert is_merged(best.model)
    assert not rounded_convolutions(best.model)
    assert best.ckpt["train_args"]["quantize"] == 8
    image = letterbox(read_image(dataset_images(quick["data"], "val")[0]), 64)
    before, after = (raw_output(network, image) for network in (VanillaYOLO(lively).model.fuse(), best.model.float()))
    shift = float((before - after).norm() / before.norm())
    assert 1e-6 < shift < 0.5, "from the same function, by biases that expect rounding and four steps of 1e-4"


def test_what_it_made_trains_on_rounded_alone(
    stopped: tuple[Path, list[Any]], quick: dict[str, Any], tmp_path: Path
) -> None:
    last = stopped[0] / "weights" / "last.pt"
    with pytest.raises(CheckpointError, match="is merged"):
        VanillaYOLO(last).train(epochs=1, **quick)
    data = yaml.safe_load(Path(quick["data"]).read_text())
    more = {**data, "path": str(Path(quick["data"]).parent), "names": dict(enumerate("abcdef"))}
    (tmp_path / "six.yaml").write_text(yaml.safe_dump(more))
    with pytest.raises(DataError, match=r"quantize=8: .* has 6 classes, the checkpoint 5"):
        VanillaYOLO(last).train(**{**quick, "data": str(tmp_path / "six.yaml")}, quantize=8)
    (tmp_path / "grey.yaml").write_text(yaml.safe_dump({**more, "names": data["names"], "channels": 1}))
    with pytest.raises(DataError, match=r"quantize=8: .* has pictures of 1 channels, the network takes 3"):
        VanillaYOLO(last).train(**{**quick, "data": str(tmp_path / "grey.yaml")}, quantize=8)
    with pytest.raises(DataError, match=r"val: .* has pictures of 1 channels, the network takes 3"):
        VanillaYOLO(last).val(data=str(tmp_path / "grey.yaml"), imgsz=64)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"decay": 0.5}, "decay=0.5: not with quantize=8"),
        ({"lean": "max"}, "lean=max: not with quantize=8"),
        ({"join": True}, "join=True: not with quantize=8"),
        ({"bfloat16": True}, "bfloat16=True: not with quantize=8"),
        ({"pretrained": False}, "pretrained=False: not with quantize=8"),
        ({"quantize": 16}, "quantize=16: training is in float"),
    ],
)
def test_refused(settings: dict[str, Any], said: str, lively: Path, quick: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        VanillaYOLO(lively).train(project=str(tmp_path / "runs"), **{**quick, "quantize": 8, **settings})
    assert not (tmp_path / "runs").exists()


def test_arguments_that_were_edited_say_nothing() -> None:
    assert is_trained_rounded({"quantize": 8})
    assert not any(map(is_trained_rounded, ({}, {"quantize": 16}, 7, None)))


def test_a_network_that_is_not_trained_is_refused(small_yaml: Path, quick: dict[str, Any], tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("quantize: 8\n")
    for given in ({"quantize": 8}, {"quantize": "int8"}, {"cfg": str(settings)}):
        with pytest.raises(CheckpointError, match="no trained checkpoint of ours; train it without quantize first"):
            VanillaYOLO(small_yaml).train(**quick, **given)
    settings.write_text("quantize: 16\n")
    with pytest.raises(UsageError, match="quantize=16: training is in float"):
        VanillaYOLO(small_yaml).train(**quick, cfg=str(settings))
