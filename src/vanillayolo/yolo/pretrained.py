"""Weights that a new network starts from: the authors' of ImageNet, or a whole detector's of our own making."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.utils import LOGGER, ONLINE, colorstr

from vanillayolo.data import cache_dir
from vanillayolo.errors import CheckpointError, closest, one_line
from vanillayolo.nn import VARIANTS, LoadReport, describe_weights, load_official_weights
from vanillayolo.nn.weights import read_tensors

from .families import Yaml
from .modules import VanillaClassify
from .own_weights import is_own, load_own, summary

#: The authors' release (https://github.com/huawei-noah/VanillaNet, MIT licence) and the files in it.
RELEASE = "https://github.com/huawei-noah/VanillaNet/releases/download/ckpt"
OFFICIAL = (*(f"vanillanet_{variant}.pth" for variant in VARIANTS), "vanillanet_13_act_num_4_kd_pretrain.pth")


def download(url: str, target: Path) -> None:
    """Fetch a file; it takes its name only when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(url, str(target), progress=False)


def find_weights(
    name: str | Path,
    online: bool | None = None,
    fetch: Callable[[str, Path], None] | None = None,
    key: str = "weights",
) -> Path:
    """Return the path of a weights file: the file itself, one of the cache folder, else the authors' release.

    Args:
        name: a path, or the name of an official file (``vanillanet_6.pth``).
        online: whether files may be fetched; what Ultralytics found out (``YOLO_OFFLINE=1`` says no) by default.
        fetch: how, for tests.
        key: the setting that names it.

    Raises:
        CheckpointError: saying where the file belongs, when it is neither here nor to be had.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path.resolve()
    cached = cache_dir() / "weights" / path.name
    if cached.is_file() and path.name == str(name):
        return cached
    if str(name) not in OFFICIAL:
        hint = closest(path.name, OFFICIAL) if path.name == str(name) else "correct the path"
        raise CheckpointError(f"{key}={str(name)!r}: no such file; {hint}")
    url = f"{RELEASE}/{path.name}"
    if not (ONLINE if online is None else online):
        raise CheckpointError(f"{key}={path.name}: not here and no network; fetch {url} and put it at {cached}")
    LOGGER.info(f"Fetching {url} to {cached}")
    try:
        (fetch or download)(url, cached)
    except OSError as error:  # urllib's errors and torch.hub's are of this class
        raise CheckpointError(
            f"{key}={path.name}: cannot fetch {url} ({one_line(error, 120)}); put the file at {cached}"
        ) from error
    return cached


def fit_yaml(cfg: Yaml, weights: str | Path) -> Yaml:
    """Return a copy of a model YAML whose backbone has the series activation (``act_num``) of the authors' weights."""
    cfg = copy.deepcopy(cfg)
    if is_own(weights):
        return cfg
    try:
        form = describe_weights(read_tensors(weights))
    except CheckpointError as error:
        text = str(error)
        raise CheckpointError(text if text.startswith(str(weights)) else f"{weights}: {text}") from None
    cfg["backbone"][0][3][0]["act_num"] = form.act_num
    return cfg


def official_view(model: Any) -> nn.Module:
    """Return the VanillaNet parts of a model under the names that weights files have: stem, stages, head.

    The parts are the model's own modules, not copies.
    """
    view, rows = nn.Module(), model.model
    view.stem, view.stages = rows[0].stem, rows[0].stages
    if isinstance(rows[-1], VanillaClassify):
        view.head = rows[-1]
    return view


def load_pretrained(model: Any, weights: str | Path, merged: bool = False) -> LoadReport:
    """Load official weights into the backbone, and the classifier where there is one that fits, and say what went in.

    Of a whole detector's weights, with a card beside them, all is taken that fits.

    Args:
        model: one of our detectors or classifiers in training form, at the file's ``act_num`` (see :func:`fit_yaml`).
        weights: a file, or the name of an official one.
        merged: take a classifier's file in merged form too, by merging the network first: it runs, but does not train.

    Raises:
        CheckpointError: when the file is of another network, in merged form, or nothing of it fits.
    """
    path = find_weights(weights)
    if is_own(path):
        report = load_own(model, path)
        LOGGER.info(f"{colorstr('weights:')} {summary(path, report)}")
        return report
    state = read_tensors(path)
    form = describe_weights(state)
    runs = merged and isinstance(model.model[-1], VanillaClassify)
    if form.form == "merged" and not runs:
        raise CheckpointError(
            f"{path}: in merged form, which does not train; give the file of the training form "
            "(a classifier runs as it is: val and predict)."
        )
    dims = [int(info["num_chs"]) for info in model.model[0].feature_info]
    if list(form.dims) != dims:
        raise CheckpointError(
            f"{path}: widths {list(form.dims)}, the model has {dims}; choose the model of the file's variant and width "
            "(official files: yolo11n-vanillanet-N-paper, vanillanet-N-cls)."
        )
    if form.form == "merged":
        model.fuse(verbose=False)
    report = load_official_weights(official_view(model), state)
    LOGGER.info(f"{path.name}: act_num {form.act_num}, {report}")
    for kind in ("missing", "unexpected", "shape"):
        if found := getattr(report, kind):
            LOGGER.info(f"{path.name}: {kind}: {', '.join(found[:4])}{', ...' if len(found) > 4 else ''}")
    return report
