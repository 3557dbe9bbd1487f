"""What comparing networks needs of Ultralytics: its preprocessing, its box suppression, its checkpoint format."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from ultralytics import __version__ as ultralytics_version
from ultralytics.data.augment import LetterBox, classify_transforms
from ultralytics.data.utils import IMG_FORMATS, check_det_dataset
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.utils.nms import non_max_suppression

from vanillayolo.errors import DataError
from vanillayolo.nn import randomize_batchnorm

from .exporting import with_distribution_mean


def image_files(folder: str | Path) -> list[Path]:
    """Return the images of a folder (or the one image given), sorted.

    Raises:
        DataError: when there is none.
    """
    root = Path(folder)
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.suffix[1:].lower() in IMG_FORMATS)
    if not files:
        raise DataError(f"{folder}: no images there; allowed are {', '.join(sorted(IMG_FORMATS))}.")
    return files


def dataset_images(data: str, split: str = "val") -> list[Path]:
    """Return the images of one split of a (checked) data YAML or classification folder, as Ultralytics resolves it.

    Raises:
        DataError: when the split is missing or empty.
    """
    if Path(data).is_dir():  # a classification folder
        return image_files(Path(data) / split)
    try:
        where = check_det_dataset(data, autodownload=False).get(split)
    except (FileNotFoundError, SyntaxError, RuntimeError) as error:
        raise DataError(f"data={data!r}: {' '.join(str(error).split())[:160]}") from error
    if not where:
        raise DataError(f"data={data!r} has no split {split!r}.")
    files: list[Path] = []
    for entry in where if isinstance(where, list) else [where]:
        listed = Path(entry)
        files += [Path(line) for line in listed.read_text().split()] if listed.suffix == ".txt" else image_files(listed)
    return files


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as BGR ``[height, width, 3]`` uint8.

    Raises:
        DataError: when it cannot be decoded.
    """
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)  # imread fails on non-ASCII Windows paths
    if image is None:
        raise DataError(f"{path}: not a readable image.")
    return np.asarray(image)


def letterbox(image: np.ndarray, imgsz: int | tuple[int, int]) -> Tensor:
    """Return the network's input ``[1, 3, height, width]``: letterboxed (grey 114, centred), RGB, divided by 255.

    Args:
        image: BGR ``[height, width, 3]`` uint8.
        imgsz: side of a square, or height and width, pixels.
    """
    boxed = LetterBox((imgsz, imgsz) if isinstance(imgsz, int) else imgsz)(image=image)
    return torch.from_numpy(np.ascontiguousarray(boxed[..., ::-1].transpose(2, 0, 1))).float()[None] / 255


def cropped(image: np.ndarray, imgsz: int) -> Tensor:
    """Return a classifier's input ``[1, 3, imgsz, imgsz]``: the shorter side to ``imgsz``, the centre, RGB, 0 to 1."""
    rgb = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    return torch.as_tensor(classify_transforms(imgsz)(rgb))[None].float()


def raw_output(model: nn.Module, x: Tensor) -> Tensor:
    """Return a detector's decoded output ``[batch, 4 + classes, anchors]``: xywh in pixels, scores."""
    with torch.inference_mode():
        out = model(x)
    return out[0] if isinstance(out, (tuple, list)) else out


def suppress(raw: Tensor, conf: float = 0.25, iou: float = 0.7) -> list[Tensor]:
    """Return the boxes ``[n, 6]`` (xyxy pixels, score, class) of every image after non-maximum suppression."""
    boxes: list[Tensor] = non_max_suppression(raw, conf, iou, max_time_img=1.0)
    return boxes


def checkpoint(model: nn.Module, extra: dict[str, Any], train_args: dict[str, Any]) -> dict[str, Any]:
    """Return Ultralytics' checkpoint dict around a model: what ``YOLO(file)`` reads."""
    return {
        "epoch": -1,
        "best_fitness": None,
        "model": model,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": train_args,
        "date": datetime.now().astimezone().isoformat(),
        "version": ultralytics_version,
        "license": "AGPL-3.0-or-later (https://www.gnu.org/licenses/agpl-3.0.html)",
        **extra,
    }


def stack(images: Sequence[np.ndarray], imgsz: int) -> Tensor:
    """Return several images as one input ``[batch, 3, imgsz, imgsz]``."""
    return torch.cat([letterbox(image, imgsz) for image in images])


def stock_model(name: str) -> Any:
    """Return one of Ultralytics' own detectors (``yolo11n``), freshly initialised."""
    return DetectionModel(yaml_model_load(f"{name}.yaml"), verbose=False)


def write_onnx(model: str, path: str | Path, imgsz: int, fused: bool = True) -> Path:
    """Write a network, ours or stock (``yolo11n``), freshly initialised, as static ONNX of batch 1.

    For measuring latency. BN statistics are random: through fresh ones the signal of a deep untrained network shrinks
    until arithmetic on denormal numbers is all that is timed. ``fused=False`` leaves a VanillaNet backbone in training
    form, its neck folded, which is how the published model is run.
    """
    from .architecture import is_model_name
    from .model import VanillaDetectionModel, fold_stock

    ours = is_model_name(model) or model.endswith((".yaml", ".yml"))
    detector: Any = VanillaDetectionModel(model, verbose=False) if ours else stock_model(model)
    randomize_batchnorm(detector)
    detector = (detector.fuse(verbose=False) if fused else fold_stock(detector)).eval()
    return trace_onnx(detector, path, imgsz)


def trace_onnx(detector: Any, path: str | Path, imgsz: int) -> Path:
    """Write a folded detector, in evaluation mode, as static ONNX of batch 1, with the decode of our files."""
    detector = with_distribution_mean(copy.deepcopy(detector))
    detector.model[-1].export, detector.model[-1].format = True, "onnx"
    image = torch.zeros(1, 3, imgsz, imgsz)
    detector(image)  # the head makes its anchors in the first call
    torch.onnx.export(
        detector, (image,), str(path), opset_version=18, input_names=["images"], output_names=["output0"], dynamo=False
    )
    return Path(path)
