"""Any of timm's networks under YOLO11's neck, through every verb; Swin stands for those made for one image size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from small import slow_but
from vanillayolo import VanillaYOLO, cli
from vanillayolo.errors import MergeError, UsageError
from vanillayolo.yolo import VanillaDetectionModel, model_yaml
from vanillayolo.yolo.architecture import dump_yaml

PEERS = ("fasternet_t0", "resnet50", "swin_tiny_patch4_window7_224", "convnextv2_nano")
#: Of each kind one: timm's other convolutional networks come out as the small one does.
BUILT = ("swin_tiny_patch4_window7_224", "fasternet_t0")
SMALL = "mobilenetv3_small_050"


@pytest.mark.parametrize("network", slow_but(SMALL, [SMALL, *BUILT]))
def test_maps_have_the_strides_and_channels_promised_at_any_size(network: str) -> None:
    model = VanillaDetectionModel(f"yolo11n-timm-{network}", verbose=False).eval()
    assert model.stride.tolist() == [8, 16, 32]
    with torch.inference_mode():
        for height, width in ((64, 64), (96, 160)):
            maps = model.model[0](torch.rand(1, 3, height, width))
            channels = [row[3][0] for row in model.yaml["backbone"][1:]]
            assert [tuple(m.shape[1:]) for m in maps] == [
                (c, height // s, width // s) for c, s in zip(channels, (8, 16, 32), strict=True)
            ]
            assert model(torch.rand(1, 3, height, width))[0].shape[1] == 84


def test_the_neck_is_yolo11s_and_the_letter_scales_it() -> None:
    for letter in "ns":
        cfg, stock = model_yaml(f"yolo11{letter}-timm-{SMALL}"), model_yaml(f"yolo11{letter}-vanillanet", neck="yolo11")
        assert cfg["head"] == stock["head"]
        assert cfg["scales"] == stock["scales"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("yolo11n-timm-resnet5o", "did you mean resnet50"),
        ("yolo11n-timm-qqqqqqqq", "timm.list_models"),
        ("yolo11n-timm-vit_tiny_patch16_224", "stride 16; a detector needs 8, 16 and 32"),
        pytest.param("yolo11n-timm-maxvit_tiny_tf_224", "does not take images of any size", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_a_backbone_is_refused_in_one_line(
    name: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["info", f"model={name}"]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1


def test_a_name_leaves_the_random_numbers_as_they_were() -> None:
    """The same seed gives the same training, whether or not the name was resolved before."""
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    model_yaml("yolo11n-timm-mobilenetv3_small_075")
    assert torch.equal(torch.rand(1), wanted)


def test_an_edited_yaml_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "yolo11n-mine.yaml"
    path.write_text(dump_yaml(model_yaml(f"yolo11n-timm-{SMALL}")), encoding="utf-8")
    a, b = VanillaYOLO(path).model, VanillaYOLO(f"yolo11n-timm-{SMALL}").model
    assert {k: v.shape for k, v in a.state_dict().items()} == {k: v.shape for k, v in b.state_dict().items()}


def test_grey_images_make_grey_first_convolutions() -> None:
    model = VanillaDetectionModel(f"yolo11n-timm-{SMALL}", ch=1, verbose=False)
    assert next(m for m in model.model[0].modules() if isinstance(m, nn.Conv2d)).in_channels == 1


@pytest.fixture(scope="module")
def peer(quick: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> VanillaYOLO:
    folder = tmp_path_factory.mktemp("model")
    cfg = model_yaml(f"yolo11n-timm-{SMALL}")
    cfg["scales"] = {"n": [0.33, 0.125, 1024]}
    (folder / "yolo11n-peer.yaml").write_text(dump_yaml(cfg), encoding="utf-8")
    model = VanillaYOLO(folder / "yolo11n-peer.yaml")
    model.train(epochs=1, project=str(tmp_path_factory.mktemp("peer")), name="run", **quick)
    return model


@pytest.mark.slow
def test_it_trains_validates_and_exports(peer: VanillaYOLO, scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = peer.trainer.best
    header = (best.parents[1] / "results.csv").read_text().splitlines()[0]
    assert "negative_slope" not in header, "there is no slope"
    again = VanillaYOLO(best)
    assert again.val(data=str(scenes), imgsz=64, plots=False, verbose=False).box.maps.shape == (5,)
    onnx = again.export(format="onnx", imgsz=64)
    assert Path(onnx).stat().st_size > 0
    assert cli.main(["info", f"model={best}", "imgsz=64"]) == 0
    assert "slope" not in capsys.readouterr().out
    VanillaYOLO(best).train(epochs=1, project=str(best.parents[2]), name="more", **fine_tuning(scenes))


def fine_tuning(scenes: Path) -> dict[str, Any]:
    return {"data": str(scenes), "imgsz": 64, "batch": 4, "plots": False, "verbose": False}


@pytest.mark.slow
def test_collapse_and_deep_training_are_refused(peer: VanillaYOLO, scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(MergeError, match="does not collapse"):
        VanillaYOLO(peer.trainer.best).collapse(tmp_path / "deployed.pt")
    with pytest.raises(UsageError, match="no pairs to train deep"):
        VanillaYOLO(f"yolo11n-timm-{SMALL}").train(data=str(scenes), decay=0.5, project=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_plain_import_registers_with_timm_and_opens_the_checkpoint(peer: VanillaYOLO) -> None:
    code = (
        "import sys, torch, vanillayolo, timm; print(len(timm.list_models('vanillanet*')));"
        "m = torch.load(sys.argv[1], weights_only=False)['model'].float();"
        "print(type(m.model[0]).__name__, m(torch.zeros(1, 3, 64, 64))[0].shape[1])"
    )
    words = [sys.executable, "-c", code, str(peer.trainer.best)]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-2:] == ["11", "TimmBackbone 9"]


def test_timm_knows_the_peers() -> None:
    assert all(timm.is_model(name) for name in PEERS)
