"""The second process in a folder is refused while the first lives, however the first ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vanillayolo import locks
from vanillayolo.errors import UsageError

HOLD = """
import sys, time, types
from pathlib import Path
sys.modules["vanillayolo"] = types.ModuleType("vanillayolo")  # without what it imports, which takes seconds
sys.modules["vanillayolo"].__path__ = [sys.argv[2]]
from vanillayolo import locks
{before}
locks.take(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""
PACKAGE = str(Path(locks.__file__).parent)
FORKED = "import os\nlocks.take(Path(sys.argv[1]))\nif os.fork() == 0: time.sleep(3); os._exit(0)"


def hold(folder: Path, before: str = "") -> subprocess.Popen[str]:
    """A process that has the folder."""
    script = HOLD.format(before=before)
    process = subprocess.Popen([sys.executable, "-c", script, str(folder), PACKAGE], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("before", ["", FORKED], ids=["alone", "with a forked child that outlives it"])
def test_refused_while_the_first_lives_and_not_after_it_was_killed(tmp_path: Path, before: str) -> None:
    first = hold(tmp_path, before)
    try:
        with pytest.raises(
            UsageError, match=rf"another training writes there \(process {first.pid} on .* since .*name="
        ):
            locks.take(tmp_path)
    finally:
        first.kill()
        first.wait()
    locks.take(tmp_path)
    locks.take(tmp_path)  # this process has it already
    locks.give(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_processes_of_one_training_share_its_folder(tmp_path: Path) -> None:
    locks.take(tmp_path)
    child = hold(tmp_path)
    child.kill()
    child.wait()
    assert (tmp_path / locks.NAME).read_text().startswith(f"{os.getpid()} on ")
    locks.give(tmp_path)
