"""Generated, labelled pictures that nobody owns: ``Scenes`` for training, five plain shapes for the demo and the tests.

``settings`` says what a set is; ``shapes`` and ``textures`` hold the formulas, ``atlas`` draws them once; ``layout``
decides what stands where, ``light`` what is behind and before it; ``scene`` paints, ``labels`` measures, ``writing``
writes. ``five_shapes`` and ``painting`` are the demo's.
"""

from vanillayolo.data.scenes.five_shapes import SHAPES, draw_scene, make_scenes
from vanillayolo.data.scenes.labels import Labels
from vanillayolo.data.scenes.scene import Scenes
from vanillayolo.data.scenes.settings import GENERATOR_VERSION, SceneSettings
from vanillayolo.data.scenes.writing import write_scenes

__all__ = [
    "GENERATOR_VERSION",
    "SHAPES",
    "Labels",
    "SceneSettings",
    "Scenes",
    "draw_scene",
    "make_scenes",
    "write_scenes",
]
