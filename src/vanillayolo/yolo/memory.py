"""The memory of a training step: counted, predicted for any image size, and what batch of it fits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from ultralytics.utils import DEFAULT_CFG

from .tasks import task_of_head

#: Cells of the coarsest map on each side of the image that the prediction runs a whole step on, at most; with fewer
#: than the series activation's kernel has, other kernels of the libraries run than in larger images.
PROBE = 8
#: What a CPU trains at a time at most where nobody says: Ultralytics' own default.
CPU_BATCH = 16
#: Share of the free memory that a batch may take where nobody says: Ultralytics' own. The rest is for what is not
#: counted: the libraries' scratch memory, a heap in pieces (measured: up to 1.5 times), images on their way.
FRACTION = 0.6


def saved_bytes(model: nn.Module, run: Callable[[], object]) -> int:
    """Count what ``run`` keeps for a backward pass: bytes of distinct storages, without the model's own tensors.

    Free of noise: torch hands every tensor it keeps to a hook.

    Args:
        model: whose parameters and buffers do not count.
        run: a forward pass; what it returns is kept until all is counted.

    Returns:
        Bytes.
    """
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}  # holds the tensors too: an address counts once only while it is taken

    def pack(x: Tensor) -> Tensor:
        if (address := x.untyped_storage().data_ptr()) not in own:
            kept[address] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = run()  # noqa: F841  # the graph has to live until all is counted
    return sum(x.untyped_storage().nbytes() for x in kept.values())


def sample_batch(
    imgsz: int, batch: int, boxes: int = 1, device: torch.device | str = "cpu", head: Any = None
) -> dict[str, Tensor]:
    """Return a batch of random images with random boxes, as Ultralytics' trainer hands it to ``loss``.

    Args:
        imgsz: side of the images, pixels.
        batch: how many.
        boxes: on each.
        device: where they go.
        head: last row of the network, by which masks, key points or turned boxes come with the boxes.

    Returns:
        ``img`` ``[batch, 3, imgsz, imgsz]`` in 0 to 1, and of all boxes ``batch_idx`` ``[boxes]``, ``cls``
        ``[boxes, 1]`` and ``bboxes`` ``[boxes, 4]``: centre and size as shares of the side (turned boxes: a fifth, the
        angle in radians). With masks ``masks`` and ``sem_masks`` ``[batch, imgsz / 4, imgsz / 4]``, with key points
        ``keypoints`` ``[boxes, points, 2 or 3]``.
    """
    generator = torch.Generator().manual_seed(0)
    count = batch * boxes
    sample = {
        "img": torch.rand(batch, 3, imgsz, imgsz, generator=generator),
        "batch_idx": torch.arange(batch).repeat_interleave(boxes).float(),
        "cls": torch.zeros(count, 1),
        "bboxes": torch.rand(count, 4, generator=generator) * 0.4 + 0.3,
    }
    task = task_of_head(head)
    if task.maps:
        sample["masks"] = torch.randint(0, boxes + 1, (batch, imgsz // 4, imgsz // 4), generator=generator).float()
        sample["sem_masks"] = torch.zeros_like(sample["masks"])  # the class of every pixel
    if points := getattr(head, "kpt_shape", None):
        sample["keypoints"] = torch.rand(count, *points, generator=generator)
    if task.turned:
        sample["bboxes"] = torch.cat([sample["bboxes"], torch.rand(count, 1, generator=generator)], 1)
    return {key: value.to(device) for key, value in sample.items()}


MB, GB = 1_000_000, 1_000_000_000


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's, as those below
    """Follows the bytes of the tensors that are alive at once, and how many there were at most."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.live = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and (storage := x.untyped_storage())._cdata not in self.storages:
                reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self.storages[storage._cdata] = (reference, storage.nbytes())
                self.live += storage.nbytes()
        if self.live > self.most:  # some of them may be gone by now
            is_gone = torch.UntypedStorage._expired
            for key in [k for k, (reference, _) in self.storages.items() if is_gone(reference.cdata)]:
                self.live -= self.storages.pop(key)[1]
            self.most = max(self.most, self.live)
        return result


def peak_bytes(run: Callable[[], object]) -> int:
    """Count the most bytes that are alive at once of all tensors that ``run`` makes.

    Free of noise, on any device. Not counted is the scratch memory that a library takes inside of one operator.

    Args:
        run: what is watched; what it returns is not kept.

    Returns:
        Bytes.
    """
    with _Live() as live:
        run()
    return live.most


def _probe(model: Any) -> Any:
    """Return a copy of a detector in training that the loss can be computed of."""
    probe = copy.deepcopy(model).float().train()
    if not hasattr(getattr(probe, "args", None), "box"):  # the loss asks for its weights
        probe.args = DEFAULT_CFG
    for p in probe.parameters():
        p.requires_grad_(p.is_floating_point())
    return probe


def coarsest(model: Any) -> int:
    """Return the pixels whose multiple the side of a step's images is, as Ultralytics' trainer has it."""
    return max(int(model.stride.max()), 32)


def _sample(probe: Any, cells: int, batch: int = 1, boxes: int = 1) -> dict[str, Tensor]:
    """Return images of so many cells of the coarsest map on each side."""
    side, device = cells * coarsest(probe), next(probe.parameters()).device
    sample = sample_batch(side, batch, boxes, device, probe.model[-1])
    channels = probe.yaml.get("channels", 3)
    sample["img"] = sample["img"].mean(1, keepdim=True).repeat(1, channels, 1, 1)
    return sample


