"""What a command does as one of several processes that a launcher (torchrun) started: share the work, or refuse."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from .errors import UsageError

#: Commands that each process may run: training is shared, the others print.
SHARED = {"train", "info", "yaml", "checks", "cfg", "version", "completion"}
#: Seconds without any new file after which process 0 does what a lost process left.
PATIENCE = 600.0
#: How long processes wait for process 0, which lists the pictures.
START = timedelta(hours=3)


def number_of(name: str, otherwise: int) -> int:
    """Return what a launcher has written into the environment: RANK, WORLD_SIZE, LOCAL_WORLD_SIZE."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else otherwise


def check_alone(command: str, settings: dict[str, Any]) -> None:
    """Raise UsageError where each of several processes would do the whole of a command.

    Under torchrun process 0 says so; the others end and leave it to that.
    """
    size = number_of("WORLD_SIZE", 1)
    shares = settings.get("output") is not None and {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    if size < 2 or command in SHARED or (command == "predict" and shares):
        return
    if number_of("RANK", 0) and "TORCHELASTIC_RUN_ID" in os.environ:
        raise SystemExit(0)
    hint = "give output=FOLDER, which shares the pictures, or " if command == "predict" else ""
    raise UsageError(
        f"{command}: is for one process, and WORLD_SIZE={size} says that a launcher started several; {hint}run it "
        "without the launcher (env -u WORLD_SIZE, where it is left over)."
    )


class Together:
    """The processes that share a prediction, by what torch's launcher gives them; or one process alone."""

    def __init__(self) -> None:
        self.size = number_of("WORLD_SIZE", 1)
        self.store: Any = None
        self.rank = number_of("RANK", 0) if self.size > 1 else 0
        if self.size > 1:
            from torch import distributed as dist

            self.store = next(dist.rendezvous("env://", timeout=START))[0]
        if self.rank:
            self.store.wait(["begun"], START)

    def numbers(self) -> Iterator[int]:
        """Let the others begin, and yield the numbers of what is this process' to make: they go to who asks first."""
        if self.store is None:
            return itertools.count()
        self.store.set("begun", "")
        return iter(lambda: self.store.add("next", 1) - 1, None)

    def end(self, folder: Path) -> bool:
        """Return true once all have ended, false where nothing has come into the folder for long; process 0 waits."""
        if self.store is None:
            return True
        self.store.set(f"end {self.rank}", "")
        there, since = -1, 0.0
        while not self.rank and not self.store.check([f"end {number}" for number in range(self.size)]):
            if (now := sum(1 for _ in folder.glob("*"))) != there:
                there, since = now, time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                return False
            time.sleep(min(1.0, PATIENCE / 10))
        return True
