"""What a checkpoint is good for: undamaged, to be trained on, to be resumed."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from ultralytics import __version__ as ultralytics_version
from ultralytics.nn.modules import Detect
from ultralytics.nn.tasks import BaseModel, DetectionModel
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER, ROOT, YAML

from vanillayolo.data.folders import class_folders
from vanillayolo.errors import CheckpointError, DataError, UsageError
from vanillayolo.nn import is_merged
from vanillayolo.nn.deep_training import deep_pairs
from vanillayolo.values import NONE, SHARE, Kind, check_value, check_values, is_number, several, shown, whole

from .merging import MergingMixin, student
from .pictures import channels_of


def check_undamaged(path: Path) -> None:
    """Raise CheckpointError when bytes of a checkpoint changed since it was written: torch would load them silently."""
    if path.suffix == ".pt" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            try:
                damaged = archive.testzip()
            except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
                damaged = str(error)
        if damaged:
            raise CheckpointError(f"{path}: not a loadable checkpoint (damaged at {damaged}); copy or train it again.")


def is_table(value: Any) -> bool:
    """Return whether a value holds columns of one length, by name."""
    columns: list[Any] = list(value.values()) if isinstance(value, dict) else [None]
    return all(isinstance(column, list) for column in columns) and len({len(column) for column in columns}) <= 1


def is_optimizer(state: Any) -> bool:
    """Return whether a value is built like the state of one of torch's optimizers."""
    groups = state.get("param_groups") if isinstance(state, dict) else None
    listed = isinstance(groups, list) and all(isinstance(group, dict) for group in groups)
    return listed and isinstance(state.get("state"), dict)


#: What the state of an interrupted training holds beside its network.
STATE: dict[str, Kind] = {
    "epoch": whole(-1),
    "updates": whole(0, 10**12) | NONE,
    "best_fitness": Kind("a number", is_number) | NONE,
    "optimizer": Kind("an optimizer's state", is_optimizer),
    "scaler": Kind("a dictionary", lambda v: isinstance(v, dict)) | NONE,
    "stopper": Kind("a dictionary", lambda v: isinstance(v, dict)) | NONE,
    "train_args": Kind("a dictionary", lambda v: isinstance(v, dict)),
    "train_results": Kind("columns of numbers", is_table) | NONE,
}
#: Keys of a training's arguments that are not settings.
NO_SETTINGS = {"save_dir", "augmentations"}
#: Settings that a trainer itself rewrites, in types of its own.
OPEN = {"model", "data", "device", "resume", "freeze", "task", "mode"}


def check_finite(model: torch.nn.Module, name: str) -> None:
    """Raise CheckpointError, naming the tensor, where a network has a weight or statistic that is not finite."""
    for key, tensor in model.state_dict().items():
        least = 0.0 if key.endswith("running_var") else -torch.inf
        bad = 0 if not tensor.is_floating_point() else int((~(tensor.isfinite() & (tensor >= least))).sum())
        if bad:
            raise CheckpointError(
                f"{name}: {key} holds {bad} of {tensor.numel()} values that are not finite (NaN, infinite, a variance "
                "below 0); give an earlier checkpoint of the run (save_period keeps some), or train again."
            )


def check_facts(network: Any, name: str) -> None:
    """Raise CheckpointError for what is no network of Ultralytics, or one whose facts were edited."""
    if not isinstance(network, BaseModel):
        raise CheckpointError(f"{name}: holds {type(network).__name__}, no detector or classifier; give a checkpoint.")
    if isinstance(network, DetectionModel) and not hasattr(network.model[-1], "nc"):
        raise CheckpointError(f"{name}: its last row finds no boxes; copy the checkpoint or train it again.")
    strides = Kind("numbers from 1 on", lambda v: all(float(s) >= 1 for s in v))
    facts = {
        "yaml": (Kind("a mapping", lambda v: isinstance(v, dict)), getattr(network, "yaml", None)),
        "names": (_names_of(getattr(network.model[-1], "nc", None)), getattr(network, "names", None)),
        "stride": (strides, getattr(network, "stride", [1.0])),
        "levels of the head": (Kind("one for each map", lambda v: len(v) <= 1), _levels(network.model[-1])),
        **{f"slope of {key}": (SHARE, pair.negative_slope) for key, pair in deep_pairs(network)},
        **dict(_wiring(network)),
        **{f"shape of {key}": (Kind(f"{need}", need.__eq__), shape) for key, need, shape in _shapes(network)},
        "dfl": (Kind("a layer", lambda v: isinstance(v, torch.nn.Module)), _decoder(network.model[-1])),
        **dict(_numbers(network)),
    }
    for key, (kind, value) in facts.items():
        try:
            check_value(key, value, kind)
        except UsageError as error:
            told = str(error).replace(": give", ": must be").rstrip(".")
            raise CheckpointError(f"{name}: was changed ({told}); copy it or train it again.") from error


