"""``vanillayolo ablate``: the paper's ablations re-made on small images, over several seeds.

The training loop is our own because no engine at hand fits: the networks here are neither Ultralytics' classifiers nor
in timm's registry, and data of this size fits memory as one tensor, where loading it image by image would cost more
than the training. Optimizer and schedule are timm's.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import Tensor

from vanillayolo.data.label_files import read_picture
from vanillayolo.errors import DataError, UsageError
from vanillayolo.nn import DeepTraining, VanillaNet, set_negative_slope
from vanillayolo.places import check_folder
from vanillayolo.values import check_value, checked, one_of
from vanillayolo.yolo.families import INITS

from .ablation_networks import Config, build
from .latency import machine
from .records import Needs, Record, as_list, keep_settings, read_record, write_record

#: Every row that a table of the paper asks for, and ours: ``linear``, the pair without the ReLU that deep training
#: moves, and the series activation begun at the identity.
CONFIGS: dict[str, Config] = {
    **{f"n{n}": Config(f"n = {n}", n) for n in range(5)},
    "shallow-n0": Config("one convolution, ReLU", 0, "shallow"),
    "shallow-n3": Config("one convolution, series activation", 3, "shallow"),
    "linear-n0": Config("linear pair, ReLU", 0, "linear"),
    "linear-n3": Config("linear pair, series activation", 3, "linear"),
    "n3-identity": Config("n = 3, begun at the identity", 3, identity=True),
    "n3-shortcut-before": Config("shortcut before the activation", 3, "deep", "before"),
    "n3-shortcut-after": Config("shortcut after the activation", 3, "deep", "after"),
}
SIZE = 32  # pixels
EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp"}
MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)  # of CIFAR-10

#: What a record is read for.
NEEDS: Needs = {
    **{"config": str, "seed": int, "top1": float, "top1_per_epoch": list, "loss_per_epoch": list},
    **{"parameters": int, "seconds": float, "machine": dict},
}

Split = tuple[Tensor, Tensor]  # uint8 images [count, 3, 32, 32], classes [count]


def load_split(folder: Path) -> tuple[Split, list[str]]:
    """Read a folder of one folder of images per class; images of another size are scaled to 32x32 pixels.

    Raises:
        DataError: when there are no classes or no images, or an image cannot be read.
    """
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    images, labels = [], []
    for i, name in enumerate(classes):
        for path in sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in EXTENSIONS):
            images.append(np.asarray(read_picture(path).resize((SIZE, SIZE), Image.Resampling.BOX)))
            labels.append(i)
    if not images:
        raise DataError(f"data={folder.parent}: give a folder with images in train/CLASS and val/CLASS.")
    return (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)), classes


def load_data(data: str | Path) -> tuple[Split, Split, int]:
    """Read ``train`` and ``val`` and return them with the number of classes.

    Raises:
        DataError: when they are missing or have other classes.
    """
    (train, classes), (val, others) = (load_split(Path(data) / split) for split in ("train", "val"))
    if classes != others:
        raise DataError(f"data={data}: train has the classes {classes}, val {others}.")
    return train, val, len(classes)


def normalized(images: Tensor) -> Tensor:
    """Return uint8 images as float32 of mean 0 and deviation 1."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift every image by up to 4 pixels (zeros come in) and turn every other one left to right."""
    count = len(images)
    padded = F.pad(images, (4, 4, 4, 4)).permute(0, 2, 3, 1)
    corner = torch.randint(0, 9, (2, count, 1), generator=generator)
    rows, columns = corner + torch.arange(SIZE)
    flip = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def batches(split: Split, batch: int, generator: torch.Generator) -> Iterator[Split]:
    """Yield the training images once, shuffled, augmented and normalised; an incomplete last batch is left out."""
    images, labels = split
    order = torch.randperm(len(images), generator=generator)
    for chosen in torch.split(order, batch):
        if len(chosen) == batch or len(images) < batch:
            yield normalized(augmented(images[chosen], generator)), labels[chosen]


@torch.inference_mode()
def accuracy(net: VanillaNet, split: Split, batch: int = 500) -> float:
    """Return the share of images whose class is found."""
    net.eval()
    pairs = zip(torch.split(split[0], batch), torch.split(split[1], batch), strict=True)
    right = sum(int((net(normalized(images)).argmax(1) == labels).sum()) for images, labels in pairs)
    return right / len(split[1])


