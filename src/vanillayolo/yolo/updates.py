"""How many pictures an update of the weights is made of, where nobody says.

Ultralytics gathers gradients up to 64 pictures (``nbs``), whatever the set: 200 pictures and 40 epochs are then 160
updates. A small set wants more of them (benchmarks/accuracy/updates.json).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK, YAML, colorstr

if TYPE_CHECKING:
    from ultralytics.models.yolo.detect import DetectionTrainer as _Trainer
else:
    _Trainer = object  # the trainer is the mixin's neighbour, not its base

#: Updates that a training has at least, where its batch allows as many.
UPDATES = 2_500


def fitting_nbs(pictures: int, epochs: int, batch: int) -> int:
    """Return the pictures of an update: 64, or fewer where that leaves too few updates; never below the batch.

    Args:
        pictures: of the training split.
        epochs: of the training.
        batch: pictures of a step, of all processes.
    """
    return max(min(round(pictures * epochs / UPDATES), int(DEFAULT_CFG.nbs)), batch)


class UpdatesMixin(_Trainer):
    """What chooses ``nbs`` for a trainer whose user has not; it stands before that trainer's class."""

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: Any = None) -> None:
        super().__init__(cfg, overrides, _callbacks)
        self._open = not self.resume and "nbs" not in (overrides or {})
        if self._open and RANK == -1 and self.world_size > 1:
            del self.args.nbs  # the processes that this one starts are given its settings, as if a user had

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Return Ultralytics' loader. With that of training the number of pictures is known, and with it ``nbs``."""
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        if mode == "train" and self._open:
            self.args.nbs = nbs = fitting_nbs(len(loader.dataset), self.epochs, self.batch_size)
            if RANK in {-1, 0}:
                YAML.save(self.save_dir / "args.yaml", vars(self.args))
                LOGGER.info(
                    f"{colorstr('nbs:')} an update every {nbs} pictures; nbs={DEFAULT_CFG.nbs} is Ultralytics' own"
                )
        return loader