def _names_of(count: int | None) -> Kind:
    """Return the kind of the names of so many classes; a classifier of Ultralytics does not say how many it has."""

    def fits(names: Any) -> bool:
        listed = dict(enumerate(names)) if isinstance(names, (list, tuple)) else names
        if not isinstance(listed, dict):
            return False
        words = all(isinstance(word, (str, int)) for word in listed.values())
        return words and set(listed) == set(range(len(listed) if count is None else count))

    return Kind(f"one name for each of the {count or ''} classes, numbered from 0", fits)


def _wiring(network: Any) -> Iterator[tuple[str, tuple[Kind, Any]]]:
    """Yield what each row may take its maps from, and which rows' maps are kept for it."""
    for i, row in enumerate(network.model):
        number = whole(-max(i, 1), i - 1, exact=True)
        yield f"from of row {i}", (number | several(number), getattr(row, "f", -1))
    froms = [(i, f if isinstance(f := getattr(row, "f", -1), list) else [f]) for i, row in enumerate(network.model)]
    needs = Kind("every row that another reads", lambda v: {x % i for i, f in froms for x in f if x != -1} <= set(v))
    yield "save", (needs, getattr(network, "save", None))


def _levels(head: Any) -> set[int]:
    """Return the numbers of maps that the parts of a head of boxes are made for."""
    if not isinstance(head, Detect):
        return set()
    return {head.nl, *(len(part) for part in (head.stride, getattr(head, "cv2", ()), getattr(head, "cv3", ())))}


def _shapes(network: Any) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Yield the name of every convolution's weight, the shape that its layer states, and the shape that it has."""
    for key, layer in network.named_modules():
        if type(layer) is torch.nn.Conv2d:
            stated = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
            yield f"{key}.weight", stated, tuple(layer.weight.shape)


def _decoder(head: Any) -> Any:
    """Return the layer that turns a head's bins into distances; any layer for a head without boxes."""
    return getattr(head, "dfl", None) if isinstance(head, Detect) else head


def _numbers(network: Any) -> Iterator[tuple[str, tuple[Kind, Any]]]:
    """Yield the type of every tensor, and what a normalisation adds to its variance."""
    real = Kind("real numbers", lambda v: not v.is_complex)
    small = Kind("a number above 0, at most 1", lambda v: is_number(v) and 0 < v <= 1)
    for key, tensor in network.state_dict().items():
        yield f"type of {key}", (real, tensor.dtype)
    for key, layer in network.named_modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            yield f"eps of {key}", (small, layer.eps)


def is_undamaged(path: Path) -> bool:
    """Return whether a checkpoint is there and whole."""
    try:
        check_undamaged(path)
    except CheckpointError:
        return False
    return path.is_file() and zipfile.is_zipfile(path)