def _kept(probe: Any) -> tuple[float, Callable[[int], float]]:
    """Return what a step keeps for its backward pass whatever the image, and a function: cells to bytes per image.

    The maps grow with the image's area, attention with its square, cast weights not at all; so counting at three
    small sizes gives the figure at every size, without the memory that the size itself would take.
    """
    areas, counted = [], []
    for cells in (2, 3, 4):
        sample = _sample(probe, cells)
        areas.append(cells**2)
        counted.append(saved_bytes(probe, lambda sample=sample: probe.loss(sample)))  # type: ignore[misc]
    constant, linear, square = np.linalg.solve([[1, a, a * a] for a in areas], counted)
    return constant, lambda cells: linear * cells**2 + square * cells**4


def activation_bytes(model: Any, imgsz: int = 640, batch: int = 1) -> int:
    """Predict what one training step keeps for its backward pass.

    Args:
        model: a detector of ours or of Ultralytics in training form; it is not changed.
        imgsz: side of the image, pixels; rounded up to a multiple of the largest stride as in training.
        batch: images.

    Returns:
        Bytes, without parameters, gradients and optimizer.
    """
    probe = _probe(model)
    constant, per_image = _kept(probe)
    return round(constant + batch * per_image(-(-imgsz // coarsest(probe))))


# ---------------------------------------------------------------------------------------------------------------------
# What fits


@dataclass(frozen=True)
class Prediction:
    """What training a detector will take, in bytes.

    Attributes:
        image: kept for the backward pass, per image.
        working: what a step takes beyond that while it computes, per image.
        fixed: what a step takes whatever the batch (weights cast to bfloat16, their gradients on the way).
        state: gradients, optimizer and averaged model, which come on top of the model that is there.
    """

    image: int
    working: int
    fixed: int
    state: int

    def peak(self, batch: int) -> int:
        """Return what a training of this batch takes beyond the model that is there, bytes."""
        return self.state + self.fixed + batch * (self.image + self.working)

    def summary(self, imgsz: int, batch: int, free: int) -> str:
        """Return the prediction in one line.

        Args:
            imgsz: side of the image, pixels, that it was made for.
            batch: images.
            free: free memory, bytes.
        """
        return (
            f"{self.image / MB:.0f} MB kept and {self.working / MB:.0f} MB more in use per image of {imgsz} px, "
            f"{(self.fixed + self.state) / MB:.0f} MB for weights' copies, gradients, optimizer and average; "
            f"batch {batch} takes {self.peak(batch) / GB:.1f} GB of {free / GB:.1f} GB free, "
            f"the largest batch in {FRACTION:.0%} of it is {self.largest_batch(free)}"
        )

    def largest_batch(self, free: int, fraction: float = FRACTION) -> int:
        """Return the largest batch within a share (0 to 1) of the free memory (bytes); 0 where not one image fits."""
        return max(int((free * fraction - self.state - self.fixed) // (self.image + self.working)), 0)


#: Tensors of a parameter's size that an optimizer keeps; "auto" is AdamW or MuSGD.
OPTIMIZER_STATES = {"SGD": 1, "MuSGD": 1, "RMSprop": 2}
MOST_STATES = 2


def predict_memory(model: Any, imgsz: int = 640, optimizer: str = "auto", boxes: int = 1) -> Prediction:
    """Predict what training takes, from counting small steps.

    What a step takes while it computes grows with the number of images and their area; so two steps of 256 px
    (:data:`PROBE` cells), of one image and of two, tell it for every size and batch.

    Args:
        model: a detector in training form, with the settings that it will be trained with; it is not changed.
        imgsz: side of the image, pixels.
        optimizer: name of the optimizer.
        boxes: most boxes on one image.

    Returns:
        Bytes, of one image of that size and of the whole training.
    """
    probe = _probe(model)
    _, kept = _kept(probe)  # after it the gradients do not exist yet
    probe.loss(_sample(probe, 2))[0].sum().backward()
    cells = -(-imgsz // coarsest(probe))
    few = max(min(PROBE, cells), 2)  # with one cell, one image would be a batch of a single value

    def step(batch: int) -> None:
        sample = _sample(probe, few, batch, boxes)  # counted too: the images stay until the step ends
        probe.loss(sample)[0].sum().backward()

    one, two = (peak_bytes(partial(step, batch)) for batch in (1, 2))
    working = max(two - one - kept(few), 0) * (cells / few) ** 2
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    averaged = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    states = next((n for name, n in OPTIMIZER_STATES.items() if name.lower() == optimizer.lower()), MOST_STATES)
    state = (1 + states) * trained + averaged
    return Prediction(round(kept(cells)), round(working), max(2 * one - two, 0), state)


def cpu_batch(prediction: Prediction, free: int, images: int, wanted: float = -1, most: int = CPU_BATCH) -> int:
    """Return the batch that Ultralytics' ``batch=-1`` (or a fraction of the memory) stands for on a CPU.

    Args:
        prediction: of the training.
        free: free memory, bytes.
        images: images of the dataset.
        wanted: share of the free memory, 0 to 1; -1: :data:`FRACTION`.
        most: no batch is larger.

    Returns:
        Images, 1 at least.
    """
    fits = prediction.largest_batch(free, wanted if 0 < wanted < 1 else FRACTION)
    return max(min(fits, images, most), 1)
