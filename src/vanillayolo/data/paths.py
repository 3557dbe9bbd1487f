"""Where images, their labels and our caches live on disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

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


@contextlib.contextmanager
def staged_folder(final: Path, ours: Collection[str]) -> Iterator[Path]:
    """Give an empty sibling of ``final`` to write into and rename it to ``final`` when the block succeeds.

    Args:
        final: Folder that shall exist afterwards, whole. Missing parents are made.
        ours: Names that a folder of this kind holds. An existing ``final`` is replaced only if it holds nothing else.

    Yields:
        The folder to write into; removed again when the block raises.

    Raises:
        DataError: If ``final`` holds files that are not ours, or cannot be written.
    """
    _refuse_foreign(final, ours)
    stage = final.with_name(f".{final.name}-{uuid.uuid4().hex[:12]}")
    try:
        stage.mkdir(parents=True)
    except OSError as error:
        raise DataError(
            f"cannot write to {final.parent} ({error.strerror}); choose another folder (caches: ${CACHE_VARIABLE})"
        ) from error
    try:
        yield stage
        _swap_in(stage, final)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _refuse_foreign(final: Path, ours: Collection[str]) -> None:
    if not final.exists():
        return
    if not final.is_dir():
        raise DataError(f"{final} is a file where a folder is to be written; choose another folder")
    foreign = sorted(entry.name for entry in final.iterdir() if entry.name not in ours)
    if foreign:
        raise DataError(f"{final} already holds other files ({', '.join(foreign[:3])}); choose a new or empty folder")


def _swap_in(stage: Path, final: Path) -> None:
    # A folder can be renamed onto nothing but an empty folder (not even that on Windows), so the old one steps aside.
    old = final.with_name(f"{stage.name}-old")
    with contextlib.suppress(FileNotFoundError):
        final.rename(old)
    try:
        stage.rename(final)
    except OSError:
        if old.exists() and not final.exists():
            old.rename(final)
        # Another process may have finished the same work first; whatever stands there is whole.
        if not final.is_dir():
            raise
    shutil.rmtree(old, ignore_errors=True)


def write_text_whole(path: Path, text: str) -> None:
    """Write a UTF-8 text file by way of a temporary sibling, so a reader never sees half of it.

    Raises:
        DataError: If the folder cannot be written.
    """
    stage = path.with_name(f".{path.name}-{uuid.uuid4().hex[:12]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stage.write_text(text, encoding="utf-8", newline="\n")
        stage.replace(path)
    except OSError as error:
        raise DataError(
            f"cannot write {path} ({error.strerror}); set ${CACHE_VARIABLE} to a folder that can be written"
        ) from error
    finally:
        stage.unlink(missing_ok=True)
