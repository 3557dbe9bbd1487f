"""Pretraining on generated pictures: each is drawn once, ahead of the step that learns from it, and kept nowhere.

The data are a folder of ``vanillayolo scenes``. Its written pictures validate; the stream goes on after them, with the
same seed, picture by picture. Which pictures an epoch sees depends on its number alone, so a resumed run and several
processes see the same stream. ``fraction``, a whole number, is how many pictures make an epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from ultralytics.data.build import InfiniteDataLoader, seed_worker
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import RANK

from vanillayolo.data import Scenes, SceneSettings
from vanillayolo.data.scenes.settings import MOST_PICTURES

from .detectors import StockTrainer
from .threads import available_cores
from .trainer import VanillaTrainer

if TYPE_CHECKING:
    from ultralytics.models.yolo.detect import DetectionTrainer as _Trainer
else:
    _Trainer = object  # the trainer is the mixin's neighbour, not its base


def stored_scenes(data: Path) -> SceneSettings:
    """Return the settings of a written folder of scenes, from the record beside its ``scenes.yaml``."""
    made_by = json.loads(data.with_name("scenes.json").read_text(encoding="utf-8"))["settings"]
    return SceneSettings.from_dict({key: made_by[key] for key in SceneSettings.KINDS if key in made_by})


class SceneStream(Dataset[dict[str, Any]]):
    """The pictures after those of a written folder, as Ultralytics' datasets give theirs; item n is the n-th of them.

    Args:
        written: settings of the folder.
        epoch: pictures that make an epoch.
    """

    def __init__(self, written: SceneSettings, epoch: int) -> None:
        self.first, self.epoch = written.pictures, epoch
        self.scenes = Scenes(replace(written, pictures=MOST_PICTURES))
        self.labels = [{"cls": np.zeros(written.objects)}]  # how many there may be, for the prediction of memory

    collate_fn = staticmethod(YOLODataset.collate_fn)

    def __len__(self) -> int:
        return self.epoch

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a picture, uint8 RGB ``[3, size, size]``, and its boxes as shares of the side."""
        number = (self.first + index) % MOST_PICTURES
        picture, labels = self.scenes[number]
        boxes = torch.from_numpy(labels.boxes / len(picture)).float()
        centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        return {
            "img": torch.from_numpy(np.ascontiguousarray(picture[..., ::-1].transpose(2, 0, 1))),
            "cls": torch.from_numpy(labels.classes).float()[:, None],
            "bboxes": torch.cat([centres, sides], 1),
            "batch_idx": torch.zeros(len(boxes)),
            "im_file": f"{number:07d}.jpg",
            "ori_shape": picture.shape[:2],
            "resized_shape": picture.shape[:2],
        }


class EpochByEpoch(Sampler[int]):
    """Each pass gives the items of one epoch more, every process its share of them.

    Args:
        length: items of an epoch.
        rank: number of this process.
        processes: how many there are.

    Attributes:
        epoch: whose items the next pass gives.
    """

    def __init__(self, length: int, rank: int, processes: int) -> None:
        self.length, self.rank, self.processes, self.epoch = length, rank, processes, 0

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * self.length
        self.epoch += 1
        return iter(range(start + self.rank, start + len(self) * self.processes, self.processes))

    def __len__(self) -> int:
        return self.length // self.processes

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: Ultralytics says so when the loader, ahead of the training, is in the epoch already."""


class SceneMixin(_Trainer):
    """What makes a trainer learn from drawn pictures; it stands before that trainer's class."""

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Return the stream, or for validation the written pictures."""
        if mode != "train":
            return super().build_dataset(img_path, mode, batch)
        return SceneStream(stored_scenes(Path(self.args.data)), int(self.args.fraction))

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Return a loader whose processes draw ahead; Ultralytics gives training on a CPU none."""
        if mode != "train":
            return super().get_dataloader(dataset_path, batch_size, rank, mode)
        dataset = self.build_dataset(dataset_path)
        cores, processes = available_cores(), max(self.world_size, 1)
        own = self.device.type in {"cpu", "mps"}  # the cores train, too
        workers = cores // 4 or cores - 1 if own else min(self.args.workers, cores // processes)
        return InfiniteDataLoader(
            dataset=dataset,
            batch_size=batch_size,
            sampler=EpochByEpoch(len(dataset), max(RANK, 0), processes),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            pin_memory=self.device.type == "cuda",
            collate_fn=dataset.collate_fn,
            worker_init_fn=seed_worker,
            drop_last=True,
        )

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Go on from a checkpoint, in the stream too."""
        super().resume_training(ckpt)
        self.train_loader.sampler.epoch = self.start_epoch


class VanillaSceneTrainer(SceneMixin, VanillaTrainer):
    """Our trainer on drawn pictures."""


class StockSceneTrainer(SceneMixin, StockTrainer):
    """Ultralytics' trainer on drawn pictures."""
