"""``vanillayolo compare``: every model under one protocol, run by run, to be collected in pieces.

Data, seeds, schedule, augmentation, image size and start are the same for all; a name starts from random weights, a
checkpoint in place of a name from its own. Each run has a folder; ``record.json`` in it is written whole when the run
has ended, and is what a later call skips. The test split is opened when every run that was asked for has ended, not
before.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from vanillayolo.deploy.collapse import collapse
from vanillayolo.errors import UsageError
from vanillayolo.places import check_folder
from vanillayolo.values import checked
from vanillayolo.yolo.arguments import check_training, check_verb, fitting_imgsz
from vanillayolo.yolo.checks import checked_train
from vanillayolo.yolo.datasets import resolve_splits
from vanillayolo.yolo.detectors import (
    merges,
    network,
    open_detector,
    score,
    settings_for,
    train_detector,
    training_network,
)
from vanillayolo.yolo.distillation import check_teacher
from vanillayolo.yolo.inference import trace_onnx
from vanillayolo.yolo.interface import VanillaModel
from vanillayolo.yolo.memory import activation_bytes
from vanillayolo.yolo.model import fold_stock
from vanillayolo.yolo.own_weights import packaged_weights
from vanillayolo.yolo.process import check_ranks
from vanillayolo.yolo.sections import TRAIN_KEYS
from vanillayolo.yolo.tasks import TASKS
from vanillayolo.yolo.updates import UPDATES

from .cost import both_forms
from .inputs import about_inputs, files_of
from .latency import check_backends, latency, machine, supported
from .records import USUAL, Needs, Record, as_list, check_own, finished_runs, keep_settings, read_record, write_record

#: Settings that the protocol itself makes: one model's own would be another protocol.
RESERVED = ("model", "project", "name", "exist_ok", "save_dir", "resume", "pretrained", "seed", "data", "split", "task")
#: Written into the protocol: runs of another number of updates are not mixed with today's.
SCHEDULE = {"updates": UPDATES}
#: What the record of a run is read for.
NEEDS: Needs = {
    **{"model": str, "seed": int, "shipped": str, "val": dict, "cost": dict, "curve": dict, "machine": dict},
    **{"training_seconds": float, "saved_bytes": float},
}
DEFAULT_BACKENDS = supported(("onnxruntime", "openvino-f32", "openvino-bf16"))


def folder_name(model: str) -> str:
    """Return a model's name, or path, as the name of a folder."""
    return re.sub(r"[^\w.-]+", "_", model.removesuffix(".yaml")).strip("._")


def learning_curve(results: Path, task: str = USUAL) -> dict[str, list[float]]:
    """Read the task's mAP50 and mAP50-95, and training loss, of every epoch from Ultralytics' ``results.csv``."""
    letter = TASKS[task].letter
    with results.open(encoding="utf-8") as file:
        rows = [{k.strip(): v for k, v in row.items()} for row in csv.DictReader(file)]
    losses = [key for key in rows[0] if key.startswith("train/")] if rows else []
    return {
        "map50": [float(row[f"metrics/mAP50({letter})"]) for row in rows],
        "map50_95": [float(row[f"metrics/mAP50-95({letter})"]) for row in rows],
        "train_loss": [sum(float(row[key]) for key in losses) for row in rows],
        "seconds": [float(row["time"]) for row in rows],
    }


def elapsed(seconds: Sequence[float]) -> float:
    """Return the length of a training from its clock at the end of every epoch; resuming sets the clock back to 0."""
    ends = [t for t, after in itertools.pairwise(seconds) if after < t]
    return sum(ends) + (seconds[-1] if seconds else 0.0)


