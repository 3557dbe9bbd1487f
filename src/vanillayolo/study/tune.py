"""``vanillayolo tune``: a search over networks and trainings, for accuracy and for measured latency at once."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vanillayolo import locks
from vanillayolo.cluster import check_ray
from vanillayolo.errors import UsageError
from vanillayolo.places import check_folder
from vanillayolo.values import check_value, checked, is_number, shown
from vanillayolo.yolo.arguments import check_verb, fitting_imgsz
from vanillayolo.yolo.datasets import resolve_data
from vanillayolo.yolo.detectors import merges, open_detector
from vanillayolo.yolo.sections import TRAIN_KEYS

from .halving import rungs
from .inputs import about_inputs
from .protocol import RESERVED, check_models, open_models
from .records import Record, keep_settings
from .search import Search, open_study, run_here
from .search_space import (
    AUTO_SETS,
    DEFAULT,
    NETWORK,
    TRAINING,
    Space,
    allowed_keys,
    candidate,
    distribution,
    meant,
    read_space,
)
from .tune_ray import run_on_ray

BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino-f32"}
ENGINES = {"local": run_here, "ray": run_on_ray}


def space_of(model: str, file: Any, fixed: Mapping[str, Any]) -> Space:
    """Return what is searched: the file's keys, or those of the table that the model has; without those fixed.

    Raises:
        UsageError: for a file that is none, or where nothing is left.
    """
    if file is not None:
        space = read_space(file, model)
    else:
        known = {*allowed_keys(model), *TRAINING}
        known -= set() if merges(open_detector(model)) else set(TRAIN_KEYS)
        known -= {"decay"} if model.endswith(".pt") else set()  # pairs that were joined are deep no more
        space = {key: distribution(key, key, given) for key, given in DEFAULT.items() if key in known}
    space = {key: span for key, span in space.items() if key not in fixed}
    if not space:
        raise UsageError("tune: every key of the space is given on the command; leave one to search.")
    return space


def milliseconds_of(latency: Any) -> float | None:
    """Return the number of ``12ms`` or 12."""
    return None if latency is None else float(str(latency).lower().removesuffix("ms"))


def settled(model: str, space: Space, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the user's keys of the network, and the settings of training, where all of them suit the space.

    Raises:
        UsageError: for a key or value that does not.
    """
    fixed = {key: meant(key, value) for key, value in settings.items() if key in NETWORK}
    for key, value in fixed.items():
        check_value(key, value, NETWORK[key])
        if key not in allowed_keys(model):
            raise UsageError(f"{key}={shown(value)}: model={model} does not let it change; give a model's name.")
    rest = {key: value for key, value in settings.items() if key not in NETWORK}
    for key in rest:
        if key in (*RESERVED, "cfg", "mode") and key != "pretrained":
            raise UsageError(f"tune: {key}= is set by the search for every candidate; leave it out.")
    if searched := [key for key in AUTO_SETS if key in space]:
        rest.setdefault("optimizer", "AdamW")
        if str(rest["optimizer"]).lower() == "auto" and "optimizer" not in space:
            raise UsageError(f"optimizer=auto sets {searched[0]} itself; give another, or fix {searched[0]}=.")
    return fixed, rest


