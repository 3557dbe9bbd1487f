"""What pretrained detectors find on new generated pictures, by the size of the objects, with and without their class.

    vanillayolo pretrain model=yolo11n pictures=44000 folder=runs/pretrain/yolo11n ...
    python benchmarks/scene_recall.py runs/pretrain/yolo11n [FOLDER ...] --data chess.yaml [FILE ...]

reads the folders of `vanillayolo pretrain` and writes benchmarks/accuracy/scene_recall.json. An object is found where a
box of a score from 0.01 overlaps it by half; the pictures are those that validate the first folder's training. Beside
them stand length and rank of the networks' weights, and how large the objects of other data are in training.
"""

from __future__ import annotations

import argparse
import itertools
import json
from datetime import date
from pathlib import Path

import numpy as np
import torch
from plasticity import described
from ultralytics.utils.metrics import box_iou

from vanillayolo.study.latency import machine
from vanillayolo.valid_json import json_text
from vanillayolo.yolo.datasets import resolve_data
from vanillayolo.yolo.detectors import open_detector
from vanillayolo.yolo.inference import dataset_images

RECORD = Path(__file__).parent / "accuracy" / "scene_recall.json"
#: Sides of objects, the root of their box's area, in pixels.
EDGES = (0, 6, 10, 16, 24, 40, 160)


def labels_of(picture: Path, size: int) -> np.ndarray:
    """Return class, x1, y1, x2, y2 of a picture's objects, pixels; ``[objects, 5]``."""
    text = picture.parents[2] / "labels" / picture.parent.name / f"{picture.stem}.txt"
    rows = np.array([line.split()[:5] for line in text.read_text().splitlines()], float).reshape(-1, 5)
    half = rows[:, 3:] / 2
    return np.hstack([rows[:, :1], (rows[:, 1:3] - half) * size, (rows[:, 1:3] + half) * size])


def quartiles(labels: list[np.ndarray]) -> list[float]:
    """Return the quartiles of the objects' sides, in the unit of their boxes."""
    rows = np.concatenate(labels)
    return (
        np.quantile(np.sqrt((rows[:, 3] - rows[:, 1]) * (rows[:, 4] - rows[:, 2])), [0.25, 0.5, 0.75]).round(1).tolist()
    )


def recall(checkpoint: Path, pictures: list[Path], size: int) -> dict[str, list[float]]:
    """Return objects, and the shares of them found as any class and as their own, by size."""
    detector = open_detector(checkpoint)
    counts = np.zeros((3, len(EDGES) - 1))
    for picture in pictures:
        truth = labels_of(picture, size)
        (found,) = detector.predict(str(picture), imgsz=size, conf=0.01, max_det=300, verbose=False, save=False)
        boxes, classes = found.boxes.xyxy.cpu(), found.boxes.cls.cpu().numpy()
        near = box_iou(torch.tensor(truth[:, 1:], dtype=torch.float32), boxes).numpy() >= 0.5
        sides = np.sqrt((truth[:, 3] - truth[:, 1]) * (truth[:, 4] - truth[:, 2]))
        for row, place, own in zip(near, np.digitize(sides, EDGES[1:-1]), truth[:, 0], strict=True):
            counts[:, place] += [1, row.any(), (row & (classes == own)).any()]
    shares = (counts[1:] / counts[0].clip(1)).round(3).tolist()
    return {"objects": counts[0].astype(int).tolist(), "any_class": shares[0], "own_class": shares[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--imgsz", type=int, default=320, help="of a training on the data")
    given = parser.parse_args()
    protocols = [json.loads((folder / "protocol.json").read_text()) for folder in given.folders]
    size = protocols[0]["training"]["imgsz"]
    pictures = sorted((given.folders[0] / "scenes" / "images" / "val").iterdir())
    found = []
    for folder, protocol in zip(given.folders, protocols, strict=True):
        (card,) = (path for path in folder.glob("*.json") if path.name != "protocol.json")
        about = json.loads(card.read_text())
        keys = ("model", "pictures", "val", "training")
        last = folder / "train" / "weights" / "last.pt"
        rows = recall(last, pictures, size) | {"layers": described(last)}
        found.append({key: about[key] for key in keys} | {"objects_setting": protocol["scenes"]["objects"], **rows})
        print(found[-1]["model"], rows["any_class"], rows["own_class"])
    edges = [f"{a} to {b}" for a, b in itertools.pairwise(EDGES)]
    sides = {"scenes": {"imgsz": size, "quartiles": quartiles([labels_of(p, size) for p in pictures])}}
    for data in given.data:
        labels = [labels_of(path, given.imgsz) for path in dataset_images(resolve_data(data, ("train",)), "train")]
        sides[Path(data).stem] = {"imgsz": given.imgsz, "quartiles": quartiles(labels)}
    record = {"sides": edges, "size": size, "pictures": len(pictures), "objects": sides, "networks": found}
    RECORD.write_text(json_text({**record, "date": date.today().isoformat(), "machine": machine()}))


if __name__ == "__main__":
    main()
