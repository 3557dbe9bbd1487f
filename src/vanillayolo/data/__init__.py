"""Data that goes into training: generated scenes, COCO JSON input and dataset checks.

The modules here import neither torch nor Ultralytics.
"""

from .checks import check_data
from .coco_json import convert_coco
from .crops import make_crops
from .folders import check_folders
from .paths import cache_dir
from .scenes import GENERATOR_VERSION, Scenes, SceneSettings, write_scenes

__all__ = [
    "GENERATOR_VERSION",
    "SceneSettings",
    "Scenes",
    "cache_dir",
    "check_data",
    "check_folders",
    "convert_coco",
    "make_crops",
    "write_scenes",
]
