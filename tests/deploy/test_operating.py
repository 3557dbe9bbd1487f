"""The threshold of a file whose scores are shifted is shifted alike."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vanillayolo.deploy import operating
from vanillayolo.deploy.operating import operating_point
from vanillayolo.yolo.outputs import Outputs
from vanillayolo.yolo.tasks import TASKS


def raw_of(scores: torch.Tensor) -> torch.Tensor:
    """Raw output ``[1, 4 + 1, n]`` of boxes apart from each other."""
    places = torch.arange(len(scores)) * 20.0 + 10
    boxes = torch.stack([places, torch.full_like(places, 50), *[torch.full_like(places, 10)] * 2])
    return torch.cat([boxes, scores[None]])[None]


def test_the_threshold_follows_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.linspace(0.06, 0.9, 60)
    monkeypatch.setattr(operating, "raw_outputs", lambda network, x: Outputs(raw_of(scores)))

    def file(given: torch.Tensor) -> Any:
        return SimpleNamespace(tensors=lambda x: [raw_of(given)])

    network: Any = None
    found = operating_point(file(scores - 0.04), network, [torch.zeros(1)] * 2)
    assert found is not None
    sure = int((scores >= 0.25).sum())
    assert found.boxes == 2 * sure
    assert found.shift == pytest.approx(-0.04, abs=1e-6)
    assert found.found == pytest.approx(int((scores >= 0.29).sum()) / sure)
    assert 0.2 < found.conf < 0.25
    assert found.kept == 1.0
    assert "predict uses" in str(found)
    lost = operating_point(file(torch.zeros(60)), network, [torch.zeros(1)])
    assert lost is not None
    assert (lost.kept, lost.conf) == (0.0, operating.LEAST)
    scores = torch.linspace(0.3, 0.9, 10)
    assert operating_point(file(scores), network, [torch.zeros(1)]) is None  # too few to say


def test_a_key_point_is_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = torch.cat([raw_of(torch.linspace(0.3, 0.9, 30)), torch.full((1, 6, 30), 50.0)], 1)
    monkeypatch.setattr(operating, "raw_outputs", lambda network, x: Outputs(raw, (), TASKS["pose"], 1, True))
    given: Any = SimpleNamespace(tensors=lambda x: [raw])
    found = operating_point(given, None, [torch.zeros(1)])  # type: ignore[arg-type]
    assert found is not None
    assert (found.boxes, found.shift, found.kept) == (30, 0.0, 1.0)
