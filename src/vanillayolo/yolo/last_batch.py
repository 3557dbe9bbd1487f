"""No training step on a batch of one image where batch normalisation would see one value of every channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ultralytics.utils import LOGGER

from vanillayolo.errors import UsageError

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer as _Trainer
else:
    _Trainer = object  # the trainer of the task is the mixin's neighbour, not its base


class LastBatchMixin(_Trainer):
    """Leaves a last batch of one image out where the network cannot take it; it stands before the task's trainer."""

    args: Any
    stride: Any

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Return Ultralytics' loader, for training without a last batch of one image that cannot be trained on.

        Raises:
            UsageError: where every batch is such a one.
        """
        loader: Any = super().get_dataloader(dataset_path, batch_size, rank, mode)
        images = len(loader.sampler)
        if mode != "train" or loader.drop_last or (images - 1) % loader.batch_size or not self._sees_one_value():
            return loader
        if loader.batch_size == 1:
            given = f"batch={batch_size}" if images > 1 else "one training image"
            size = "" if self.args.task == "classify" else f", or imgsz={2 * int(self.stride)} at least"
            raise UsageError(
                f"{given}: batch normalisation needs two values of a channel; give two images a batch{size}."
            )
        LOGGER.warning(
            f"each epoch leaves out one of {images} images, another one every time: the last batch would be of one, "
            "which batch normalisation cannot take"
        )
        compiled = self.args.compile
        self.args.compile = True  # for which Ultralytics leaves a smaller last batch out
        try:
            return super().get_dataloader(dataset_path, batch_size, rank, mode)
        finally:
            self.args.compile = compiled

    def _sees_one_value(self) -> bool:
        """Return whether an image gives one value of a channel: in a classifier, or at the coarsest stride."""
        smallest = int(self.args.imgsz * (1 - self.args.multi_scale)) // int(self.stride)
        return self.args.task == "classify" or smallest < 2
