"""The installed script, run as users run it: in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Script = Callable[[Sequence[str], Path], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def script() -> Script:
    """``script(words, folder)``: run the environment's own ``vanillayolo`` in a folder; it has to end with code 0."""
    found = shutil.which("vanillayolo", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.fail(f"no script vanillayolo beside {sys.executable}: install the package there (pip install -e .)")

    def run(words: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([found, *words], cwd=folder, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"vanillayolo {' '.join(words)}:\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
        return done

    return run
