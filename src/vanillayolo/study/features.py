"""``vanillayolo features``: what a detector's stages respond to, and where it sees a class, one picture per image.

As in the paper's figures of attention (arXiv 2305.12972, section 4.4): rows are detectors, columns the image, the mean
magnitude of the last map of every resolution, and a class attention map. That map is Layer-CAM (Jiang et al. 2021,
doi 10.1109/TIP.2021.3089943), of torchcam: positive gradients times activations, position by position. Grad-CAM
averages gradients over the image first, which fits one object per image, not detection.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from vanillayolo.atomic import whole_file
from vanillayolo.errors import UsageError
from vanillayolo.nn.hooks import listening
from vanillayolo.places import check_folder
from vanillayolo.values import checked, shown
from vanillayolo.yolo.arguments import fitting_imgsz
from vanillayolo.yolo.detectors import network, open_detector, stage_modules
from vanillayolo.yolo.inference import image_files, letterbox, read_image
from vanillayolo.yolo.pictures import channels_of

from .records import as_list

#: Resolutions shown, as strides; a detector without a map of one leaves its place empty.
STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Look:
    """What one detector makes of one image.

    Attributes:
        maps: mean magnitude over channels of the last map of each stride, ``[height, width]``.
        attention: class attention at the image's size, 0 to 1.
        class_name: the class it is of: the one asked for, or the surest.
        score: largest score of that class in the image.
    """

    maps: dict[int, np.ndarray]
    attention: np.ndarray
    class_name: str
    score: float


class ClassScores(nn.Module):
    """A detector whose output is one figure per class: the sum of its scores over all places, ``[batch, classes]``.

    Args:
        detector: an Ultralytics detection model.

    Attributes:
        largest: largest score of each class in the last call, ``[batch, classes]``.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector
        self.largest: Tensor | None = None
        self.logits: list[Tensor] = []
        branches = detector.model[-1].cv3
        if branches is None:
            raise UsageError("features: the network was folded for inference; give the checkpoint of its training.")
        for branch in branches:
            branch.register_forward_hook(lambda module, inputs, output: self.logits.append(output))

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[batch, 3, height, width]`` to ``[batch, classes]``."""
        self.logits.clear()
        self.detector(x)
        scores = torch.cat([level.flatten(2) for level in self.logits], 2).sigmoid()
        self.largest = scores.amax(2).detach()
        return scores.sum(2)


def class_index(names: Mapping[int, str], wanted: str | int | None) -> int | None:
    """Return the number of a class given by name or number.

    Raises:
        UsageError: for a class that the detector does not know.
    """
    if wanted is None:
        return None
    for index, name in names.items():
        if wanted in (index, name):
            return int(index)
    raise UsageError(f"wanted={shown(wanted)}: give a class that the detector knows: {', '.join(names.values())}.")


def look(detector: nn.Module, image: np.ndarray, imgsz: int, wanted: str | int | None = None) -> Look:
    """Return stage maps and class attention of one image.

    Args:
        detector: an Ultralytics detection model, ours or stock; it is not changed.
        image: BGR ``[height, width, 3]`` uint8, or of as many channels as the detector takes.
        imgsz: side of the letterboxed image, pixels.
        wanted: class by name or number; the surest where None.

    Raises:
        UsageError: when torchcam is missing, or the class is unknown.
    """
    try:
        from torchcam.methods import LayerCAM
    except ImportError:
        raise UsageError("features needs torchcam: pip install 'vanillayolo[study]'.") from None
    scores = ClassScores(copy.deepcopy(detector).float().eval().requires_grad_(True))
    names: Mapping[int, str] = scores.detector.names
    stages = stage_modules(scores.detector, imgsz)
    maps: dict[int, Tensor] = {}
    taps = [module for stride, module in stages.items() if stride >= 8]
    keep = listening(stages.items(), lambda stride, _, output: maps.__setitem__(stride, output))
    with keep, LayerCAM(scores, taps) as cam, torch.enable_grad():
        sums = scores(letterbox(image, imgsz).requires_grad_())
        assert scores.largest is not None
        index = class_index(names, wanted)
        index = int(scores.largest[0].argmax()) if index is None else index
        parts = [m[0].detach() for m in cam(index, sums)]
    resized = [F.interpolate(m[None, None], (imgsz, imgsz), mode="bilinear")[0, 0] for m in parts]
    attention = torch.stack(resized).nan_to_num().mean(0)
    return Look(
        {stride: m[0].detach().abs().mean(0).numpy() for stride, m in maps.items()},
        (attention / attention.max().clamp(min=1e-9)).numpy(),
        names[index],
        float(scores.largest[0, index]),
    )


def picture(image: np.ndarray, looks: Mapping[str, Look], imgsz: int) -> Figure:
    """Draw all detectors' looks at one image: a row each.

    Args:
        image: BGR ``[height, width, 3]`` uint8.
        looks: by the detector's label.
        imgsz: side of the letterboxed image, pixels.
    """
    square = letterbox(image, imgsz)[0].permute(1, 2, 0).numpy()
    columns = 2 + len(STRIDES)
    figure = Figure(figsize=(2.3 * columns, 2.35 * len(looks) + 0.5), layout="constrained", dpi=130)
    axes = figure.subplots(len(looks), columns, squeeze=False)
    for row, (label, seen) in zip(axes, looks.items(), strict=True):
        for ax in row:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        row[0].imshow(square)
        row[0].set_ylabel(label, fontsize=9)
        for ax, stride in zip(row[1:-1], STRIDES, strict=True):
            if stride in seen.maps:
                ax.imshow(seen.maps[stride], cmap="viridis", interpolation="nearest")
            else:
                ax.text(0.5, 0.5, "no map", ha="center", va="center", color="#888888", transform=ax.transAxes)
        row[-1].imshow(square)
        row[-1].imshow(seen.attention, cmap="inferno", alpha=0.25 + 0.55 * seen.attention)
        row[-1].set_xlabel(f"{seen.class_name}, score {seen.score:.2f}", fontsize=9)
    titles = ["image", *(f"stage at 1/{stride}" for stride in STRIDES), "class attention"]
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=10)
    return figure


def label(model: str) -> str:
    """Return a short label of a checkpoint: the run's folder where the file is only called best or last."""
    path = Path(model)
    parts = [p for p in path.parent.parts if p not in ("weights", "/", "..", ".")][-2:]
    return "\n".join(parts) if path.stem in ("best", "last") and parts else path.stem


