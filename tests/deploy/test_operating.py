"""The threshold of a file whose scores are shifted is shifted alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vanillayolo.deploy import operating
from vanillayolo.deploy.operating import operating_point


def raw_of(scores: torch.Tensor) -> torch.Tensor:
    """Raw output ``[1, 4 + 1, n]`` of boxes apart from each other."""
    places = torch.arange(len(scores)) * 20.0 + 10
    boxes = torch.stack([places, torch.full_like(places, 50), *[torch.full_like(places, 10)] * 2])
    return torch.cat([boxes, scores[None]])[None]


def test_the_threshold_follows_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.linspace(0.06, 0.9, 60)
    monkeypatch.setattr(operating, "raw_output", lambda network, x: raw_of(scores))

    def file(x: torch.Tensor) -> torch.Tensor:
        return raw_of(scores - 0.04)

    network: Any = None
    given: Any = file
    found = operating_point(given, network, [torch.zeros(1)] * 2)
    assert found is not None
    sure = int((scores >= 0.25).sum())
    assert found.boxes == 2 * sure
    assert found.shift == pytest.approx(-0.04, abs=1e-6)
    assert found.found == pytest.approx(int((scores >= 0.29).sum()) / sure)
    assert 0.2 < found.conf < 0.25
    assert found.kept == 1.0
    assert "predict uses" in str(found)
    given = lambda x: raw_of(torch.zeros(60))  # noqa: E731  # it finds nothing
    lost = operating_point(given, network, [torch.zeros(1)])
    assert lost is not None
    assert (lost.kept, lost.conf) == (0.0, operating.LEAST)
    scores = torch.linspace(0.3, 0.9, 10)
    assert operating_point(file, network, [torch.zeros(1)]) is None  # type: ignore[arg-type]  # too few to say
