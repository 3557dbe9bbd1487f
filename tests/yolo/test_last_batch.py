from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vanillayolo import VanillaYOLO
from vanillayolo.errors import UsageError
from vanillayolo.yolo.last_batch import LastBatchMixin


class Loaders:
    """Stands for Ultralytics' trainer: a loader of so many images, which drops the rest for compiled networks."""

    def __init__(self, images: int, task: str, imgsz: int) -> None:
        self.images, self.stride = images, 32
        self.args = SimpleNamespace(task=task, imgsz=imgsz, multi_scale=0.0, compile=False)

    def get_dataloader(self, path: str, batch_size: int, rank: int, mode: str) -> Any:
        batch = min(batch_size, self.images)
        return SimpleNamespace(sampler=range(self.images), batch_size=batch, drop_last=self.args.compile)


class Trainer(LastBatchMixin, Loaders):  # type: ignore[misc]
    """The mixin before it."""


@pytest.mark.parametrize(
    ("images", "task", "imgsz", "batch", "dropped"),
    [
        (5, "detect", 32, 4, True),
        (5, "detect", 64, 4, False),  # four cells
        (6, "detect", 32, 4, False),
        (5, "classify", 224, 4, True),  # pooled to one value at any size
        (4, "classify", 224, 4, False),
    ],
)
def test_a_last_batch_of_one_is_left_out_where_it_must(
    images: int, task: str, imgsz: int, batch: int, dropped: bool
) -> None:
    trainer = Trainer(images, task, imgsz)
    assert trainer.get_dataloader("train", batch, -1, "train").drop_last == dropped
    assert trainer.args.compile is False
    assert not trainer.get_dataloader("val", batch, -1, "val").drop_last


@pytest.mark.parametrize(("images", "batch", "said"), [(5, 1, "batch=1: .*imgsz=64"), (1, 4, "one training image: ")])
def test_where_every_batch_is_of_one_training_is_refused(images: int, batch: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Trainer(images, "detect", 32).get_dataloader("train", batch, -1, "train")


@pytest.mark.slow
def test_a_last_batch_of_one_at_the_smallest_size_trains(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    """Eight images in batches of seven; of one each, it is one line, and no folder is left."""
    with pytest.raises(UsageError, match="batch=1"):
        VanillaYOLO(small_yaml).train(project=str(tmp_path), name="one", epochs=1, **quick | {"imgsz": 32, "batch": 1})
    assert not (tmp_path / "one").exists()
    model = VanillaYOLO(small_yaml)
    model.train(project=str(tmp_path), name="seven", epochs=1, **quick | {"imgsz": 32, "batch": 7})
    assert len(model.trainer.train_loader) == 1
