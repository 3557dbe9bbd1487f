"""A training's files: written whole, in one folder, by one process; a run that was cut off goes on where it was.

It acts on Ultralytics' engine alone, so it serves any trainer of Ultralytics'.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ultralytics.cfg import get_save_dir
from ultralytics.engine import trainer as engine
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.optim import muon
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK, YAML

from vanillayolo import locks
from vanillayolo.atomic import whole_file, whole_set, write_whole
from vanillayolo.errors import CheckpointError, LostProcessError, UsageError, VanillaYOLOError, WriteError
from vanillayolo.places import missing_folders, remove_empty

from .checkpoints import can_resume, is_undamaged, newest_checkpoint
from .exporting import quiet
from .muon import fitting_muon

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer as _Trainer
else:
    _Trainer = object  # the trainer of the task is the mixin's neighbour, not its base

#: What a full disk answers, wherever in a training it is met.
FULL = {errno.ENOSPC, errno.EFBIG, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """Give an object other attributes meanwhile."""
    before = {name: getattr(owner, name) for name in attributes}
    for name, value in attributes.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def told_in_thread(failed: threading.ExceptHookArgs) -> None:
    """Tell in one line that a picture, which Ultralytics draws in a thread, met a full disk; training goes on."""
    if isinstance(failed.exc_value, OSError) and failed.exc_value.errno in FULL:
        LOGGER.warning(f"a picture could not be written ({failed.exc_value.strerror})")
    else:
        threading.__excepthook__(failed)


class WholeYAML(YAML):
    """Ultralytics' YAML files, written whole."""

    @classmethod
    def save(cls, file: Any = "data.yaml", data: Any = None, header: str = "") -> None:
        """Write ``data`` to a file."""
        with whole_file(file) as temporary:
            YAML.save(temporary, data, header)


def run_folder(checkpoint: Path, name: str) -> Path:
    """Return the folder in which the run of a checkpoint goes on: that which the checkpoint lies in now.

    Args:
        checkpoint: ``RUN/weights/last.pt``; a file elsewhere, a copy, gets a folder of its own beside it.
        name: of the run, for that folder.
    """
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == "weights" else folder / f"{name}-{checkpoint.stem}"


def strip_run(last: Path, best: Path) -> None:
    """Strip a finished run's checkpoints of what only training needs, each written whole: last.pt ends it, so last."""
    with quiet():  # the file is not wanted: torch's own writer leaves half of one where the disk is full
        ended = engine.strip_optimizer(last, s=os.devnull)
        result = best.exists() and engine.strip_optimizer(
            best, s=os.devnull, updates={"train_results": ended.get("train_results")}
        )
    for path, ckpt in ((best, result), (last, ended)):
        if ckpt:
            content = io.BytesIO()
            torch.save(ckpt, content)
            write_whole(path, content.getvalue())
            LOGGER.info(f"Optimizer stripped from {path}, {path.stat().st_size / 1e6:.1f}MB")


def finish_run(path: Path, ckpt: dict[str, Any] | None) -> bool:
    """Return whether a checkpoint is of a training that has ended; strip it where a kill came before that.

    Raises:
        UsageError: when the training is still at it.
    """
    ckpt = ckpt or {}
    epochs = (ckpt.get("train_args") or {}).get("epochs", 0)
    if ckpt.get("optimizer") is None:
        return bool(ckpt.get("train_results"))
    trained = 0 < epochs <= ckpt.get("epoch", -1) + 1
    if trained and path.name in {"last.pt", "best.pt"}:
        folder = run_folder(path, "")
        locks.take(folder)
        try:
            strip_run(path.with_name("last.pt"), path.with_name("best.pt"))
        finally:
            locks.give(folder)
    return trained


def cut_rows(results: Path, epochs: int, saved: dict[str, list[Any]] | None = None) -> None:
    """Leave one row of results.csv for each of the first epochs, the later one where there are two.

    Args:
        results: the file.
        epochs: epochs that the checkpoint holds.
        saved: the checkpoint's own table, by column, for rows that the file lacks.
    """
    table = saved or {}
    text = results.read_text(encoding="utf-8", errors="replace") if results.is_file() else ""
    header, *rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.strip()] or [[]]
    if table and header != list(table):  # nothing, or torn
        header, rows = list(table), []
    lines = zip(*table.values(), strict=True)
    rows = [*([f"{v:.6g}" if isinstance(v, (int, float)) else "nan" for v in line] for line in lines), *rows]
    whole = (row for row in rows if len(row) == len(header) and row[0].isdecimal() and all(map(is_figure, row)))
    kept = {int(row[0]): row for row in whole}
    if header:
        left = [header, *(row for epoch, row in sorted(kept.items()) if epoch <= epochs)]
        write_whole(results, "".join(",".join(row) + "\n" for row in left))


