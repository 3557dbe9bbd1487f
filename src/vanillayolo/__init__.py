"""VanillaYOLO: YOLO11 detectors with a VanillaNet backbone. Train deep, ship shallow.

``from vanillayolo import VanillaYOLO`` is used as ``ultralytics.YOLO``. Importing the package registers the networks
``vanillanet_5`` to ``vanillanet_13_x1_5_ada_pool`` with timm, its checkpoint classes with torch's restricted loading.
"""

import importlib
from typing import Any

from . import environment, errors  # the environment first: what follows changes it
from .environment import AS_COMMAND, __version__
from .errors import VanillaYOLOError

if not AS_COMMAND:  # a help text needs neither torch nor Ultralytics, which take seconds
    from . import nn
    from .interface import VanillaYOLO
    from .yolo import VanillaDetectionModel, VanillaTrainer

__all__ = [
    "VanillaDetectionModel",
    "VanillaTrainer",
    "VanillaYOLO",
    "VanillaYOLOError",
    "__version__",
    "environment",
    "errors",
    "nn",
]


def __getattr__(name: str) -> Any:
    """Import what the command line leaves for later."""
    if name == "nn":
        return importlib.import_module(".nn", __name__)
    homes = {"VanillaYOLO": ".interface", "VanillaDetectionModel": ".yolo", "VanillaTrainer": ".yolo"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(homes[name], __name__), name)