@checked
def tune(
    model: str,
    data: str | Path,
    trials: int = 20,
    epochs: int = 30,
    imgsz: int = 320,
    batch: int = 8,
    seed: int = 0,
    folder: str | Path = "runs/tune",
    space: str | Path | None = None,
    latency: Any = None,
    backend: str = "onnx",
    engine: str = "local",
    rounds: int = 20,
    asha: bool = False,
    **settings: Any,
) -> Path:
    """Search networks and trainings for accuracy and latency; a call in the same folder goes on.

    Args:
        model: name, YAML file or checkpoint of a detector.
        data: data YAML with train and val.
        trials: candidates trained, those of earlier calls counted.
        epochs: length of every training.
        imgsz: side of the image, pixels.
        batch: images per step.
        seed: of the draws and of every training.
        folder: where everything goes.
        space: YAML of what is searched; see :func:`vanillayolo.study.search_space.read_space`.
        latency: milliseconds that a network may take (``12ms``); those predicted above are not trained.
        backend: a key of :data:`BACKENDS`: what the networks are timed in.
        engine: ``ray`` trains on a cluster, ``local`` in this process.
        rounds: of a timing.
        asha: end candidates early that are poor at 1/9 and 1/3 of the epochs.
        settings: keys of the network and of training that all candidates share.

    Returns:
        The folder, with ``tune.json``, ``tune.md`` and ``best.yaml``.

    Raises:
        VanillaYOLOError: for a model, dataset or setting that does not exist, or a folder of another search; nothing is
            written then.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("tune needs optuna: pip install 'vanillayolo[tune]' installs it.")
    if engine == "ray":
        check_ray()
    given = space_of(model, space, settings)
    fixed, training = settled(model, given, settings)
    shared = {"epochs": epochs, "imgsz": fitting_imgsz(imgsz), "batch": batch}
    training = {"pretrained": model.endswith(".pt"), **shared, **training}
    check_verb("tune", training, (*TRAIN_KEYS, *NETWORK, *inspect.signature(tune).parameters))
    if asha and not rungs(epochs):
        raise UsageError(f"asha=True: epochs={epochs} end before candidates are compared; give 3 or more.")
    opened, task = open_models([model])
    root, resolved = Path(folder).resolve(), resolve_data(data, task=task)
    check_folder("folder", root)
    check_models(opened, {k: v for k, v in training.items() if k != "pretrained"} | {"project": str(root)}, resolved)
    limit = milliseconds_of(latency)
    search = Search(root, model, resolved, given, fixed, training, seed, BACKENDS[backend], rounds, limit, asha)
    about = about_inputs(data, resolved, task, model, training.get("pretrained"))
    same = {"model": model, **about, "backend": backend, **_protocol(search)}
    if others := [path for path in root.glob("[!.]*") if not (root / "search.json").exists()]:
        raise UsageError(f"folder={folder}: holds {others[0].name}, and no search; give another.")
    return _run(search, same, trials, engine)


def _protocol(search: Search) -> Record:
    """Return what a call that goes on with a search has to have like the call that began it."""
    same = {**search.network, **search.training, "seed": search.seed, "latency": search.limit}
    same |= {"asha": True} if search.asha else {}
    return {**same, "space": {key: str(span) for key, span in search.space.items()}}


def _run(search: Search, same: Record, trials: int, engine: str) -> Path:
    """Run what is left of a search, alone in its folder, and write the report."""
    from .tune_report import write_report

    locks.take(search.root)
    try:
        keep_settings(search.root / "search.json", same)
        study = open_study(search.root)
        if not study.get_trials() and (first := base_values(search)):
            study.enqueue_trial(first)
        ENGINES[engine](search, study, trials)
        write_report(search, study, same)
    finally:
        locks.give(search.root)
    return search.root


def base_values(search: Search) -> dict[str, Any]:
    """Return the keys of the network, among those searched, as the model itself has them: the first candidate's."""
    if not allowed_keys(search.model):
        return {}
    cfg = candidate(search.model, search.network)
    own = {**cfg, "letter": cfg.get("scale"), "variant": cfg["family"]["variant"], "width_multiple": 1.0}
    own["act_num"] = cfg["backbone"][0][3][0].get("act_num")
    return {key: own[key] for key, span in search.space.items() if key in NETWORK and _holds(span, own.get(key))}


def _holds(span: Any, value: Any) -> bool:
    """Return whether a distribution has a value."""
    if hasattr(span, "choices"):
        return value in span.choices
    return is_number(value) and bool(span.low <= value <= span.high)