@checked
def features(
    model: str | Sequence[str],
    source: str | Path,
    folder: str | Path = "features",
    imgsz: int = 640,
    wanted: str | int | None = None,
    most: int = 16,
) -> list[Path]:
    """Write one picture per image, all detectors in it, and return the files.

    Args:
        model: trained checkpoints, as a sequence or separated by commas.
        source: image, or folder of images.
        folder: where the pictures go.
        imgsz: side of the letterboxed image, pixels.
        wanted: class of the attention map by name or number; the surest of each image and detector where None.
        most: images taken from a folder, the first by name.

    Raises:
        UsageError: for a model without trained weights, or a class that a detector does not know.
        CheckpointError: for a checkpoint that is missing or damaged.
        DataError: when there is no image.
    """
    names = [str(m) for m in as_list(model, "model")]
    imgsz = fitting_imgsz(imgsz)
    for name in names:
        if Path(name).suffix != ".pt":
            raise UsageError(f"model={name}: its weights would be random; give trained checkpoints (best.pt).")
    files = image_files(source)[:most]
    check_folder("folder", folder)
    detectors = {name: network(open_detector(name)) for name in names}
    for detector in detectors.values():
        class_index(detector.names, wanted)
    labels = [label(name) for name in names]
    if len(set(labels)) < len(labels):
        labels = names
    target, stems = Path(folder), [file.stem for file in files]
    written = [target / f"{s if stems.count(s) == 1 else f'{s}-{i}'}.png" for i, s in enumerate(stems)]
    if lost := {path.resolve() for path in written} & {file.resolve() for file in files}:
        raise UsageError(f"folder={folder}: would replace {min(lost).name}, a picture of source=; give another folder.")
    for file, path in zip(files, written, strict=True):
        looks = {
            text: look(d, read_image(file, channels_of(d)), imgsz, wanted)
            for text, d in zip(labels, detectors.values(), strict=True)
        }
        target.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            picture(read_image(file), looks, imgsz).savefig(temporary, format="png")
    return written
