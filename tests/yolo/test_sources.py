from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from vanillayolo import VanillaYOLO
from vanillayolo.errors import UsageError
from vanillayolo.yolo.sources import check_source, is_live


@pytest.fixture
def model(tiny_yaml: Path) -> VanillaYOLO:
    return VanillaYOLO(tiny_yaml)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, of what cannot be read."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    for name, content in {
        "broken/a.jpg": b"no picture",
        "nothing.jpg": b"",
        "film.mp4": b"no video",
        "list.txt": b"nowhere.jpg\n",
        "binary.txt": bytes(range(256)),
        "list.csv": b"source\nnowhere.jpg\n",
        "none.streams": b"",
        "down.streams": b"rtsp://127.0.0.1:9/x\n",
        "camera.streams": b"77\n",
    }.items():
        (tmp_path / name).write_bytes(content)
    Image.fromarray(np.random.default_rng(0).random((40, 50), np.float32)).save(tmp_path / "float.tif")
    cv2.imwrite(str(tmp_path / "bands.tif"), np.random.default_rng(0).random((40, 50, 3), np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


REFUSED: dict[Any, str] = {
    "empty": "No images or videos",
    "broken": "none of 1 images can be read",
    "nothing.jpg": "none of 1 images can be read",
    "bands.tif": "none of 1 images can be read",
    "float.tif": "none of 1 images can be read",
    "film.mp4": "video",
    "list.txt": "nowhere.jpg does not exist",
    "list.csv": "nowhere.jpg does not exist",
    "binary.txt": "can't decode byte",
    "*.gone": "No images or videos",
    "gone.jpg": "no such file",
    "~nobody/a.jpg": "no such file",
    "a\0b": "no path of a file system",
    "x" * 5000: "no path of a file system",
    "udp://127.0.0.1:9": "no such file",
    "gone.streams": "no such text file",
    "none.streams": "names no stream",
    "down.streams": "127.0.0.1 does not answer",
    "camera.streams": "cannot be opened",
    "https://ultralytics.com/images/bus.jpg": "there is no network",
    "https://youtu.be/x": "there is no network",
    "http://127.0.0.1:9/a.jpg": "127.0.0.1 does not answer",
    "RTSP://127.0.0.1:9/x": "127.0.0.1 does not answer",
    "tcp://127.0.0.1": "no URL of a server",
    "http://[::1/x": "no URL of a server",
    "77": "cannot be opened",
    77: "cannot be opened",
    "screen 1 2 3": "cannot be opened",
    ("gone.jpg",): "cannot be opened",
    3.5: "cannot be opened",
}


@pytest.mark.parametrize("verb", ["predict", "track"])
def test_source_of_which_nothing_can_be_read_is_refused(
    verb: str, model: VanillaYOLO, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mss", None)  # a screen is the machine's, not the test's
    for source, reason in REFUSED.items():
        with pytest.raises(UsageError) as error:
            getattr(model, verb)(source, imgsz=64, save=True, verbose=False, project=str(files / "runs"))
        assert reason in str(error.value), source
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 600
    assert not (files / "runs").exists()


def test_tracker_that_is_not_there_is_refused(model: VanillaYOLO) -> None:
    with pytest.raises(UsageError, match=r"did you mean botsort\.yaml"):
        model.track(0, tracker="botsrt.yaml")


def test_what_the_loader_reads_is_a_source(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow refuses the first for its size; it used to be asked."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    cv2.imwrite("large.png", np.zeros((40, 50, 3), np.uint8))
    cv2.imwrite("small.png", np.zeros((4, 5, 3), np.uint8))
    cv2.imwrite("deep.png", np.zeros((40, 50), np.uint16))
    for name in ("large.png", "small.png", "deep.png"):
        check_source(name)


def test_picture_of_floats_among_good_ones_is_passed_over(model: VanillaYOLO, files: Path) -> None:
    (files / "mixed").mkdir()
    for name in ("float.tif", "bands.tif"):
        (files / name).rename(files / "mixed" / name)
    cv2.imwrite("mixed/good.png", np.zeros((40, 50, 3), np.uint8))
    results = model.predict("mixed", imgsz=64, save=True, conf=0.0001, verbose=False, project=str(files / "runs"))
    assert [Path(result.path).name for result in results] == ["good.png"]


def test_stream_whose_server_answers_is_left_to_ultralytics() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_source(f"rtsp://127.0.0.1:{server.getsockname()[1]}/x")


def test_live_sources_are_those_of_ultralytics(files: Path) -> None:
    assert all(map(is_live, ["0", "screen", "Screen 0 1 2 3 4", "a.STREAMS", "http://x/y", "RTSP://x"]))
    (files / "screen 1.jpg").touch()
    assert not any(map(is_live, ["screen 1.jpg", "screens", "udp://x", "a.jpg", "-1"]))
