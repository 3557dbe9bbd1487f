"""Prediction on a cluster of Ray's: two nodes on this machine, and a worker killed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from two_nodes import two_nodes
from vanillayolo.bulk import predict_all
from vanillayolo.cluster import connected
from vanillayolo.errors import UsageError
from vanillayolo.machines import make_on_machine

pq = pytest.importorskip("pyarrow.parquet")
MODEL = Path(__file__).parent / "assets/0.1.0/detector.pt"
PICTURES = 64 * 11 + 3


def test_without_ray_it_is_one_line_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"engine=ray needs ray; run: pip install 'vanillayolo\[ray\]'"):
        predict_all(str(MODEL), tmp_path, str(tmp_path / "out"), 1, {}, "ray")
    with pytest.raises(UsageError, match="engine='rya': did you mean ray"):
        predict_all(str(MODEL), tmp_path, str(tmp_path / "out"), 1, {}, "rya")
    assert not (tmp_path / "out").exists()


def test_a_machine_that_sees_other_folders_says_so(tmp_path: Path) -> None:
    def make(picture: Path) -> None:
        make_on_machine(tmp_path / "out/shards/part-0000000.parquet", [(str(picture), None)], "x", {}, str(tmp_path))

    with pytest.raises(UsageError, match=r"job.json: is not there on .*; give folders that all machines see"):
        make(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/job.json").touch()
    with pytest.raises(UsageError, match=r"/elsewhere: is not there on"):
        make(tmp_path / "elsewhere/a.png")


def test_an_address_that_nobody_answers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free.getsockname()[1]}")
    with pytest.raises(UsageError, match=r"RAY_ADDRESS=127.0.0.1:\d+: no cluster answers there .*refused"), connected():
        pass


@pytest.mark.slow  # a cluster whose four workers import torch
@pytest.mark.timeout(1200)
def test_a_killed_worker_of_four_loses_and_doubles_no_picture(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs ray: pip install 'vanillayolo[ray]'")
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    cv2.imwrite(str(source / "0.png"), np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    (source / "broken.jpg").write_bytes(b"none")
    for number in range(2, PICTURES):
        os.link(source / "0.png", source / f"{number}.png")
    words = [f"model={MODEL}", f"source={source}", f"output={out}", "imgsz=64", "conf=0.001", "engine=ray"]
    command = [sys.executable, "-m", "vanillayolo", "predict", *words]
    seen: set[psutil.Process] = set()
    with two_nodes(2) as environment:
        run = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            end = time.monotonic() + 700
            while not (len(seen) >= 4 and shards(out) and at_work()):
                assert run.poll() is None, run.communicate()
                assert time.monotonic() < end, "four workers and a shard did not come"
                seen |= at_work()
                time.sleep(0.2)
            killed = min(at_work(), key=lambda process: process.pid)
            killed.kill()
            said, errors = run.communicate(timeout=300)
            assert run.returncode == 0, errors
        finally:
            run.kill()
    assert not killed.is_running()
    names = [row["picture"] for file in shards(out) for row in pq.read_table(file).to_pylist()]
    assert len(names) == len(set(names)) == PICTURES
    assert (out / "unreadable.txt").read_text().split() == [str(source / "broken.jpg")]
    coco = json.loads((out / "coco.json").read_text())
    assert len(coco["images"]) == PICTURES
    assert coco["annotations"]
    assert f"{PICTURES} pictures, 1 unreadable" in said


def shards(out: Path) -> list[Path]:
    return sorted(out.glob("shards/part-*.parquet"))


def at_work() -> set[psutil.Process]:
    """The workers that make a shard: Ray names a process by its task."""
    return {p for p in psutil.process_iter(["cmdline"]) if "ray::make_on_machine" in " ".join(p.info["cmdline"] or [])}
