"""Generated, labelled pictures that nobody owns.

``settings`` says what a set is; ``shapes`` and ``textures`` hold the formulas, ``atlas`` draws them once; ``layout``
decides what stands where, ``light`` what is behind and before it; ``scene`` paints, ``labels`` measures, ``writing``
writes.
"""

from vanillayolo.data.scenes.labels import Labels
from vanillayolo.data.scenes.scene import Scenes
from vanillayolo.data.scenes.settings import GENERATOR_VERSION, SceneSettings
from vanillayolo.data.scenes.writing import write_scenes

__all__ = [
    "GENERATOR_VERSION",
    "Labels",
    "SceneSettings",
    "Scenes",
    "write_scenes",
]
