from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from ultralytics.utils import torch_utils

from vanillayolo import VanillaYOLO, environment
from vanillayolo.yolo import threads
from vanillayolo.yolo.threads import State, available_cores, cgroup_cores, use_free_cores, wanted


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    """Threads as in a process whose user has said nothing, on a machine of two idle cores, looked at always."""
    before, theirs = torch.get_num_threads(), torch_utils.NUM_THREADS
    torch.set_num_threads(2)
    fresh = State(None, 2, 2, (0.0, 0.0, 0.0))
    monkeypatch.setattr(threads, "STATE", fresh)
    monkeypatch.setattr(threads, "INTERVAL", 0.0)
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    monkeypatch.setattr(threads, "look", clock())
    yield fresh
    torch.set_num_threads(before)
    torch_utils.NUM_THREADS = theirs


def clock(others: float = 0.0) -> Any:
    """A machine, seen every second, on which others keep so many cores busy; ours does all else."""
    seen = [threads.STATE.seen]

    def look() -> tuple[float, float, float]:
        now, busy, own = seen[0]
        seen[0] = (now + 1.0, busy + 2.0 + others, own + 2.0)
        return seen[0]

    return look


# ---------------------------------------------------------------------------------------------------------------------
# How many


@pytest.mark.parametrize(
    ("now", "others", "cores", "then"),
    [
        (2, 0.0, 2, 2),  # idle
        (2, 0.4, 2, 2),  # a browser
        (2, 0.67, 2, 1),  # what a busy process gets beside our two threads
        (1, 1.0, 2, 1),
        (1, 0.3, 2, 1),  # back only where nearly a whole core is free
        (1, 0.2, 2, 2),
        (2, 1.3, 2, 1),  # two busy processes
        (1, 5.0, 2, 1),  # never none
        (16, 1.0, 16, 15),
        (15, 1.0, 16, 15),
        (15, 0.0, 16, 16),
        (16, 8.2, 16, 8),
        (4, 0.0, 2, 2),
    ],
)
def test_threads_are_as_many_as_cores_that_are_free(now: int, others: float, cores: int, then: int) -> None:
    assert wanted(now, others, cores) == then
    assert wanted(then, others, cores) == then  # it rests


def test_the_number_follows_the_machine(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    for others, number in ((0.0, 2), (1.0, 1), (3.0, 1), (0.0, 2)):
        state.seen = (0.0, 0.0, 0.0)
        monkeypatch.setattr(threads, "look", clock(others))
        use_free_cores()
        assert torch.get_num_threads() == torch_utils.NUM_THREADS == number


def test_between_two_looks_nothing_changes(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "INTERVAL", math.inf)
    monkeypatch.setattr(threads, "look", clock(3.0))
    use_free_cores()
    assert torch.get_num_threads() == 2


def test_our_own_computing_is_not_taken_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real look: a second of counting here is this process' own."""
    before = threads.look()
    while threads.look()[2] - before[2] < 0.3:
        pass
    seconds, busy, own = (now - then for now, then in zip(threads.look(), before, strict=True))
    assert own >= 0.3
    assert seconds >= own * 0.9
    assert busy > own - 0.1  # the kernel counts in hundredths of a second, core by core


# ---------------------------------------------------------------------------------------------------------------------
# The user's own number


def test_what_the_user_gives_to_torch_holds_at_every_call(state: State, lively: Path) -> None:
    model, image = VanillaYOLO(lively), np.zeros((64, 64, 3), np.uint8)
    seen: list[int] = []
    model.add_callback("on_predict_batch_start", lambda _: seen.append(torch.get_num_threads()))
    torch.set_num_threads(1)
    for _ in range(2):
        model.predict(image, imgsz=64, verbose=False)
    torch.set_num_threads(2)
    model.predict(image, imgsz=64, verbose=False)
    assert seen == [1, 1, 2]
    assert torch.get_num_threads() == 2


def test_without_a_choice_predict_uses_what_is_free(
    state: State, lively: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "look", clock(1.0))
    model, image = VanillaYOLO(lively), np.zeros((64, 64, 3), np.uint8)
    for _ in range(2):  # what Ultralytics sets while choosing the device is not taken for the user's
        model.predict(image, imgsz=64, verbose=False)
        assert torch.get_num_threads() == 1
    assert state.limit is None


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("4", 4), ("3,2", 3), (" 2 ", 2), ("", None), ("0", None), ("-1", None), ("all", None)],
)
def test_the_environments_number_is_the_users(monkeypatch: pytest.MonkeyPatch, text: str, number: int | None) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    monkeypatch.delitem(sys.modules, "ultralytics")
    monkeypatch.delitem(sys.modules, "torch")
    assert environment.chosen_threads() == number


def test_what_torch_was_given_before_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delitem(sys.modules, "ultralytics")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1000)
    assert environment.chosen_threads() == 1000
    monkeypatch.setattr(torch, "get_num_threads", lambda: psutil.cpu_count())
    assert environment.chosen_threads() is None


def test_ultralytics_own_number_is_not_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it was imported first, what the process was started with tells the two apart."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "ultralytics" in sys.modules
    monkeypatch.setattr(environment, "first_environment", dict)
    assert environment.chosen_threads() is None
    monkeypatch.setattr(environment, "first_environment", lambda: {"OMP_NUM_THREADS": "1"})
    assert environment.chosen_threads() == 1


def test_the_environment_at_the_start_is_read() -> None:
    code = "import os; os.environ['A']='2'; from importlib import util as u; s=u.spec_from_file_location('e', {!r}); "
    code += "m=u.module_from_spec(s); s.loader.exec_module(m); print(m.first_environment().get('A'))"
    done = subprocess.run(
        [sys.executable, "-c", code.format(environment.__file__)], env={"A": "1"}, capture_output=True, text=True
    )
    assert done.stdout.strip() == ("1" if Path("/proc/self/environ").exists() else "None")


# ---------------------------------------------------------------------------------------------------------------------
# A container's share


V1 = {"quota": "300000\n", "period": "100000\n"}


def cgroup(root: Path, lines: str, files: dict[str, str]) -> float:
    """Return the share that a made-up system allows."""
    for name, text in {"proc/self/cgroup": lines, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return cgroup_cores(root)


@pytest.mark.parametrize(
    ("lines", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),  # version 2, seen from inside the container
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2.0),  # the parent's counts
        ("0::/a/b\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("3:cpu,cpuacct:/\n1:pids:/\n", {f"cpu,cpuacct/cpu.cfs_{k}_us": v for k, v in V1.items()}, 3.0),
        ("3:cpu:/x\n", {f"cpu/x/cpu.cfs_{k}_us": v for k, v in {**V1, "quota": "-1"}.items()}, math.inf),
        ("nonsense\n", {"cpu.max": "1\n"}, math.inf),
    ],
)  # fmt: skip
def test_a_containers_share_is_read(tmp_path: Path, lines: str, files: dict[str, str], cores: float) -> None:
    assert cgroup(tmp_path, lines, files) == cores


def test_a_share_below_the_cores_counts_and_one_core_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cgroup_cores(Path("/nowhere")) == math.inf
    monkeypatch.setattr(threads, "own_cores", lambda: [0, 1, 2, 3])
    for share, cores in ((math.inf, 4), (2.9, 2), (0.5, 1)):
        monkeypatch.setattr(threads, "cgroup_cores", lambda share=share: share)
        assert available_cores() == cores
