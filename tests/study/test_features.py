from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vanillayolo import VanillaYOLO, cli
from vanillayolo.nn import randomize_batchnorm
from vanillayolo.yolo.detectors import open_detector, stage_modules

CLASSIFIER = Path(__file__).parents[1] / "assets" / "0.1.0" / "classifier.pt"
pytest.importorskip("torchcam", reason="needs torchcam: pip install 'vanillayolo[study]'")


@pytest.fixture(scope="module")
def checkpoints(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One of ours, one with a backbone of timm's, and Ultralytics' own two, one of them with two heads."""
    folder = tmp_path_factory.mktemp("checkpoints")
    files = []
    for name in (str(small_model), "yolo11n-timm-mobilenetv3_small_050", "yolo11n", "yolo26n"):
        detector = open_detector(name)
        randomize_batchnorm(detector.model)
        files.append(folder / f"{Path(name).stem}.pt")
        detector.save(files[-1])
    return files


@pytest.mark.slow
def test_stages_are_found_in_every_kind_of_detector(checkpoints: list[Path]) -> None:
    found = [sorted(stage_modules(open_detector(path).model.float().eval())) for path in checkpoints]
    assert found[0] == [4, 8, 16, 32]
    assert found[1] == [8, 16, 32]
    assert all({4, 8, 16, 32} <= set(strides) for strides in found[2:])


@pytest.mark.slow
def test_one_picture_per_image_holds_all_detectors(
    checkpoints: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "in" / f"{i}.png"), pixels)
    models = f"model={','.join(map(str, checkpoints))}"
    words = ["features", models, f"source={tmp_path / 'in'}", f"folder={tmp_path / 'out'}", "imgsz=64"]
    assert cli.main(words) == 0
    pictures = sorted((tmp_path / "out").iterdir())
    assert [p.name for p in pictures] == ["0.png", "1.png"]
    picture = cv2.imread(str(pictures[0]))
    assert picture is not None
    assert picture.shape[0] > 1000, "four rows"
    (tmp_path / "in" / "1.png").rename(tmp_path / "in" / "0.bmp")  # a stem of two pictures
    words = ["features", f"model={checkpoints[0]}", f"source={tmp_path / 'in'}", f"folder={tmp_path / 'two'}"]
    assert cli.main([*words, "imgsz=64"]) == 0
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["0-0.png", "0-1.png"]


@pytest.mark.slow
def test_other_tasks_have_maps_and_attention(lively_other: Path) -> None:
    from vanillayolo.study.features import look

    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    seen = look(VanillaYOLO(lively_other).model, image, 64)
    assert set(seen.maps) == {4, 8, 16, 32}
    assert seen.attention.max() == 1.0
    assert np.isfinite(seen.attention).all()


def test_attention_answers_to_the_class_asked_for(small_model: Path, tmp_path: Path) -> None:
    """With only class 1's last weights alive, attention of class 1 is somewhere and that of class 0 nowhere."""
    from vanillayolo.study.features import look

    torch.manual_seed(0)
    detector = randomize_batchnorm(VanillaYOLO(small_model).model)
    for branch in detector.model[-1].cv3:
        with torch.no_grad():
            branch[-1].weight.normal_(std=0.3)
            branch[-1].weight[0].zero_()
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    dead, alive = (look(detector, image, 64, wanted) for wanted in (0, 1))
    assert dead.attention.max() == 0
    assert alive.attention.max() == pytest.approx(1)
    assert alive.attention.shape == (64, 64)
    assert alive.class_name == detector.names[1]
    assert all(torch.equal(before[k], v) for k, v in detector.state_dict().items()), "the detector is left alone"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model=yolo11n"], "would be random"),
        (["model=nowhere.pt"], "no such file"),
        ([f"model={CLASSIFIER}"], "is there to classify"),
        (["model=CHECKPOINT", "wanted=unicorn"], "unicorn"),
        (["model=CHECKPOINT", "imgsz=7"], "from 32"),
        (["model=CHECKPOINT", "sorce=x"], "did you mean"),
        (["model=CHECKPOINT", "folder=HERE"], "would replace a.png, a picture of source="),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], says: str, checkpoints: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 32, 3), np.uint8))
    words = [word.replace("CHECKPOINT", str(checkpoints[0])).replace("HERE", str(tmp_path)) for word in words]
    words += [] if "folder=" in str(words) else [f"folder={tmp_path / 'out'}"]
    assert cli.main(["features", f"source={tmp_path / 'a.png'}", *words]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