def newest_checkpoint(given: Path, read: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """Return the checkpoint from which a run goes on, and what it holds.

    Args:
        given: a run's folder or its ``last.pt``, which stand for the newest whole checkpoint of the run; any other
            whole checkpoint stands for itself.
        read: opens a checkpoint.

    Raises:
        CheckpointError: from ``read``, when no checkpoint of the run is whole.
    """
    if given.is_dir():
        given = given / "weights" / "last.pt" if (given / "weights").is_dir() else given / "last.pt"
    if given.parent.name != "weights" or (given.name != "last.pt" and is_undamaged(given)):
        return given, read(given)
    usual = dict.fromkeys((given, given.with_name("last.pt"), given.with_name("best.pt")))
    whole = [(path, read(path)) for path in usual if is_undamaged(path)]
    if not whole:
        numbered = sorted(given.parent.glob("epoch*.pt"), key=lambda path: (len(path.name), path.name), reverse=True)
        whole = [(path, read(path)) for path in (next(filter(is_undamaged, numbered), given),)]
    found = max(whole, key=lambda entry: str(entry[1].get("date") or ""))  # the first of equals
    if found[0] != given:
        epoch = found[1].get("epoch", -1) + 1
        state = "older" if is_undamaged(given) else "damaged" if given.exists() else "missing"
        LOGGER.warning(
            f"{given} is {state}; {found[0].name}"
            + (f" of epoch {epoch}" if epoch else "")
            + " is the newest checkpoint"
        )
    return found


def can_resume(ckpt: dict[str, Any] | None) -> bool:
    """Return whether a checkpoint is of a training with epochs left."""
    ckpt = ckpt or {}
    args, epoch = ckpt.get("train_args"), ckpt.get("epoch", -1)
    epochs = args.get("epochs") if isinstance(args, dict) else None
    counted = is_number(epoch) and is_number(epochs)
    return ckpt.get("optimizer") is not None and counted and 0 <= epoch < epochs - 1  # type: ignore[operator]


def not_finite(state: Any, name: str = "") -> str | None:
    """Return the path of the first number or tensor of an optimizer's state that is not finite."""
    if isinstance(state, (dict, list, tuple)):
        entries = state.items() if isinstance(state, dict) else enumerate(state)
        return next(filter(None, (not_finite(value, f"{name}.{key}".lstrip(".")) for key, value in entries)), None)
    if isinstance(state, torch.Tensor):
        return None if not state.is_floating_point() or bool(state.isfinite().all()) else name
    return name if isinstance(state, float) and not math.isfinite(state) else None


def check_state(ckpt: dict[str, Any], name: str, kinds: Mapping[str, Kind]) -> None:
    """Raise CheckpointError for a training state that was edited, or is another program's.

    Args:
        ckpt: what the file holds; one without an optimizer has no such state, and passes.
        name: what to call it.
        kinds: the kinds of a training's settings.
    """
    if ckpt.get("optimizer") is None:
        return
    try:
        for key, kind in STATE.items():
            check_value(key, ckpt.get(key), kind)
        if bad := not_finite(ckpt["optimizer"]):
            raise UsageError(f"optimizer: {bad} is not finite")
        args = ckpt["train_args"]
        unknown = set(args) - set(DEFAULT_CFG_DICT) - NO_SETTINGS
        if unknown and ckpt.get("version") == ultralytics_version:  # other versions have other keys
            raise UsageError(f"train_args: no setting is called {shown(min(unknown, key=str))}.")
        typed = {
            key: value for key, value in args.items() if value is not None or DEFAULT_CFG_DICT.get(key) is not None
        }
        check_values({"epochs": None, **typed}, {key: kind for key, kind in kinds.items() if key not in OPEN})
    except UsageError as error:
        raise CheckpointError(
            f"{name}: its training state was changed ({str(error).rstrip('.')}); resume from another checkpoint of the "
            "run, or start a new training from this one's weights (omit resume)."
        ) from error


def check_weights(weights: Any, name: str) -> None:
    """Raise CheckpointError unless training can start from ``weights``: ours in training form, or stock ones."""
    if not isinstance(weights, torch.nn.Module):
        raise CheckpointError(f"{name}: give a checkpoint (.pt), not an exported file.")
    check_finite(weights, name)
    if isinstance(weights, MergingMixin):
        check_training_form(weights, name)


def check_training_form(model: Any, name: str) -> None:
    """Raise CheckpointError for a merged or folded network: its weights fit no network that trains."""
    model = student(model)
    if (is_merged(model) and getattr(model, "collapses", True)) or model.is_fused():
        raise CheckpointError(
            f"{name}: is merged; only the training form trains. Give the checkpoint from before "
            "(best.pt), or load it again where fuse() was called."
        )


def content_of(data: str) -> dict[str, Any]:
    """Return what a data YAML says, of the user's or of Ultralytics'."""
    path = Path(data)
    return dict(YAML.load(path if path.exists() else ROOT / "cfg" / "datasets" / path.name))


def check_channels(network: Any, data: str, given: str) -> None:
    """Raise DataError where a data YAML has pictures of other channels than the network takes, used as it is."""
    taken = channels_of(network)
    if not Path(data).is_dir() and (channels := int(content_of(data).get("channels", 3))) != taken:
        raise DataError(f"{given}: {data} has pictures of {channels} channels, the network takes {taken}; give others.")


def check_class_count(network: Any, data: str, args: dict[str, Any], given: str = "resume") -> None:
    """Raise DataError where data have other classes or channels, by number, than the network that goes on with them.

    Args:
        network: the network.
        data: data YAML or folder.
        args: arguments of its training.
        given: setting by which it goes on as it is.
    """
    trained = int(network.yaml["nc"])
    check_channels(network, data, given)
    if (path := Path(data)).is_dir():
        count = len(class_folders(path))
    else:
        content = content_of(data)
        count = 1 if args.get("single_cls") else len(content.get("names") or range(int(content.get("nc", trained))))
    if count != trained:
        raise DataError(
            f"{given}: {data} has {count} classes, the checkpoint {trained}; give the data= that it was trained on, "
            f"or omit {given} to start a training from its weights."
        )
