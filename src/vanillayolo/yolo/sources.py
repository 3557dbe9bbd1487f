"""Sources of a prediction: what names nothing, or cannot be reached, is refused before anything is written."""

from __future__ import annotations

import ipaddress
import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
from ultralytics.data.loaders import LoadImagesAndVideos, LoadPilAndNumpy, SourceTypes
from ultralytics.models.yolo.classify import ClassificationPredictor
from ultralytics.models.yolo.obb import OBBPredictor
from ultralytics.models.yolo.pose import PosePredictor
from ultralytics.models.yolo.segment import SegmentationPredictor
from ultralytics.utils import ONLINE

from vanillayolo.data.data_yaml import path_of
from vanillayolo.errors import DataError, UsageError, one_line
from vanillayolo.values import shown

from .datasets import read_image
from .prediction import VanillaPredictor
from .runtimes import own_runtimes

#: What Ultralytics opens over a network, and where a server listens that names no port.
PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtmp": 1935, "tcp": 0}
#: Seconds that a server has to answer.
PATIENCE = 5.0

#: How opening a source fails in Ultralytics, and the packages it opens screens and YouTube with: they have errors of
#: their own.
REFUSALS = (OSError, ImportError, TypeError, ValueError, IndexError, NotImplementedError, cv2.error)
OPENERS = {"mss", "pytubefix"}


def is_live(source: str) -> bool:
    """Return whether a source is a camera, a URL, a screen or a list of streams, as Ultralytics takes it."""
    lower = source.lower()
    screen = lower == "screen" or (lower.startswith("screen ") and not os.path.exists(source))
    return source.isnumeric() or screen or lower.endswith(".streams") or _scheme(source) in PORTS


def _scheme(source: str) -> str:
    return source.partition("://")[0].lower() if "://" in source else ""


def check_source(source: Any) -> None:
    """Raise UsageError for a source that names no file or server, or none that can be read.

    A source in memory, or a list, is left to the predictor (:class:`CheckedSource`).
    """
    if source is None or (isinstance(source, str) and not source):
        raise UsageError("source is missing: give an image, a folder, a video, a URL or a camera number.")
    if not isinstance(source, (str, Path)):
        return
    text = str(source)
    if _scheme(text) in PORTS:
        _check_reached(text)
    elif text.lower().endswith(".streams"):
        _check_streams(text)
    elif not is_live(text):
        _check_files(text)


def _check_streams(file: str) -> None:
    """Raise UsageError for a list of streams that is not there or names one that cannot be reached."""
    try:
        streams = Path(file).read_text(encoding="utf-8-sig").split()
    except (OSError, ValueError) as error:
        raise UsageError(f"source={shown(file)}: no such text file; give one with a stream in every line.") from error
    if not streams:
        raise UsageError(f"source={shown(file)}: names no stream; give one in every line.")
    for stream in streams:
        if _scheme(stream) in PORTS:
            _check_reached(stream)


def _check_reached(url: str) -> None:
    """Raise UsageError for a URL whose server does not answer: Ultralytics would wait for it, again and again."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS[parts.scheme.lower()]
    except ValueError:
        host, port = None, 0
    if not host or not port:
        raise UsageError(f"source={shown(url)}: no URL of a server; write e.g. https://HOST/street.jpg.")
    if parts.scheme.lower() in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return  # another machine asks for it
    if not ONLINE and not _is_near(host):
        raise UsageError(f"source={shown(url)}: there is no network; give a file, or unset YOLO_OFFLINE.")
    try:
        socket.create_connection((host, port), PATIENCE).close()
    except (OSError, UnicodeError) as error:
        reason = str(error)[:80] or type(error).__name__
        raise UsageError(f"source={shown(url)}: {host} does not answer ({reason}); check the address.") from error


def _is_near(host: str) -> bool:
    """Return whether a host may be there although the internet is not: an address, or a name of the local network."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".lan", ".localhost"))


def _check_files(source: str) -> None:
    """Raise UsageError for a file, folder, pattern or list of files of which nothing can be read."""
    try:
        path = path_of(source, "source")
    except DataError as error:
        raise UsageError(f"{error}.") from error
    if "*" not in source and not path.exists():
        raise UsageError(f"source={shown(source)}: no such file or folder; give images, videos or a folder of them.")
    try:
        loader = LoadImagesAndVideos(source)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"source={shown(source)}: {one_line(error, 120)}; give images, videos or a folder of them."
        ) from error
    loader.close()
    if not any(loader.video_flag) and not any(read_image(file) is not None for file in loader.files):
        raise UsageError(f"source={shown(source)}: none of {len(loader.files)} images can be read; copy them again.")


class Pictures(LoadPilAndNumpy):
    """A source of pictures in memory, each taken, and predicted in, when it is its turn.

    Attributes:
        pictures: names, by which the results go, and images ``[height, width, channels]``, BGR.
        channels: of the network.
    """

    def __init__(self, pictures: Iterator[tuple[str, Any]]) -> None:
        self.pictures, self.channels = pictures, 3
        self.mode, self.bs, self.source_type = "image", 1, SourceTypes(from_img=True)

    def __len__(self) -> int:
        """Return 1: how many there are is not known."""
        return 1

    def __next__(self) -> tuple[list[str], list[Any], list[str]]:
        """Return the next picture as a batch."""
        name, image = next(self.pictures)
        return [name], [self._single_check(image, self.channels)], [""]


class CheckedSource:
    """A predictor that tells in one line of a source that does not open."""

    def setup_source(self, source: Any, *arguments: Any) -> None:
        """Open the source; detectors take a stride beside it, classifiers take none.

        Raises:
            UsageError: where it does not open.
        """
        if isinstance(source, Pictures):
            source.channels = getattr(self.model, "channels", 3)  # type: ignore[attr-defined]
        try:
            super().setup_source(source, *arguments)  # type: ignore[misc]  # of the predictor beside it
        except Exception as error:
            told = isinstance(error, REFUSALS) or type(error).__module__.partition(".")[0] in OPENERS
            of_user = isinstance(source, (str, Path, int, list, tuple)) or "Unsupported image type" in str(error)
            if not told or not of_user:
                raise
            raise UsageError(
                f"source={shown(source)}: cannot be opened ({one_line(error)}); give an image, a folder, a video, "
                "or a camera or stream that runs."
            ) from error


class VanillaDetectionPredictor(CheckedSource, VanillaPredictor):
    """Ultralytics' predictor of boxes; it decodes the maps of files that have no decode."""

    def setup_model(self, *arguments: Any, **settings: Any) -> None:
        """Open the network or file."""
        with own_runtimes(float32=False):
            super().setup_model(*arguments, **settings)


class VanillaSegmentationPredictor(VanillaDetectionPredictor, SegmentationPredictor):
    """Ultralytics' predictor of masks."""


class VanillaPosePredictor(VanillaDetectionPredictor, PosePredictor):
    """Ultralytics' predictor of key points."""


class VanillaOBBPredictor(VanillaDetectionPredictor, OBBPredictor):
    """Ultralytics' predictor of turned boxes."""


class VanillaClassificationPredictor(CheckedSource, ClassificationPredictor):
    """Ultralytics' predictor of classes."""