def run_one(
    model: str,
    seed: int,
    data: str,
    folder: Path,
    settings: dict[str, Any],
    each_epoch: Callable[[Any], None] | None = None,
) -> Record:
    """Train (or finish) one run, collapse it where it collapses, score what ships on val, and return the record."""
    training = {**settings, "seed": seed, "plots": False, "verbose": False}
    best = train_detector(model, data, folder, training, each_epoch=each_epoch)
    trained = open_detector(best)
    shipped, equality = best, None
    if merges(trained):
        collapsed = collapse(best, data=data, imgsz=settings["imgsz"])
        shipped, equality = collapsed.checkpoint, collapsed.equality and collapsed.equality.to_dict()
    curve = learning_curve(folder / "results.csv", str(trained.task))
    forms = both_forms(network(trained), settings["imgsz"])
    return {
        "model": model,
        "files": files_of(model),
        "seed": seed,
        "shipped": shipped.relative_to(folder).as_posix(),
        "val": score(shipped, data, "val", settings["imgsz"], folder),
        "equality": equality,
        "cost": {form: vars(cost) for form, cost in forms.items()},
        "saved_bytes": activation_bytes(training_network(model, settings), settings["imgsz"], settings["batch"]),
        "training_seconds": elapsed(curve.pop("seconds")),
        "curve": curve,
        "machine": machine(),
    }


def measure_latency(root: Path, runs: dict[str, Path], imgsz: int, backends: Sequence[str], rounds: int) -> Record:
    """Time what ships of every model, all in one run in turns; one more model or setting measures all of them anew.

    Args:
        root: where ``latency.json`` goes.
        runs: folder of one finished run by model.
        imgsz: side of the image, pixels.
        backends: keys of ``vanillayolo.study.latency.BACKENDS``.
        rounds: counted rounds.
    """
    path = root / "latency.json"
    if path.exists():
        known = read_record(path, {"milliseconds": dict})
        same = {"imgsz": imgsz, "rounds": rounds}.items() <= known.items()
        if same and all(set(runs) == set(known["milliseconds"].get(b, {})) for b in backends):
            return known
    files = {}
    for model, folder in runs.items():
        record = read_record(folder / "record.json")
        detector = network(open_detector(folder / record["shipped"])).float().eval()
        files[model] = trace_onnx(fold_stock(detector), folder / "weights" / "shipped.onnx", imgsz)
    record = {"date": date.today().isoformat(), **latency(files, backends, imgsz, rounds)}
    write_record(path, record)
    return record


