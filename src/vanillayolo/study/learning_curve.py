"""``vanillayolo learning-curve``: how accurate a detector gets on 25, 50, 100, 200 of the user's pictures.

Each seed draws its own order of the training pictures and takes the first ones of it, so that a larger set holds the
smaller. A smaller set is listed as often as it takes to be as long as the largest: all trainings have the same steps.
"""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vanillayolo.atomic import write_whole
from vanillayolo.data.data_yaml import find_root, read_yaml
from vanillayolo.errors import UsageError
from vanillayolo.places import check_folder
from vanillayolo.tables import markdown
from vanillayolo.values import checked
from vanillayolo.yolo.arguments import check_verb
from vanillayolo.yolo.checks import check_start
from vanillayolo.yolo.datasets import resolve_splits
from vanillayolo.yolo.detectors import network, open_detector, score, train_detector
from vanillayolo.yolo.own_weights import packaged_weights
from vanillayolo.yolo.pretrained import find_weights
from vanillayolo.yolo.sections import TRAIN_KEYS

from .inputs import about_inputs, pictures_of
from .latency import machine
from .protocol import RESERVED, SCHEDULE, check_models, open_models
from .records import (
    Needs,
    Record,
    as_list,
    check_own,
    finished_runs,
    keep_settings,
    margin,
    read_record,
    write_record,
)
from .results import metric_names

#: Settings that the command makes itself.
OWN = (*RESERVED, "weights", "fraction")
#: More accuracy than a doubling of the pictures has to bring for them to be worth labelling.
WORTH = 0.01
#: What the record of a run is read for.
NEEDS: Needs = {"start": str, "pictures": int, "seed": int, "map50_95": float, "map50": float}


@checked
def learning_curve(
    data: str | Path,
    model: str = "yolo11n-vanillanet",
    sizes: Any = (25, 50, 100, 200),
    seeds: Any = (0, 1, 2),
    pretrained: str | Path | None = None,
    folder: str | Path = "runs/learning-curve",
    epochs: int = 40,
    imgsz: int = 320,
    batch: int = 8,
    **settings: Any,
) -> Path:
    """Train on growing parts of a dataset, from noise and from weights, skipping what is there; return the folder.

    Args:
        data: data YAML with train and val, and test where the figures shall be of images never looked at.
        model: name or YAML of a detector.
        sizes: numbers of pictures.
        seeds: of the parts and of the trainings.
        pretrained: weights: ``.safetensors`` for ours, a checkpoint for any; those of the package where not given.
        folder: where the runs go.
        epochs: over the largest part; smaller ones are seen as often as gives the same steps.
        imgsz: side of the image, pixels.
        batch: images a step.
        settings: further training settings.

    Raises:
        VanillaYOLOError: for what does not exist, or a folder of another protocol; nothing is written then.
    """
    parts, wanted = sorted(as_list(sizes, "sizes")), as_list(seeds, "seeds")
    check_own("learning-curve", settings, OWN)
    training = {"epochs": epochs, "imgsz": imgsz, "batch": batch, **settings}
    check_verb("train", training, TRAIN_KEYS)
    starts = starts_of(model, pretrained)
    opened, task = open_models([model])
    source, splits = resolve_splits(data, task)
    pictures = training_pictures(source, parts[-1])
    root = check_folder("folder", folder)
    for start in starts.values():
        check_models(opened, {**training, "pretrained": start, "project": str(root)}, source)
    finished_runs(root, NEEDS)
    order = itertools.product(wanted, parts, starts)
    runs = {check_folder("folder", root / f"{start}-{n}" / f"seed{seed}"): (seed, n, start) for seed, n, start in order}
    about = about_inputs(data, source, task, model, starts.get("weights"))
    same = {**about, "model": model, "sizes": parts, **SCHEDULE, **training}
    keep_settings(root / "protocol.json", same)
    for run, (seed, size, start) in runs.items():
        if not (run / "record.json").exists():
            subset = write_subset(root / "data", source, pictures, seed, size, parts[-1])
            given = {**training, "pretrained": starts[start], "seed": seed}
            train_part(model, subset, splits[-1], run, given, {"start": start, "pictures": size})
    return root


def train_part(model: str, data: Path, split: str, run: Path, settings: dict[str, Any], part: Record) -> None:
    """Train on a part of the pictures, or go on, and write how accurate the network is on a split."""
    best = train_detector(model, str(data), run, {**settings, "plots": False, "verbose": False})
    figures = score(best, str(data), split, settings["imgsz"], run)
    record = {**part, "seed": settings["seed"], "split": split, **figures, "machine": machine()}
    write_record(run / "record.json", record)
    print("{start}, {pictures} pictures, seed {seed}: mAP50-95 {map50_95:.3f}".format(**record), flush=True)


