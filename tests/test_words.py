"""The words of the command line, in whatever order and spacing the ``yolo`` command takes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vanillayolo import cli
from vanillayolo.errors import UsageError
from vanillayolo.words import parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("True", True),
        ("false", False),
        ("none", None),
        ("[1,2]", [1, 2]),
        ("a/b.jpg", "a/b.jpg"),
    ],
)
def test_values_are_read_as_python_reads_them(text: str, value: object) -> None:
    assert parse_value(text) == value


@given(st.text(max_size=30))
def test_any_text_is_some_value(text: str) -> None:
    parse_value(text)


def test_bare_resume_is_true() -> None:
    assert cli.parse(["train", "model=last.pt", "resume"])[1]["resume"] is True


@pytest.mark.parametrize(
    ("line", "command", "settings"),
    [
        ("detect predict model=best.pt save", "predict", {"task": "detect", "model": "best.pt", "save": True}),
        ("predict detect save model=best.pt", "predict", {"task": "detect", "model": "best.pt", "save": True}),
        ("model=best.pt mode=predict", "predict", {"model": "best.pt"}),
        ("predict model=a.pt half show=False", "predict", {"model": "a.pt", "half": True, "show": False}),
        ("train data=my.yaml --imgsz= 640 epochs =1, cache = disk", "train", {"data": "my.yaml", "imgsz": 640}),
        ("train imgsz=[3, 640, 640]", "train", {"imgsz": [3, 640, 640]}),
        ("predict model=a.pt source=a[1.jpg", "predict", {"source": "a[1.jpg"}),
        ("verify model=a.onnx reference=a.pt layers", "verify", {"layers": True}),
        ("classify train resume model=last.pt", "train", {"task": "classify", "resume": True}),
        ("settings reset", "settings", {"reset": True}),
        ("export model=a.pt nms=None max_det=10", "export", {"nms": None, "max_det": 10}),
    ],
)
def test_words_are_taken_as_the_yolo_command_takes_them(line: str, command: str, settings: dict[str, object]) -> None:
    function, given = cli.parse(line.split())
    assert function is cli.COMMANDS[command]
    assert given.items() >= settings.items()


def test_settings_of_a_file_stand_below_those_of_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "task: detect\nmode: train\nmodel: yolo11n-vanillanet-6\ndata: a.yaml\nepochs: 7\ntime:\ndecay: 0.5\n"
    )
    _, given_ = cli.parse(["train", f"cfg={file}", "epochs=2"])
    assert given_ == {"model": "yolo11n-vanillanet-6", "data": "a.yaml", "epochs": 2, "decay": 0.5}
    file.write_text("- no settings\n")
    with pytest.raises(UsageError, match=r"no YAML of settings"):
        cli.parse(["train", f"cfg={file}"])
    for text, told in (("epocs: 3", "did you mean epochs"), ("lr0: .nan", "lr0=nan: give"), ("1: 2", "no key 1")):
        file.write_text(text)
        with pytest.raises(UsageError, match=rf"mine\.yaml'.*{told}"):  # the file is named
            cli.parse(["train", f"cfg={file}"])