def open_models(models: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Return models by name, each built once, and the task that all of them have.

    Raises:
        UsageError: where they have several.
        ModelNameError: for a name that describes no detector.
        CheckpointError: for a checkpoint that is missing or damaged.
    """
    opened = {model: open_detector(model) for model in models}
    first, *others = opened
    for other in others:
        if opened[other].task != opened[first].task:
            here, there = (TASKS[str(opened[model].task)].verb for model in (first, other))
            raise UsageError(f"models: {first} is there to {here}, {other} to {there}; give models of one task.")
    return opened, str(opened[first].task)


def check_models(opened: Mapping[str, Any], settings: dict[str, Any], data: str | None = None) -> None:
    """Ask whether the settings, and data that are there, suit every model; nothing is written.

    Raises:
        UsageError: when two would share a folder.
        CheckpointError: for a checkpoint that is missing or damaged.
    """
    folders: dict[str, str] = {}
    for model, detector in opened.items():
        built = network(detector)
        if settings.get("pretrained") is True and not model.endswith(".pt") and packaged_weights(built.yaml) is None:
            raise UsageError(
                f"pretrained=true: {model} has no weights in the package; give a checkpoint of it, made by "
                "'vanillayolo pretrain', or leave pretrained= out."
            )
        if isinstance(detector, VanillaModel):
            check_training(built, model, settings)
            given = {"pretrained": model.endswith(".pt"), **settings_for(detector, settings)}
            if teacher := given.get("distill_model"):
                check_teacher(teacher, built)
            if data is not None:
                checked_train(detector, None, {**given, "data": data})
        elif isinstance(weights := settings.get("pretrained"), str):
            network(open_detector(weights))
        if (other := folders.setdefault(folder_name(model), model)) != model:
            raise UsageError(f"models {other} and {model} would share a folder; rename one of them.")


def processes(settings: dict[str, Any]) -> dict[str, int]:
    """Return how many processes train with these settings, if several: earlier versions did not join pairs there."""
    device = settings.get("device")
    count = len(device if isinstance(device, (list, tuple)) else str(device).split(","))
    return {"processes": count} if count > 1 else {}


@checked
def compare(
    models: str | Sequence[str],
    data: str | Path,
    seeds: Any = (0, 1, 2),
    folder: str | Path = "runs/compare",
    epochs: int = 60,
    imgsz: int = 320,
    batch: int = 8,
    backends: str | Sequence[str] | None = DEFAULT_BACKENDS,
    rounds: int = 20,
    pretrained: bool = False,
    **settings: Any,
) -> Path:
    """Train, score and time every model with every seed, skipping what is there already; return the folder.

    Args:
        models: names, YAML files or checkpoints of one task, as a sequence or separated by commas.
        data: data YAML of their task with train and val, and test where the final figures shall be of images never
            looked at.
        seeds: seeds; the models of one seed are trained before the next seed begins.
        folder: where the runs go; all in it share one protocol.
        epochs: length of every training.
        imgsz: side of the image, pixels.
        batch: images per step.
        backends: keys of ``vanillayolo.study.latency.BACKENDS``; ``none`` measures no latency.
        rounds: rounds of the latency.
        pretrained: names start from the weights in the package, not from noise; a checkpoint starts from its own.
        settings: further training settings, the same for all; ours are given to ours.

    Raises:
        VanillaYOLOError: for what does not exist, or a folder of another protocol; nothing is written then.
    """
    check_ranks("compare")
    names, wanted = [str(m) for m in as_list(models, "models")], as_list(seeds, "seeds")
    timed = [] if backends is None else [str(b) for b in as_list(backends, "backends")]
    check_own("compare", settings, RESERVED)
    check_backends(timed)
    start = {"pretrained": True} if pretrained else {}
    shared = {"epochs": epochs, "imgsz": fitting_imgsz(imgsz), "batch": batch, **start, **settings}
    check_verb("train", shared, TRAIN_KEYS)
    opened, task = open_models(names)
    checked, splits = resolve_splits(data, task)
    root = check_folder("folder", folder)
    check_models(opened, {**shared, "project": str(root)}, checked)
    runs = {(m, s): root / folder_name(m) / f"seed{s}" for s in wanted for m in names}
    done = finished_runs(root, NEEDS)
    for (model, _), run in runs.items():
        if done.get(run, {}).get("files", files_of(model)) != files_of(model):
            raise UsageError(f"models={model}: changed since {run} was trained from it; give another folder=.")
    about = {**about_inputs(data, checked, task), **SCHEDULE, **processes(shared)}
    keep_settings(root / "protocol.json", {**about, **shared})
    run_all(runs, checked, shared, "test" in splits)
    if timed:
        every = {record["model"]: run for run, record in reversed(finished_runs(root).items())}  # earlier calls' too
        measure_latency(root, every | {m: runs[m, wanted[0]] for m in names}, shared["imgsz"], timed, rounds)
    return root


def run_all(runs: Mapping[tuple[str, int], Path], data: str, settings: dict[str, Any], tested: bool) -> None:
    """Train what has not ended yet; then, where there is a test split, score on it what has not been.

    Args:
        runs: folder by model and seed.
        data: checked data YAML.
        settings: of the training.
        tested: whether the data have a test split.
    """
    for (model, seed), run in runs.items():
        if not (run / "record.json").exists():
            write_record(run / "record.json", run_one(model, seed, data, run, settings))
            print(f"{model} seed {seed}: {run / 'record.json'}", flush=True)
    for run in runs.values() if tested else ():
        record = read_record(run / "record.json")
        if "test" not in record:
            test = score(run / record["shipped"], data, "test", settings["imgsz"], run)
            write_record(run / "record.json", {**record, "test": test})
