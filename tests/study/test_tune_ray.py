"""The search on a cluster of Ray's: two nodes on this machine, a worker killed, the command killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from two_nodes import two_nodes
from vanillayolo.errors import UsageError
from vanillayolo.study.tune import tune

TRIALS = 3


def test_without_ray_it_is_one_line_and_no_folder(
    small_model: Path, tested_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="engine=ray needs ray"):
        tune(str(small_model), tested_scenes, folder=tmp_path / "runs", engine="ray")
    with pytest.raises(UsageError, match="engine='rya': did you mean ray"):
        tune(str(small_model), tested_scenes, folder=tmp_path / "runs", engine="rya")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow  # a cluster whose two workers train
@pytest.mark.timeout(1800)
def test_a_killed_worker_and_a_killed_command_lose_nothing(
    small_model: Path, tested_scenes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="needs ray: pip install 'vanillayolo[ray]'")
    root = tmp_path / "runs"
    given = {"model": small_model, "data": tested_scenes, "folder": root, "trials": TRIALS, "engine": "ray"}
    given |= {"epochs": 4, "imgsz": 64, "batch": 4, "nbs": 4, "rounds": 2, "workers": 0}
    command = [sys.executable, "-m", "vanillayolo", "tune", *(f"{key}={value}" for key, value in given.items())]
    with two_nodes(1) as environment:
        first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            killed, *_ = until(lambda: [*root.glob("trial*/weights/last.pt")] and at_work(), first)
            killed.kill()
            until(lambda: [*root.glob("trial*/record.json")], first)
        finally:
            first.send_signal(signal.SIGKILL)
        first.communicate()
        seconds = {file: json.loads(file.read_text())["training_seconds"] for file in root.glob("trial*/record.json")}
        until(lambda: not at_work())
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-2000:]
    assert not killed.is_running()
    assert seconds.items() <= {f: json.loads(f.read_text())["training_seconds"] for f in seconds}.items()
    record = json.loads((root / "tune.json").read_text())
    assert [row["fate"] for row in record["trials"]] == ["trained"] * TRIALS
    assert record["best"] in record["frontier"]
    for number in range(TRIALS):
        assert len((root / f"trial{number:03}" / "results.csv").read_text().splitlines()) == 1 + 4  # no epoch twice


def at_work() -> list[psutil.Process]:
    """The workers that train: Ray names a process by its task."""
    return [p for p in psutil.process_iter(["cmdline"]) if "ray::train_on_machine" in " ".join(p.info["cmdline"] or [])]


def until(answer: Callable[[], Any], command: subprocess.Popen[str] | None = None, seconds: float = 700) -> Any:
    end = time.monotonic() + seconds
    while not (found := answer()):
        assert command is None or command.poll() is None, command and command.communicate()
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.2)
    return found
