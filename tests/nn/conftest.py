from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from golden_cases import Golden
from safetensors.torch import load_file


@pytest.fixture(params=["plain_act3", "stride1_act4", "ada_pool"])
def golden(request: pytest.FixtureRequest, shared_file: Callable[[str], Path]) -> Golden:
    """Every golden case in turn."""
    settings = json.loads(shared_file("golden/cases.json").read_text())[request.param]
    return Golden(settings, load_file(shared_file(f"golden/{request.param}.safetensors")))
