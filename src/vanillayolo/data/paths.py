"""Where images, their labels and our caches live on disk."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from vanillayolo.atomic import whole_set
from vanillayolo.errors import DataError

IMAGE_SUFFIXES = (
    "avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"
)  # fmt: skip
"""Suffixes, in lower case and without the dot, that Ultralytics reads as images."""

CACHE_VARIABLE = "VANILLAYOLO_CACHE"


def is_image_name(name: str) -> bool:
    """Tell whether a file name ends in one of ``IMAGE_SUFFIXES``, in any case."""
    return name.rpartition(".")[-1].lower() in IMAGE_SUFFIXES


def label_path(image: str | Path) -> Path:
    """Return where Ultralytics looks for the labels of an image.

    The last folder called ``images`` becomes ``labels`` and the suffix becomes ``.txt``; without such a folder the
    labels stand beside the image.
    """
    before, found, after = os.fspath(image).rpartition(f"{os.sep}images{os.sep}")
    moved = f"{before}{os.sep}labels{os.sep}{after}" if found else after
    return Path(moved.rsplit(".", 1)[0] + ".txt")


def cache_dir() -> Path:
    """Return the folder for what can be computed again: ``$VANILLAYOLO_CACHE``, else the platform's cache folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser().absolute()
    home = Path.home()
    # sys.platform compared through a variable: mypy would call the branches of other systems unreachable
    platform: str = sys.platform
    if platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "vanillayolo" / "Cache"
    if platform == "darwin":
        return home / "Library" / "Caches" / "vanillayolo"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "vanillayolo"


#: What to do where a cache cannot be written.
CACHE_HINT = f"make room there, or choose another folder (caches: ${CACHE_VARIABLE})"


@contextlib.contextmanager
def staged_folder(final: Path, ours: Collection[str]) -> Iterator[Path]:
    """Give an empty folder to write into, which becomes ``final`` when the block succeeds.

    Args:
        final: Folder that shall exist afterwards, whole. Missing parents are made.
        ours: Names that a folder of this kind holds. An existing ``final`` is replaced only if it holds nothing else.

    Raises:
        DataError: If ``final`` holds files that are not ours.
        WriteError: If it cannot be written.
    """
    if final.exists() and not final.is_dir():
        raise DataError(f"{final} is a file where a folder is to be written; choose another folder")
    foreign = sorted(entry.name for entry in final.iterdir() if entry.name not in ours) if final.exists() else []
    if foreign:
        raise DataError(f"{final} already holds other files ({', '.join(foreign[:3])}); choose a new or empty folder")
    with whole_set(final, durable=False, hint=CACHE_HINT) as stage:  # it can be made again
        (stage / final.name).mkdir()
        yield stage / final.name