def starts_of(model: str, pretrained: str | Path | None) -> dict[str, Any]:
    """Return what trainings start from, as ``pretrained`` takes it: noise, and weights where there are any.

    Raises:
        UsageError: for a checkpoint: it would start from its own weights, and be called noise.
    """
    if model.endswith(".pt"):
        raise UsageError(f"learning-curve: model={model}: give a name or YAML; a checkpoint is what pretrained= takes.")
    if pretrained is not None:
        check_start(pretrained)
        return {"noise": False, "weights": str(find_weights(pretrained, key="pretrained"))}
    file = packaged_weights(network(open_detector(model)).yaml)
    return {"noise": False} if file is None else {"noise": False, "weights": str(file)}


def training_pictures(data: str, least: int = 0) -> list[str]:
    """Return the training pictures of a checked data YAML, in the order of their names.

    Raises:
        UsageError: where there are fewer than ``least``.
    """
    found = pictures_of(data, "train")
    if least > (most := len(found)):
        raise UsageError(f"sizes={least}: {Path(data).name} has {most} training pictures; give 1 to {most}.")
    return found


def write_subset(folder: Path, data: str, pictures: Sequence[str], seed: int, size: int, most: int) -> Path:
    """Write a data YAML whose training pictures are ``size`` of those given, listed until there are ``most``."""
    chosen = random.Random(seed).sample(pictures, len(pictures))[:size]
    listed = [chosen[i % size] for i in range(most)]
    content = yaml.safe_load(Path(data).read_text(encoding="utf-8"))
    listing = write_whole(folder / f"seed{seed}-{size}.txt", "".join(f"{Path(p).absolute()}\n" for p in listed))
    root = find_root(read_yaml(Path(data)), ("train",))
    return write_whole(
        folder / f"seed{seed}-{size}.yaml", yaml.safe_dump({**content, "path": str(root), "train": str(listing)})
    )


def gather(root: Path) -> Record:
    """Return mean, and the half width of the 95 % interval, of mAP50-95 and mAP50 by start and number of pictures."""
    found: dict[tuple[str, int], list[Record]] = {}
    for record in finished_runs(root, NEEDS).values():
        found.setdefault((record["start"], record["pictures"]), []).append(record)
    points = [
        {
            "start": start,
            "pictures": size,
            "seeds": [run["seed"] for run in runs],
            **{metric: _figure([run[metric] for run in runs]) for metric in ("map50_95", "map50")},
        }
        for (start, size), runs in sorted(found.items(), key=lambda item: (item[0][0], item[0][1]))
    ]
    return {"settings": read_record(root / "protocol.json"), "points": points, "machine": machine()}


def _figure(values: Sequence[float]) -> Record:
    return {"mean": statistics.fmean(values), "margin": margin(values), "values": list(values)}


def answer(points: Sequence[Record]) -> str:
    """Return, in plain words, what weights are worth in pictures, and whether more pictures would help."""
    curves: dict[str, dict[int, float]] = {}
    for point in points:
        curves.setdefault(point["start"], {})[point["pictures"]] = point["map50_95"]["mean"]
    lines = []
    noise = curves.get("noise", {})
    for size, accuracy in curves.get("weights", {}).items():
        equal = min((n for n, value in noise.items() if value >= accuracy), default=None)
        worth = f"as much as {equal} from noise" if equal else "more than any number here from noise"
        lines.append(f"{size} pictures from weights give {accuracy:.3f}, {worth}.")
    best = curves.get("weights", noise)
    if len(best) > 1:
        (before, low), (last, high) = list(best.items())[-2:]
        verdict = "more pictures will help" if high - low > WORTH else "more of the same will hardly help"
        lines.append(f"From {before} to {last} pictures mAP50-95 changes by {high - low:+.3f}: {verdict}.")
    return "\n".join(lines)


def report(root: Path, command: str) -> str:
    """Write ``curve.json`` and ``curve.md`` and return the text."""
    result = gather(root)
    names = metric_names(result)
    rows = [
        [p["start"], p["pictures"], len(p["seeds"]), *(_shown(p[m]) for m in ("map50_95", "map50"))]
        for p in result["points"]
    ]
    table = markdown(["start", "pictures", "seeds", names["map50_95"], names["map50"]], rows)
    text = f"{table}\n\n{answer(result['points'])}\n\nMean and 95 % interval over seeds. `{command}`\n"
    write_record(root / "curve.json", {**result, "command": command})
    write_whole(root / "curve.md", text)
    return text


def _shown(figure: Record) -> str:
    margin = figure["margin"]
    return f"{figure['mean']:.3f}" + ("" if margin is None else f" ± {margin:.3f}")
