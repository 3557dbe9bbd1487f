"""A cluster of Ray's for tests: a head and a second node on this machine, which end with the block."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator

import psutil
import pytest

#: A raylet ends itself where its helper has not imported within 15 s, which no key lengthens (ray issue 65983).
TRIES = 3


@contextlib.contextmanager
def two_nodes(cores: int) -> Iterator[dict[str, str]]:
    """Start two nodes of so many cores each; give the environment in which a command is on the cluster."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder = tempfile.mkdtemp(prefix="ray-")  # below tmp_path the names of its sockets would be too long
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "90"}
    # Without a mode a head asks for a token where the user has one, and a second node gives none.
    environment["RAY_worker_niceness"] = "0"  # else 15, beside other work next to nothing
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}
    words = ["--block", f"--num-cpus={cores}", "--num-gpus=0", "--object-store-memory=80000000"]
    words += ["--node-ip-address=127.0.0.1", "--include-log-monitor=false"]
    head = ["--head", f"--port={address.partition(':')[2]}", f"--temp-dir={folder}"]
    head += ["--include-dashboard=false", "--no-monitor"]
    nodes: list[psutil.Popen] = []
    try:
        for own in (head, [f"--address={address}"]):
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", *own, *words]
            if not any(_starts(nodes, command, environment) for _ in range(TRIES)):
                pytest.skip(f"needs a machine on which Ray starts: {TRIES} nodes ended at once, see TRIES")
        yield {**environment, "RAY_ADDRESS": address}
    finally:
        processes = [process for node in nodes for process in _family(node)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, 30)
        shutil.rmtree(folder, ignore_errors=True)
        alive = [process for process in processes if process.is_running() and process.status() != "zombie"]
        assert not alive, alive


def _starts(nodes: list[psutil.Popen], command: list[str], environment: dict[str, str]) -> bool:
    """Start a node and return whether it says so; one that does not has ended."""
    nodes.append(psutil.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
    return any("runtime started" in line for line in nodes[-1].stdout)


def _family(node: psutil.Popen) -> list[psutil.Process]:
    try:
        return [*node.children(recursive=True), psutil.Process(node.pid)]
    except psutil.NoSuchProcess:
        return []
