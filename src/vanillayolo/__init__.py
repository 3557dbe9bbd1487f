"""VanillaYOLO: YOLO11 detectors with a VanillaNet backbone. Train deep, ship shallow.

``from vanillayolo import VanillaYOLO`` is used as ``ultralytics.YOLO``. Importing the package registers the networks
``vanillanet_5`` to ``vanillanet_13_x1_5_ada_pool`` with timm, its checkpoint classes with torch's restricted loading.
"""

from . import environment, errors, nn  # the environment first: what follows changes it
from .environment import __version__
from .errors import VanillaYOLOError
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
