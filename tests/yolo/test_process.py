"""What Ultralytics reads off the process does not decide what a call from Python does."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ultralytics.engine import model as engine

from vanillayolo import VanillaYOLO
from vanillayolo.errors import UsageError
from vanillayolo.yolo import process

PICTURE = np.full((64, 64, 3), 127, np.uint8)


@pytest.mark.parametrize("words", [["/usr/bin/vanillayolo", "predict"], ["ultralytics", "mode=track"]])
def test_the_name_of_the_program_changes_nothing(
    words: list[str], tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ARGV", words)
    monkeypatch.setattr(process, "_words", words)
    model = VanillaYOLO(tiny_yaml)
    where: dict[str, Any] = {"imgsz": 64, "verbose": False, "project": str(tmp_path / "runs")}
    assert [type(result).__name__ for result in model.predict(PICTURE, **where)] == ["Results"]
    assert len(list(model.predict(PICTURE, stream=True, **where))) == 1
    assert not (tmp_path / "runs").exists(), "pictures are saved when asked for"
    assert engine.ARGV is words


def test_threads_inside_at_once_leave_the_name_as_it_was() -> None:
    before, inside, leave = engine.ARGV, threading.Barrier(3), threading.Event()

    def stay() -> None:
        with process.called_from_python():
            inside.wait(10)
            leave.wait(10)
            assert engine.ARGV == [""]

    threads = [threading.Thread(target=stay) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    with process.called_from_python():
        pass
    assert engine.ARGV == [""]
    leave.set()
    for thread in threads:
        thread.join()
    assert engine.ARGV is before


def test_ranks_left_over_from_a_launcher_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    process.check_ranks("train", "cpu")
    for name, value in (("RANK", 0), ("LOCAL_RANK", 0), ("WORLD_SIZE", 2)):
        monkeypatch.setattr(process, name, value)
    for mode, device in (("train", None), ("train", "cpu"), ("train", 0), ("val", "0,1")):
        with pytest.raises(UsageError, match="WORLD_SIZE=2 RANK=0") as error:
            process.check_ranks(mode, device)
        assert "\n" not in str(error.value)
    for devices in ("0,1", [0, 1]):
        process.check_ranks("train", devices)