def is_figure(cell: str) -> bool:
    """Return whether a cell of results.csv holds a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


class SavingMixin(_Trainer):
    """What makes a trainer of Ultralytics save whole files and resume in place; it stands before that trainer's class.

    Args:
        cfg: Ultralytics' default settings.
        overrides: Ultralytics' arguments.
        _callbacks: Ultralytics' callbacks.

    Raises:
        UsageError: when another process trains in the run's folder.
        WriteError: when the folder is full or cannot be written.
    """

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        self._folder: Path | None = None
        self._made: list[Path] = []
        try:
            with self._errors_told(), replaced(engine, YAML=WholeYAML):
                super().__init__(cfg, overrides, _callbacks)
        except VanillaYOLOError:
            self.discard()
            raise
        except BaseException:
            self._let_go()
            raise

    # -- the folder --------------------------------------------------------------------------------------------------

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Read the checkpoint's settings as Ultralytics does, but stay in its folder; take the run's folder."""
        super().check_resume(overrides)
        if self.resume and not overrides.get("save_dir"):
            self.args.save_dir = str(run_folder(Path(self.args.resume), self.args.name or "train"))
        if RANK in {-1, 0}:
            self._folder = self._take_folder()
            self.args.save_dir = str(self._folder)

    def _take_folder(self) -> Path:
        """Return the run's folder, in which no other process trains from now on."""
        while True:
            folder = get_save_dir(self.args)
            self._made = missing_folders(folder)
            try:
                locks.take(folder)
            except UsageError:
                if self.args.exist_ok or getattr(self.args, "save_dir", None):
                    raise
                continue  # another training took this new name at the same moment: there is a next one
            return folder

    def discard(self) -> None:
        """Let go of the run's folder, and remove it where this trainer made it and it holds nothing of value."""
        self._let_go()
        if self._folder is not None:
            remove_empty(self._folder, self._made)

    def _let_go(self) -> None:
        if self._folder is not None:
            locks.give(self._folder)

    def train(self) -> None:
        """Train; where a full disk or the user stops it, say how to go on."""
        try:
            with (
                self._errors_told(),
                replaced(threading, excepthook=told_in_thread),
                replaced(muon, **fitting_muon(self.device)),
            ):
                super().train()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self.how_to_go_on()) from None
        except (WriteError, LostProcessError) as error:
            raise type(error)(f"{error} {self.how_to_go_on()}") from error
        finally:
            self._let_go()

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        """Turn the answers of a full disk, from whatever writes, into a WriteError."""
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            place = error.filename or self._folder or "the run's folder"
            raise WriteError(f"cannot write {place} ({error.strerror}); make room there.") from error

    def how_to_go_on(self) -> str:
        """Return what the files that are there allow."""
        nothing = "No epoch was saved: start the training again."
        if not any(self.wdir.glob("*.pt")):
            return nothing  # Ultralytics would look for the missing file on the internet
        try:
            path, ckpt = newest_checkpoint(self.last, lambda path: load_checkpoint(path)[1])
        except (CheckpointError, OSError, RuntimeError):
            return nothing
        if can_resume(ckpt):
            return f"Epoch {ckpt['epoch'] + 1} is saved; go on with 'vanillayolo train model={path} resume'."
        return f"The training has ended; its result is {self.best if self.best.exists() else path}."

    # -- resuming ----------------------------------------------------------------------------------------------------

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Go on from a checkpoint, and make the run's other files those of its epoch."""
        super().resume_training(ckpt)
        if not (ckpt and self.resume) or RANK not in {-1, 0}:
            return
        cut_rows(self.csv, self.start_epoch, ckpt.get("train_results"))
        if not is_undamaged(self.best):
            if self.best.exists():
                kept = self.best.replace(self.best.with_name("best-damaged.pt"))
                LOGGER.warning(
                    f"{self.best} is damaged, moved to {kept.name}; the best epoch from here on takes its place"
                )
            self.best_fitness = None  # that of a file that is gone

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Recover as Ultralytics does, in the first epoch of a resumed run too: there is a checkpoint before it."""
        first = self.start_epoch
        with replaced(self, start_epoch=-1 if epoch == first > 0 and is_undamaged(self.last) else first):
            return bool(super()._handle_nan_recovery(epoch))

    # -- writing -----------------------------------------------------------------------------------------------------

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write results.csv anew, with the epoch's row."""
        with whole_file(self.csv) as temporary:
            if self.csv.exists():
                shutil.copyfile(self.csv, temporary)
            with replaced(self, csv=temporary):
                super().save_metrics(metrics)

    def save_model(self) -> Any:
        """Write the epoch's checkpoints whole: best.pt and epochN.pt first, so that last.pt is never ahead of them."""
        names = {"last": self.last.name, "best": self.best.name}
        with (
            whole_set(self.last, together=False) as stage,
            replaced(self, wdir=stage, **{key: stage / name for key, name in names.items()}),
        ):
            return super().save_model()

    def final_eval(self) -> None:
        """Strip the checkpoints, each written whole, and validate best.pt."""
        if RANK in {-1, 0} and self.last.exists():
            strip_run(self.last, self.best)
        with replaced(engine, strip_optimizer=lambda *_, **__: {}):  # done
            super().final_eval()
