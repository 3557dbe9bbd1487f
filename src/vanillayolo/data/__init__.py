"""Data that goes into training: generated scenes, COCO JSON input and dataset checks.

The modules here import neither torch nor Ultralytics.
"""

from .checks import check_data
from .coco_json import convert_coco
from .crops import make_crops
from .folders import check_folders
from .paths import cache_dir
from .scenes import SHAPES, Scenes, SceneSettings, draw_scene, make_scenes, write_scenes

__all__ = [
    "SHAPES",
    "SceneSettings",
    "Scenes",
    "cache_dir",
    "check_data",
    "check_folders",
    "convert_coco",
    "draw_scene",
    "make_crops",
    "make_scenes",
    "write_scenes",
]