def train_one(config: Config, seed: int, train: Split, val: Split, classes: int, settings: Mapping[str, Any]) -> Record:
    """Train one network and return its record: top-1 of every epoch, time, parameters.

    The last epoch's accuracy is the result; none is picked by its score on the images that it is measured on.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net = build(config, settings["width"], classes, settings["pair_init"])
    net = net.to(memory_format=torch.channels_last)  # a third to a half faster on CPUs at these widths
    epochs, batch = settings["epochs"], settings["batch"]
    optimizer = create_optimizer_v2(net, opt="adamw", lr=settings["lr"], weight_decay=settings["weight_decay"])
    steps = max(len(train[0]) // batch, 1)
    decaying = max((epochs - 1) * steps, 1)  # the first epoch warms up
    schedule = CosineLRScheduler(optimizer, decaying, warmup_t=steps, warmup_prefix=True, t_in_epochs=False)
    ramp = DeepTraining(settings["decay"] if config.pair == "deep" else 0.0)
    begin, step, losses, scores = time.perf_counter(), 0, [], []
    for epoch in range(epochs):
        net.train()
        set_negative_slope(net, ramp.epoch_slope(epoch, epochs))
        total = 0.0
        for images, labels in batches(train, batch, generator):
            step += 1
            schedule.step_update(step)
            loss = F.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            total += loss.item()
        losses.append(total / steps)
        scores.append(accuracy(net, val))
    return {
        "seed": seed,
        "top1": scores[-1],
        "top1_per_epoch": scores,
        "loss_per_epoch": losses,
        "parameters": sum(p.numel() for p in net.parameters()),
        "seconds": time.perf_counter() - begin,
    }


@checked
def run(
    data: str | Path,
    folder: str | Path = "runs/ablate",
    configs: str | Sequence[str] | None = None,
    seeds: Any = (0, 1, 2),
    epochs: int = 15,
    width: float = 1 / 32,
    batch: int = 64,
    lr: float = 3e-3,
    weight_decay: float = 0.05,
    decay: float = 1 / 3,
    pair_init: str = "fan_in",
) -> Path:
    """Train every row with every seed and keep one JSON file of each; finished ones are skipped. Return the folder.

    Args:
        data: folder with images in ``train/CLASS`` and ``val/CLASS``, scaled to 32x32 pixels where they are not.
        folder: where the records go; all in it share one protocol.
        configs: rows, keys of :data:`CONFIGS`; all by default.
        seeds: seeds.
        epochs: length of each training.
        width: share of the paper's widths.
        batch: images per step.
        lr: largest learning rate (AdamW, cosine, one epoch of warmup).
        weight_decay: of everything but biases and normalisations.
        decay: share of the epochs in which the slope of deep training rises.
        pair_init: ``fan_in``, or ``noise`` of 0.02 as at the paper's widths.

    Raises:
        VanillaYOLOError: for a row, seed, budget or data that do not exist, or a folder of another protocol.
    """
    names, wanted = as_list(list(CONFIGS) if configs is None else configs, "configs"), as_list(seeds, "seeds")
    for name in names:
        check_value("configs", name, one_of(*CONFIGS))
    check_value("pair_init", pair_init, one_of(*INITS["pair_init"]))
    check_folder("folder", folder)
    settings = {"data": Path(data).resolve().name, "epochs": epochs, "width": width, "batch": batch, "lr": lr}
    settings |= {"weight_decay": weight_decay, "decay": decay, "pair_init": pair_init}
    train, val, classes = load_data(data)
    root = Path(folder)
    keep_settings(root / "protocol.json", settings)
    for seed, name in itertools.product(wanted, names):  # what is there after an interruption can be compared
        path = root / f"{name}_seed{seed}.json"
        if path.exists():
            read_record(path, NEEDS)
            continue
        record = train_one(CONFIGS[name], seed, train, val, classes, settings)
        write_record(path, {"config": name, **record, "settings": settings, "machine": machine()})
        print(f"{name:<20} seed {seed}: top-1 {record['top1']:.4f} in {record['seconds']:.0f} s", flush=True)
    return root


def gather_ablation(folder: str | Path) -> Record:
    """Return all records of a folder as one: the protocol, the machine and, for every row, the runs by seed.

    Raises:
        UsageError: when there is none.
    """
    root = Path(folder)
    records = [read_record(p, NEEDS) for p in sorted(root.glob("*_seed*.json"))]
    if not records:
        raise UsageError(f"folder={folder}: no finished runs there.")
    runs: dict[str, dict[str, Any]] = {}
    for name in CONFIGS:
        found = sorted((r for r in records if r["config"] == name), key=lambda r: int(r["seed"]))
        if found:
            keep = ("top1", "top1_per_epoch", "loss_per_epoch", "parameters", "seconds")
            runs[name] = {str(r["seed"]): {key: r[key] for key in keep} for r in found}
    return {"settings": read_record(root / "protocol.json"), "machine": records[-1]["machine"], "runs": runs}
