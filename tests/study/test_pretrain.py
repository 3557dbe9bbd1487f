from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ultralytics import YOLO

from vanillayolo import VanillaYOLO, cli
from vanillayolo.nn.plasticity import shorten_stock
from vanillayolo.study import pretrain
from vanillayolo.yolo import scene_training
from vanillayolo.yolo.own_weights import load_own
from vanillayolo.yolo.scene_training import SceneStream, VanillaSceneTrainer


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "WRITTEN", 8)
    monkeypatch.setattr(pretrain, "VALIDATING", 4)
    monkeypatch.setattr(scene_training, "available_cores", lambda: 1)  # drawn in this process, where the test looks


@pytest.mark.slow
def test_a_stopped_pretraining_goes_on_in_the_same_stream(
    tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []
    get, save = SceneStream.__getitem__, VanillaSceneTrainer.save_model

    def note(self: SceneStream, index: int) -> Any:
        seen.append(index)
        return get(self, index)

    def stop(self: Any) -> Any:
        save(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(SceneStream, "__getitem__", note)
    words = ["pretrain", f"model={tiny_yaml}", f"folder={tmp_path / 'out'}", "pictures=2.4e1", "epoch=8", "batch=4"]
    words += ["imgsz=64", "classes=4"]
    with monkeypatch.context() as patch:
        patch.setattr(VanillaSceneTrainer, "save_model", stop)
        assert cli.main(words) == 130
    assert seen == list(range(8))
    assert cli.main(words) == 0
    assert seen == list(range(24))
    weights = tmp_path / "out" / "yolo11n-tiny.safetensors"
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.search(r"24 pictures of 64 px .*pretrained=", line)
    card = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["pictures"] == 24
    assert card["scenes"]["pictures"] == 8
    assert {"seconds", "val", "licence", "machine", "training", "sha256"} <= set(card)
    report = load_own(VanillaYOLO(tiny_yaml).model, weights)
    assert not report.unexpected  # pairs, as the new network has
    assert cli.main(words) == 0  # done: nothing more to see
    assert len(seen) == 24
    assert cli.main([*words, "seed=1"]) == 2
    assert "another folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_stock_network_gets_a_checkpoint_to_start_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pretrain", "model=yolo11n", f"folder={tmp_path}", "pictures=4", "epoch=4", "batch=4", "imgsz=64"]
    assert cli.main([*words, "classes=4"]) == 0
    start = tmp_path / "yolo11n.pt"
    assert capsys.readouterr().out.rstrip().endswith(f"pretrained={start}")
    whole = start.stat().st_size
    start.unlink()  # a folder that an earlier version finished has none
    assert cli.main([*words, "classes=4"]) == 0
    assert start.stat().st_size == whole
    trained, short = (YOLO(path).model for path in (tmp_path / "train" / "weights" / "last.pt", start))
    assert min(shorten_stock(short.float())) > 1 - 1e-6  # as short as they may be, but for rounding
    assert min(shorten_stock(trained.float())) < 0.9


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pictures=10"], "each no less than before"),
        (["data=x.yaml"], "data= is set by the command"),
        (["picturs=10"], "did you mean"),
        (["imgsz=40000"], "imgsz"),
        (["model=yolo11n-vanilanet"], "yolo11n-vanillanet"),
        (["model=vanillanet-5-cls"], "give a detector"),
        (["distill_model=nowhere.pt"], "no such file"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["pretrain", f"folder={tmp_path / 'out'}", *words]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
