"""``vanillayolo pretrain``: weights from generated pictures, with a card that says how to make them again."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from vanillayolo.data import SceneSettings, write_scenes
from vanillayolo.data.scenes.settings import GENERATOR_VERSION, LICENCE
from vanillayolo.errors import UsageError
from vanillayolo.places import check_folder
from vanillayolo.values import checked
from vanillayolo.yolo.arguments import check_verb, fitting_imgsz
from vanillayolo.yolo.detectors import network, open_detector, score, train_detector
from vanillayolo.yolo.model import VanillaDetectionModel
from vanillayolo.yolo.own_weights import card_of, is_own, write_start, write_weights
from vanillayolo.yolo.scene_training import StockSceneTrainer, VanillaSceneTrainer
from vanillayolo.yolo.sections import TRAIN_KEYS
from vanillayolo.yolo.threads import available_cores

from .latency import machine
from .protocol import check_models, elapsed, folder_name, learning_curve
from .records import Record, check_own, keep_settings, read_record

#: Pictures that are written to disk, and as many of them as validate.
WRITTEN, VALIDATING = 800, 400
#: How the training goes, where nobody says otherwise. Every picture is new: nothing is augmented.
SCHEDULE: dict[str, Any] = {
    **{"optimizer": "AdamW", "lr0": 3e-3, "lrf": 0.01, "cos_lr": True, "weight_decay": 0.01},
    # Ultralytics warms biases up, those of BN among them, at a rate of 0.1, which Adam takes whole; a pretraining that
    # had it lost channels for good (docs/pretraining_results.md).
    **{"warmup_epochs": 1.0, "warmup_bias_lr": 0.0, "close_mosaic": 0, "join": False, "patience": 0, "workers": 64},
    **{"plots": False, "verbose": False},
}
#: What the pictures and the stream decide.
RESERVED = (
    *("data", "project", "name", "exist_ok", "save_dir", "resume", "pretrained", "weights", "task", "fraction"),
    *("epochs", "single_cls", "freeze", "time", "mosaic", "rect", "cache"),
)


@checked
def pretrain(
    model: str = "yolo11n-vanillanet",
    pictures: int = 200_000,
    folder: str | Path | None = None,
    imgsz: int = 160,
    batch: int = 16,
    epoch: int = 5_000,
    seed: int = 0,
    classes: int = SceneSettings.classes,
    class_seed: int = SceneSettings.class_seed,
    objects: int = SceneSettings.objects,
    **settings: Any,
) -> Path:
    """Train a detector on generated pictures, or go on where an earlier call was stopped; return the weights' path.

    Args:
        model: name or YAML, ours or Ultralytics' own; a checkpoint goes on from its weights.
        pictures: to learn from, each seen once.
        folder: ``runs/pretrain/MODEL`` where not given.
        imgsz: side of the pictures, pixels; rounded up to a multiple of 32.
        batch: pictures a step.
        epoch: pictures between two validations and savings.
        seed: of the pictures, and of the network's first weights.
        classes: number of object classes.
        class_seed: of the formulas behind them.
        objects: most objects in a picture.
        settings: further training settings.

    Raises:
        VanillaYOLOError: for what does not exist, or a folder of other settings; nothing is written then.
    """
    check_own("pretrain", settings, RESERVED)
    if not batch <= epoch <= pictures:
        raise UsageError(f"pretrain: batch={batch}, epoch={epoch}, pictures={pictures}: give each no less than before.")
    imgsz, pictures, epoch, batch = map(int, (fitting_imgsz(imgsz), pictures, epoch, batch))  # 1e6 is a number, too
    scenes = SceneSettings(WRITTEN, imgsz, "detect", seed, classes, class_seed, objects, WRITTEN // VALIDATING)
    training = {"epochs": -(-pictures // epoch), "imgsz": imgsz, "batch": batch, "nbs": batch, "fraction": epoch}
    training |= {"seed": seed, **SCHEDULE, **settings}
    check_verb("train", training, TRAIN_KEYS)
    check_models({model: open_detector(model, ("detect",))}, training)
    name = folder_name(Path(model).stem if model.endswith((".pt", ".yaml", ".yml")) else model)
    root = check_folder("folder", folder or f"runs/pretrain/{name}")
    for part in ("train", "scenes"):
        check_folder("folder", root / part)
    same = {"model": model, "scenes": asdict(scenes), "training": training}
    if (root / "protocol.json").exists():
        keep_settings(root / "protocol.json", same)
    if not (target := root / f"{name}.safetensors").is_file() or not is_own(target):  # the card is written last
        write_weights(target, *learn(root, scenes, same))
    if not (start := start_of(target)).is_file():
        write_start(start, network(open_detector(root / "train" / "weights" / "last.pt")))
    return target


def start_of(weights: Path) -> Path:
    """Return what a network is fine-tuned from: ours from its weights, a stock one from the checkpoint beside them."""
    ours = read_record(card_of(weights), {"network": str})["network"] == VanillaDetectionModel.__name__
    return weights if ours else weights.with_suffix(".pt")


def learn(root: Path, scenes: SceneSettings, protocol: Record) -> tuple[Any, Record]:
    """Train on scenes, or go on, and return the network and its card: of what, how and where it was made, how good."""
    data = write_scenes(root / "scenes", scenes, workers=available_cores())  # refuses a folder of other files
    keep_settings(root / "protocol.json", protocol)
    model, training = protocol["model"], protocol["training"]
    train_detector(model, str(data), root / "train", training, (VanillaSceneTrainer, StockSceneTrainer))
    last = root / "train" / "weights" / "last.pt"
    trained = network(open_detector(last))
    return trained, {
        "network": type(trained).__name__,
        "model": model,
        "pictures": training["epochs"] * training["fraction"],
        "generator_version": GENERATOR_VERSION,
        "scenes": asdict(scenes),
        "training": training,
        "seconds": elapsed(learning_curve(root / "train" / "results.csv")["seconds"]),
        "val": {k: v for k, v in score(last, str(data), "val", training["imgsz"], root).items() if k != "per_class"},
        "licence": {"weights": "AGPL-3.0-or-later", "pictures": LICENCE},
        "date": date.today().isoformat(),
        "machine": machine(),
    }


def summary(weights: Path) -> str:
    """Return one line about finished weights."""
    said = read_record(card_of(weights), {"training": dict, "val": dict, "seconds": float})
    size, hours, accuracy = said["training"]["imgsz"], said["seconds"] / 3600, said["val"]["map50_95"]
    return (
        f"{weights} ({weights.stat().st_size / 1e6:.1f} MB): {said['pictures']:,} pictures of {size} px in "
        f"{hours:.1f} h, mAP50-95 {accuracy:.3f} on new ones; "
        f"fine-tune {said['model']} with pretrained={start_of(weights)}"
    )
