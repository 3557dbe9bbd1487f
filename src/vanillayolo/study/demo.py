"""The main job, in minutes: make labelled scenes, fine-tune, validate, collapse, predict."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vanillayolo.data import SceneSettings, write_scenes
from vanillayolo.deploy import Collapsed, collapse
from vanillayolo.errors import UsageError
from vanillayolo.places import check_folder
from vanillayolo.values import checked
from vanillayolo.yolo import VanillaModel
from vanillayolo.yolo.architecture import name_for_task
from vanillayolo.yolo.detectors import network
from vanillayolo.yolo.tasks import TASKS
from vanillayolo.yolo.threads import available_cores

#: Chosen so that two cores finish in two minutes. The classes are others than those of pretraining.
SCENES: dict[str, Any] = {
    **{"pictures": 220, "val_every": 11, "size": 160, "classes": 3, "class_seed": 1, "objects": 5, "plain": True}
}
SHOWN = 480  # side of a picture with its boxes, pixels
TRAINING: dict[str, Any] = {
    "epochs": 12,
    "imgsz": 160,
    "batch": 8,
    "nbs": 8,
    "optimizer": "AdamW",
    "lr0": 2e-3,  # so few steps want a larger rate than Ultralytics' own choice, 1.1e-3
    "seed": 0,
    "mosaic": 0.0,
    "warmup_epochs": 1.0,
    "warmup_bias_lr": 0.0,
}


@dataclass
class Demo:
    """What the demo ends with.

    Attributes:
        untrained: mAP50-95 of the network before training.
        map50: mAP50 of the collapsed file, validated from disk.
        map: mAP50-95 of the same.
        training_map: mAP50-95 of the checkpoint it was collapsed from.
        collapsed: the collapse and its record.
        sizes: checkpoint bytes before and after.
        pictures: detections, labels and curves.
        seconds: all of it.
    """

    untrained: float
    map50: float
    map: float
    training_map: float
    collapsed: Collapsed
    sizes: tuple[int, int]
    pictures: list[Path]
    seconds: float

    def __str__(self) -> str:
        """Return the result as the lines that end the demo."""
        before, after = self.collapsed.parameters
        return "\n".join(
            [
                "",
                f"mAP50-95 untrained   {self.untrained:.3f}",
                f"mAP50-95 trained     {self.training_map:.3f}",
                f"mAP50-95 collapsed   {self.map:.3f}   (mAP50 {self.map50:.3f}, the file validated from disk)",
                f"merge error          {self.collapsed.equality}",
                f"parameters           {before:,} in training form, {after:,} merged",
                f"file                 {self.sizes[0] / 1e6:.1f} MB (float16, training form), "
                f"{self.sizes[1] / 1e6:.1f} MB (float32, merged): {self.collapsed.checkpoint}",
                *(f"picture              {p}" for p in self.pictures),
                f"time                 {self.seconds:.0f} s",
            ]
        )


def montage(pictures: list[Any], out: Path, columns: int = 3) -> Path:
    """Write pictures of one size, BGR ``[height, width, 3]``, as one, ``columns`` in a row."""
    rows = [np.hstack(pictures[i : i + columns]) for i in range(0, len(pictures), columns)]
    cv2.imwrite(str(out), np.vstack(rows))
    return out


def make_room(folder: str | Path) -> Path:
    """Remove what an earlier demo left in a folder, and return it.

    Raises:
        UsageError: where it holds other files, or nothing can be written.
    """
    root = check_folder("folder", folder)
    ours = (root / "scenes" / "scenes.json").is_file()  # perhaps an older version's
    if any(root.glob("[!.]*")) and not ours:
        raise UsageError(f"folder={folder}: holds other files, and a demo replaces train and val; give a new one.")
    for old in ("train", "val", "val-untrained", *(["scenes"] if ours else [])):
        shutil.rmtree(root / old, ignore_errors=True)
    return root


@checked
def demo(
    folder: str | Path = "demo",
    model: str = "yolo11n-vanillanet",
    epochs: int = TRAINING["epochs"],
    task: str | None = None,
) -> Demo:
    """Run the main job on data of the package's own making.

    Args:
        folder: where everything goes; what an earlier demo left there is replaced.
        model: any model name.
        epochs: length of the training.
        task: what is found: detect, segment, pose or obb; the model's own where not given.
    """
    begin = time.perf_counter()
    model = name_for_task(model, task)
    detector = VanillaModel(model, task=task)  # what cannot run is told before anything is written
    row = TASKS[str(detector.task)]
    if not row.finds_boxes:
        raise UsageError(f"model={model}: made for task={detector.task}; give a detector, like yolo11n-vanillanet.")
    network(detector)  # an exported file has none, and does not train
    root = make_room(folder)
    data = write_scenes(root / "scenes", SceneSettings(**SCENES, task=str(detector.task)), workers=available_cores())
    common: dict[str, Any] = {"project": str(root), "exist_ok": True, "verbose": False}
    imgsz = TRAINING["imgsz"]

    untrained = VanillaModel(model).val(data=str(data), imgsz=imgsz, name="val-untrained", plots=False, **common)
    detector.train(data=str(data), name="train", **{**TRAINING, "epochs": epochs}, **common)
    best = Path(detector.trainer.best)
    trained = getattr(detector.metrics, row.metric).map

    result = collapse(best)
    deployed = VanillaModel(result.checkpoint)
    metrics = deployed.val(data=str(data), imgsz=imgsz, name="val", **common)
    before, after = (getattr(found, row.metric) for found in (untrained, metrics))
    images = sorted((data.parent / "images" / "val").iterdir())[:6]
    shown = [cv2.resize(cv2.imread(str(p)), (SHOWN, SHOWN), interpolation=cv2.INTER_CUBIC) for p in images]
    found = deployed.predict(shown, imgsz=imgsz, conf=0.5, verbose=False)
    picture = montage([result.plot(line_width=2) for result in found], root / "detections.png")
    pictures = [picture, root / "train" / "results.png", root / "val" / "confusion_matrix_normalized.png"]
    return Demo(
        untrained=float(before.map),
        map50=float(after.map50),
        map=float(after.map),
        training_map=float(trained),
        collapsed=result,
        sizes=(best.stat().st_size, result.checkpoint.stat().st_size),
        pictures=[p for p in pictures if p.exists()],
        seconds=time.perf_counter() - begin,
    )
