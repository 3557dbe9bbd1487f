from __future__ import annotations

from collections.abc import Callable

import pytest

from vanillayolo.data import Scenes, SceneSettings
from vanillayolo.data.scenes.atlas import Atlas, draw_atlas


@pytest.fixture(scope="session")
def atlas() -> Atlas:
    """The atlas of 20 classes; drawing it is what costs."""
    return draw_atlas(SceneSettings(size=128, classes=20))


@pytest.fixture(scope="session")
def scenes_of(atlas: Atlas) -> Callable[..., Scenes]:
    """Return a maker of small scenes of a task: ``scenes_of("pose", seed=1)``."""

    def make(task: str, **changes: int) -> Scenes:
        made = {"size": 128, "pictures": 1_000_000, "classes": 20, **changes}
        return Scenes(SceneSettings(task=task, **made), atlas)

    return make
