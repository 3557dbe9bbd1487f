"""Without a network nothing waits: what Ultralytics would fetch for its plots is taken from what is installed."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from ultralytics.utils import ONLINE, USER_CONFIG_DIR, env_bool

FONTS = ("Arial.ttf", "Arial.Unicode.ttf")


def no_network() -> bool:
    """Return whether the user has said that there is none (``YOLO_OFFLINE=1``)."""
    return bool(env_bool("YOLO_OFFLINE"))


def place_fonts(online: bool = ONLINE, folder: Path = USER_CONFIG_DIR) -> None:
    """Give Ultralytics' plots a font when there is no network: matplotlib's own, under the names it looks for.

    Ultralytics asks a server for these files before its first plot, even with YOLO_OFFLINE set, and waits for the
    answer. Fonts already there are left alone.

    Args:
        online: whether Ultralytics found a network (``YOLO_OFFLINE=1`` says no).
        folder: Ultralytics' settings folder.
    """
    matplotlib = importlib.util.find_spec("matplotlib")
    if online or matplotlib is None or matplotlib.origin is None:
        return
    font = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    for name in FONTS:
        if font.is_file() and not (folder / name).exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(font, folder / name)
