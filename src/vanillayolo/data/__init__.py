"""Data that goes into training: generated scenes, COCO JSON input and dataset checks.

The modules here import neither torch nor Ultralytics.
"""

from vanillayolo.data.checks import check_data
from vanillayolo.data.coco_json import convert_coco
from vanillayolo.data.crops import make_crops
from vanillayolo.data.folders import check_folders
from vanillayolo.data.paths import cache_dir
from vanillayolo.data.scenes import SHAPES, Scenes, SceneSettings, draw_scene, make_scenes, write_scenes

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
