from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ultralytics.utils import DEFAULT_CFG_DICT, ROOT

from vanillayolo.errors import UsageError
from vanillayolo.values import check_value
from vanillayolo.yolo.arguments import (
    check_classes,
    check_device,
    check_freeze,
    check_imgsz,
    check_quantize,
    check_tracker,
    check_verb,
    fitting_imgsz,
)
from vanillayolo.yolo.kinds import KINDS
from vanillayolo.yolo.sections import TRAIN_KEYS


@pytest.mark.parametrize("settings", [{"batch": -1}, {"batch": 0.6}, {"batch": 8}, {"time": 0.5}, {"workers": 0}, {}])
def test_numbers_with_a_meaning_pass(settings: dict[str, Any]) -> None:
    check_verb("train", settings)


def test_every_setting_of_ultralytics_has_a_kind_and_its_default_is_of_it() -> None:
    left = {"model", "source", "format", "freeze", "device", "quantize", "optimizer"}  # checked where they are read
    for key, value in DEFAULT_CFG_DICT.items():
        if key not in left:
            check_value(key, value, KINDS[key])


BAD: dict[str, Any] = {
    **{"epochs": True, "fraction": 2.5, "degrees": None, "lr0": float("nan"), "box": float("inf"), "seed": 10**20},
    **{"workers": 10**6, "batch": 10**9, "time": float("nan"), "scale": [float("nan"), 2], "cache": "perhaps"},
    **{"compile": "quickly", "amp": None, "cos_lr": 1, "name": "x" * 3000, "project": "", "split": "nowhere"},
    **{"optimizer": None, "embed": [True], "half": "perhaps", "trainer": "x", "lean": True, "decay_shape": [1]},
    **{
        "decay": None,
        "weights": 7,
        "freeze_stages": 99,
        "device": 99,
        "cfg": 7,
        "augmentations": 7,
        "task": "segmentation",
        "nbs": 0,
    },
}


@pytest.mark.parametrize("key", BAD)
def test_a_value_of_another_kind_is_one_line_that_names_the_key(key: str) -> None:
    with pytest.raises(UsageError, match=f"{key}=") as error:
        check_verb("train", {key: BAD[key]}, TRAIN_KEYS)
    assert len(str(error.value).splitlines()) == 1
    assert any(word in str(error.value) for word in ("give ", "allowed", "did you mean"))


def test_the_settings_of_a_file_are_checked_as_those_that_are_given(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for text, told in (
        ("epochs: many\n", r"mine\.yaml: epochs='many': give"),
        ("epohcs: 3\n", "has no key 'epohcs': did you mean epochs"),
        ("- 1\n", "no YAML of settings"),
        ("a: [\n", "no YAML of settings"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=told):
            check_verb("train", {"cfg": str(path)})
    path.write_text("epochs: 3\ndecay: 0.5\n")
    check_verb("train", {"cfg": str(path)}, TRAIN_KEYS)


def test_a_tracker_has_what_ultralytics_reads(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    good = (ROOT / "cfg" / "trackers" / "bytetrack.yaml").read_text(encoding="utf-8")
    moving = (ROOT / "cfg" / "trackers" / "botsort.yaml").read_text(encoding="utf-8")
    path.write_text(good)
    check_tracker(path)
    (tmp_path / "torn.pt").write_bytes(b"torn")
    for own in (ROOT / "cfg" / "trackers").glob("*.yaml"):
        check_tracker(own)
    for text, told in (
        (good.replace("bytetrack", "bitetrack"), "did you mean bytetrack"),
        (good.replace("track_buffer", "buffer"), "lacks track_buffer"),
        (good.replace("match_thresh: 0.8", "match_thresh: x"), "match_thresh='x': give a number"),
        (good.replace("match_thresh: 0.8", "match_thresh: 3"), "match_thresh=3: give a number from 0 to 1"),
        (good.replace("track_buffer: 30", "track_buffer: -1"), "track_buffer=-1: give a number from 0"),
        (good.replace("fuse_score: True", "fuse_score: perhaps"), "fuse_score='perhaps': give true or false"),
        ("no tracker\n", "tracker_type"),
        (
            moving.replace("gmc_method: sparseOptFlow", "gmc_method: magic"),
            "gmc_method='magic': give one of sparseOptFlow",
        ),
        (
            moving.replace("with_reid: False", "with_reid: True").replace("model: auto", "model: notes.txt"),
            "model='notes.txt': give auto",
        ),
        (
            moving.replace("with_reid: False", "with_reid: True").replace("model: auto", f"model: {tmp_path}/torn.pt"),
            "not a loadable checkpoint",
        ),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=told):
            check_tracker(path)


@pytest.mark.parametrize("freeze", [None, 0, 3, [0, 4], ["head", 2]])
def test_rows_that_there_are_may_be_held(freeze: Any) -> None:
    check_freeze(freeze, 19)


@pytest.mark.parametrize("freeze", [-1, 19, True, "head", [19], [0, 1.5], list(range(19))])
def test_rows_that_there_are_not_are_refused(freeze: Any) -> None:
    with pytest.raises(UsageError, match="freeze="):
        check_freeze(freeze, 19)


def test_sizes_classes_and_quantisation() -> None:
    for good in (32, 641, [320, 640]):
        check_imgsz(good)
    for bad in (31, "640", [320, 0], [1, 2, 3], True, None):
        with pytest.raises(UsageError, match="imgsz="):
            check_imgsz(bad)
    assert [fitting_imgsz(x) for x in (32, 1e3, [320, 641])] == [32, 1024, [320, 672]]
    check_classes([0, 2], 3)
    with pytest.raises(UsageError, match="from 0 to 2"):
        check_classes([0, 3], 3)
    check_quantize(None)
    with pytest.raises(UsageError, match="training is in float"):
        check_quantize("int4")


def test_a_word_of_an_exporters_library_is_no_device_of_a_network() -> None:
    check_device("intel:cpu", libraries=True)
    for word in ("tpu", "intel:cpu", "vulkan:0"):
        with pytest.raises(UsageError, match=rf"^device='{word}': not on this machine; allowed are cpu"):
            check_device(word)


def test_the_device_of_a_file_of_settings_is_asked_too(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("device: [a]\n")
    for verb in ("train", "val"):
        with pytest.raises(UsageError, match="not on this machine"):
            check_verb(verb, {"cfg": str(tmp_path / "mine.yaml")})
    check_verb("train", {"cfg": str(tmp_path / "mine.yaml"), "device": "cpu"})
