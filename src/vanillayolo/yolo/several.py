"""One training in several processes, on one machine or several, with GPUs or without.

Ultralytics counts its processes by the GPUs of ``device=``, so that a second machine is none to it, and CPUs neither:
there its samplers ask for a process group that nobody made. What is here makes the group, counts by the launcher, and
lets process 0 alone name the run's folder.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, RANK, WORLD_SIZE
from ultralytics.utils.torch_utils import TORCH_2_8, parse_device, select_device

from vanillayolo.errors import LostProcessError, UsageError, one_line
from vanillayolo.values import shown

from .saving import SavingMixin, replaced

#: Settings that may differ between machines: places, and what each of them has.
OWN = {"data", "model", "resume", "project", "name", "exist_ok", "save_dir", "device", "workers", "cache"}
#: How long the others wait where one process works alone, reading labels or validating best.pt.
ALONE = timedelta(hours=3)


def patience() -> timedelta:
    """Return how long a process waits in a step for the others: VANILLAYOLO_TIMEOUT seconds, else ten minutes."""
    text = os.environ.get("VANILLAYOLO_TIMEOUT", "600")
    if not text.isdecimal() or not 0 < int(text) < 1e8:
        raise UsageError(f"VANILLAYOLO_TIMEOUT={shown(text)}: give whole seconds, 1 or more.")
    return timedelta(seconds=int(text))


@contextmanager
def patient() -> Iterator[None]:
    """Let the processes of a group on CPUs wait longer meanwhile."""
    limit = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout  # its name before torch 2.14
    ours = dist.get_backend() == "gloo"
    if ours:
        limit(ALONE)
    yield
    if ours:
        limit(patience())


def from_first(value: Any) -> Any:
    """Return what process 0 has; every process calls this at the same moment. Alone, return the value."""
    if RANK == -1 or not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]


def check_same(facts: dict[str, Any]) -> None:
    """Raise UsageError in a process whose facts are not those of process 0: their gradients would not fit together."""
    first = from_first(facts)
    for key, value in facts.items():
        if value != first.get(key):
            raise UsageError(
                f"{key}={shown(value)}: process 0 has {shown(first.get(key))}; give every machine the same command and "
                "the same data."
            )


@contextmanager
def alone(*engines: Any) -> Iterator[None]:
    """Let the modules that these are made in believe meanwhile that this process is the only one."""
    modules = {sys.modules[cls.__module__] for engine in engines for cls in type(engine).__mro__}
    with ExitStack() as stack:
        for module in modules:
            ranks = {name: -1 for name in ("RANK", "LOCAL_RANK") if hasattr(module, name)}
            stack.enter_context(replaced(module, **ranks))
        yield


class Distributed(nn.parallel.DistributedDataParallel):
    """torch's wrapper, for CPUs too: Ultralytics names a device for each process, and theirs has no number."""

    def __init__(self, module: nn.Module, device_ids: list[Any] | None = None, **settings: Any) -> None:
        super().__init__(module, device_ids=None if device_ids == [None] else device_ids, **settings)
        self.again = partial(type(self), device_ids=device_ids, **settings)


class SeveralMixin(SavingMixin):
    """What makes a trainer of Ultralytics one of several; it stands before that trainer's class.

    Raises:
        UsageError: for settings or data that are not those of process 0, or a batch that gives a process no picture.
        LostProcessError: where another process ended.
    """

    epochs: int
    model: Any
    ema: Any
    test_loader: Any
    validator: Any

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: Any = None) -> None:
        super().__init__(cfg, overrides, _callbacks)
        if RANK >= 0:
            self.world_size = WORLD_SIZE

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Read the settings; learn from process 0 which folder is the run's, where no parent process has said so."""
        super().check_resume(overrides)
        if RANK == -1 or overrides.get("save_dir"):
            return
        if self.args.batch < WORLD_SIZE:
            raise UsageError(
                f"batch={self.args.batch}: is shared by {WORLD_SIZE} processes; give one picture to each, at least."
            )
        self.args.rect = False  # shares would be unequal; Ultralytics' parent process turns it off, too
        self.world_size = WORLD_SIZE
        self.args.device = parse_device(self.args.device)
        self.device = select_device(self.args.device, verbose=False)
        if self.device.type == "cuda" and not self.args.device:
            self.args.device = ",".join(map(str, range(torch.cuda.device_count())))
        if self.device.type == "cpu" and not TORCH_2_8:
            raise UsageError("several processes on CPUs: gloo takes no means before torch 2.8; update torch.")
        self._setup_ddp()
        facts = {**vars(self.args), **getattr(self, "settings", {})}
        check_same({key: str(value) for key, value in facts.items() if key not in OWN})
        if RANK == 0 and not self.resume:  # every process would remove it, and find it gone
            Path(self.args.save_dir, "results.csv").unlink(missing_ok=True)
        self.args.save_dir = from_first(getattr(self.args, "save_dir", None))

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        """Turn what a backend says when a process of the group is gone into a LostProcessError, too."""
        try:
            with super()._errors_told():
                yield
        except RuntimeError as error:
            if RANK == -1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
                raise
            raise LostProcessError(
                f"another process of this training ended, or its machine does not answer ({one_line(error)})."
            ) from error

    def _setup_ddp(self) -> None:
        """Make the process group once: on CPUs with gloo, else as Ultralytics does."""
        there = dist.is_initialized()
        if self.device.type != "cpu":
            with replaced(dist, **({"init_process_group": lambda *_, **__: None} if there else {})):
                super()._setup_ddp()  # chooses this process' GPU each time
        elif not there:
            dist.init_process_group("gloo", timeout=patience())

    def _setup_train(self) -> None:
        with replaced(nn.parallel, DistributedDataParallel=Distributed):
            super()._setup_train()

    def rewrap(self) -> None:
        """Wrap the network, whose parameters are other ones now, anew; all get what process 0 has.

        torch's wrapper holds on to the parameters that it was made with: it has to be gone before there is another.
        """
        if not isinstance(self.model, Distributed):
            return
        network, again = self.model.module, self.model.again
        self.model = network
        gc.collect()
        for tensor in (*network.state_dict().values(), *self.ema.ema.state_dict().values()):
            dist.broadcast(tensor, 0)
        self.model = again(module=network)

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Return the loader of this process' share; process 0 reads the labels first, then one process a machine."""
        if rank == -1 or not dist.is_initialized():
            return super().get_dataloader(dataset_path, batch_size, rank, mode)
        turn = 0 if RANK == 0 else 1 if LOCAL_RANK == 0 else 2
        with patient():
            if turn == 2:
                dist.barrier()
            # Ultralytics' process 0 waits when it has read, another before
            loader = super().get_dataloader(dataset_path, batch_size, min(turn, 1), mode)
            if turn < 2:
                dist.barrier()
        check_same({f"pictures of {mode}": len(loader.dataset)})
        return loader

    def _setup_scheduler(self) -> None:
        """Make the schedule; of a ``time=`` run, for the epochs that process 0 expects."""
        if self.args.time:
            self.epochs = self.args.epochs = from_first(self.epochs)
        super()._setup_scheduler()

    def final_eval(self) -> None:
        """Validate best.pt: process 0 alone, whose folder it stands in; on the GPUs of one machine, every process."""
        if self.world_size < 2 or self.device.type != "cpu":
            return super().final_eval()
        if RANK == 0:
            with alone(self, self.validator):
                split, batch = self.data[self.args.split], self.test_loader.batch_size
                self.validator.dataloader = self.get_dataloader(split, batch, rank=-1, mode="val")
                super().final_eval()
        with patient():
            dist.barrier()
