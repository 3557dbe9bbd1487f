"""Work on a cluster of Ray's: tasks that are begun anew when a worker, or its machine, is lost.

Tasks and not Ray Data or Ray Tune: what is done lies in files that take their names when they are whole, and a task
that finds its file has nothing to do. So nothing is lost or doubled, whoever makes a file and however often, and what a
killed command left is gone on with by the next one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import socket
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from .errors import UsageError, one_line

#: Seconds that a cluster has to answer.
PATIENCE = 10.0

K = TypeVar("K")
V = TypeVar("V")


def check_ray() -> None:
    """Raise UsageError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError("engine=ray needs ray; run: pip install 'vanillayolo[ray]'")


def check_seen(*places: str | Path) -> None:
    """Raise UsageError where this machine does not see a file or folder that it shares with the others."""
    if missing := [place for place in places if not os.path.exists(place)]:
        raise UsageError(f"{missing[0]}: is not there on {platform.node()}; give folders that all machines see.")


@contextlib.contextmanager
def connected() -> Iterator[Any]:
    """Give Ray, on the cluster of ``RAY_ADDRESS``, else on the one of this machine, else on one that ends with us.

    Raises:
        UsageError: where no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        if port.isdigit():  # Ray itself would ask a closed port for minutes
            socket.create_connection((host, int(port)), PATIENCE).close()
        import ray

        ours = not ray.is_initialized()
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
    except (OSError, RuntimeError) as error:  # Ray's own word for one that does not let us in is a ConnectionError
        raise UsageError(
            f"engine=ray, RAY_ADDRESS={address}: no cluster answers there ({one_line(error)}); "
            "see that it runs and that RAY_AUTH_MODE is the same here and there, or leave RAY_ADDRESS out."
        ) from error
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def on_cluster(
    function: Callable[..., V],
    work: Iterator[tuple[K, tuple[Any, ...]]],
    tries: int,
    most: int | None = None,
    ahead: int = 1,
    gpus: bool = False,
) -> Iterator[tuple[K, V | None, str]]:
    """Call a function on the cluster, with one core for each call, and yield what comes of the calls as they end.

    Args:
        function: of a module, so that workers find it.
        work: a key and the arguments of every call; never more of it is taken than there are calls under way.
        tries: how often a call is begun whose worker ends.
        most: calls under way; ``ahead`` for each core where not given, cores that come later too.
        ahead: calls for each core, so that none waits for the next one.
        gpus: give every call a GPU, and count GPUs instead of cores, where the cluster has any.

    Yields:
        The key, what the function returned, and nothing; or, where every worker ended, the key, None and how.

    Raises:
        UsageError: where no cluster answers.
        Exception: what the function raises.
    """
    with connected() as ray:
        has: dict[str, float] = ray.cluster_resources()
        unit = "GPU" if gpus and has.get("GPU", 0) >= 1 else "CPU"
        call = ray.remote(num_cpus=1, num_gpus=int(unit == "GPU"), max_retries=tries - 1)(_call)
        under_way: dict[Any, K] = {}
        while True:
            free = most or ahead * max(1, int(ray.cluster_resources().get(unit, 1)))
            for key, arguments in islice(work, max(0, free - len(under_way))):
                named = call.options(name=function.__name__)
                under_way[named.remote(function, arguments, os.getcwd())] = key
            if not under_way:
                return
            (done,), _ = ray.wait([*under_way])
            key, result, lost = under_way.pop(done), None, ""
            try:
                result = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                lost = f"its worker ended {tries} times ({one_line(error)})"
            yield key, result, lost


def _call(function: Callable[..., V], arguments: tuple[Any, ...], here: str) -> V:
    with contextlib.suppress(FileNotFoundError):  # a machine without this folder is given absolute paths
        os.chdir(here)
    return function(*arguments)
