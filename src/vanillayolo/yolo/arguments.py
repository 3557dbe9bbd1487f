"""Settings that Ultralytics takes as they come, although nobody means them: checked before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ultralytics.cfg import get_cfg, get_save_dir
from ultralytics.engine.exporter import export_formats
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import DEFAULT_CFG_DICT, ROOT, YAML, checks
from ultralytics.utils.torch_utils import select_device

from vanillayolo.errors import UsageError, closest, one_line
from vanillayolo.places import check_folder
from vanillayolo.values import (
    FLAG,
    MANY,
    NONE,
    SHARE,
    SIZE,
    check_value,
    check_values,
    is_number,
    number,
    one_of,
    shown,
)

from .fine_tuning import check_stages, freeze_entries
from .kinds import KINDS, METHOD_KEYS
from .sections import check_own

#: How a tracker follows the camera.
MOTIONS = one_of("sparseOptFlow", "orb", "sift", "ecc", "none") | NONE
#: What acts on pairs or stages of ours.
DEEP_KEYS = ("decay", "layer_decay", "backbone_lr")


def check_imgsz(imgsz: object) -> None:
    """Raise UsageError unless ``imgsz`` is one or two whole numbers of pixels that the strides fit into."""
    check_value("imgsz", imgsz, SIZE)


def fitting_imgsz(imgsz: Any) -> Any:
    """Return a size whose sides the coarsest stride divides: rounded up as by Ultralytics' verbs, which say so.

    Raises:
        UsageError: unless it is one or two whole numbers of pixels.
    """
    check_imgsz(imgsz)
    return checks.check_imgsz([int(side) for side in imgsz] if isinstance(imgsz, (list, tuple)) else int(imgsz))


def check_verb(mode: str, settings: dict[str, Any], extra: tuple[str, ...] = ()) -> None:
    """Raise UsageError for keys and values that a verb of Ultralytics does not take, or that nobody means.

    Args:
        mode: what to call the verb.
        settings: its keyword arguments; those of a file that ``cfg`` names are checked too.
        extra: our keys of this verb.
    """
    known = {*DEFAULT_CFG_DICT, *METHOD_KEYS, *extra}
    check_values(settings, {"cfg": KINDS["cfg"]})
    named = named_settings(settings)
    for given, where in ((settings, mode), (named, f"cfg={settings.get('cfg')}")):
        for key in given:
            if key not in known:
                raise UsageError(f"{where} has no key {shown(key)}: {closest(str(key), sorted(known))}")
    for given, where in ((settings, ""), (named, f"cfg={settings.get('cfg')}: ")):
        for key, value in given.items():
            if key in KINDS:
                check_value(f"{where}{key}", value, KINDS[key])
    counting = {**named, **{key: value for key, value in settings.items() if value is not None}}
    try:
        get_cfg(overrides={k: v for k, v in counting.items() if k in DEFAULT_CFG_DICT})
    except (TypeError, ValueError, SyntaxError) as error:
        raise UsageError(f"{mode}: {one_line(error, 1000)}") from error
    check_device(counting.get("device"), libraries=mode != "train")


def read_yaml(path: str | Path) -> dict[str, Any] | None:
    """Return what a YAML file holds; None where it is no YAML of keys and values."""
    try:
        return dict(YAML.load(path))
    except (OSError, ValueError, AssertionError):  # asserted: the name's ending
        return None


def named_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings in the YAML file that ``cfg`` names, where it is given.

    Raises:
        UsageError: for a file that is not there, or holds no settings.
    """
    path = settings.get("cfg")
    if not path:
        return {}
    if not Path(path).is_file():
        raise UsageError(f"cfg={shown(str(path))}: no such file; give a YAML file of settings ('key: value').")
    found = read_yaml(path)
    if found is None:
        raise UsageError(f"cfg={shown(str(path))}: no YAML of settings; give a .yaml file of 'key: value'.")
    return {key: value for key, value in found.items() if value is not None}


def check_device(device: Any, libraries: bool = False) -> None:
    """Raise UsageError for a device that this machine has not; words of exported files' ``libraries`` may pass."""
    if device is None:
        return
    try:
        chosen = select_device(device, verbose=False)
        asked = str(device).lower()[:4].rstrip(":")
        if asked in ("mps", "cuda") and chosen.type != asked:
            raise ValueError("Ultralytics would take the CPU without a word")
        if not isinstance(chosen, torch.device) and not libraries:
            raise ValueError("Ultralytics would take the word for the device")
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        there = ["cpu", *map(str, range(torch.cuda.device_count()))]
        raise UsageError(f"device={shown(device)}: not on this machine; allowed are {', '.join(there)}.") from error


def check_run_folder(mode: str, task: str, settings: dict[str, Any]) -> Path:
    """Return the folder that a verb of Ultralytics will write to.

    Raises:
        UsageError: when nothing can be written there.
    """
    keys = ("project", "name", "exist_ok", "save_dir")
    given = {**named_settings(settings), **settings}
    args = get_cfg(overrides={"mode": mode, "task": task, **{k: given[k] for k in keys if given.get(k) is not None}})
    alone = given.get("name") and (not given.get("project") or Path(given["name"]).is_absolute())
    key = "save_dir" if given.get("save_dir") else "name" if alone else "project"
    try:
        folder = get_save_dir(args)
    except (OSError, ValueError) as error:
        raise UsageError(f"{key}={shown(given.get(key))}: no folder can have this name; give another.") from error
    check_folder(key if given.get(key) else "the folder of runs", folder)
    return folder


def check_classes(classes: Any, count: int) -> None:
    """Raise UsageError for a number among ``classes`` that none of so many classes has."""
    wanted = classes if isinstance(classes, (list, tuple)) else [] if classes is None else [classes]
    if wanted and max(wanted) >= count:
        raise UsageError(f"classes={shown(classes)}: there are {count} classes; give numbers from 0 to {count - 1}.")


def classes_of(data: Any) -> int | None:
    """Return how many classes a checked data YAML has; None where it is a folder, or no single file."""
    if not isinstance(data, str) or not Path(data).is_file():
        return None
    found = YAML.load(data)
    return int(found.get("nc") or len(found.get("names") or ())) or None


def check_rows(network: Any, settings: dict[str, Any]) -> None:
    """Raise UsageError for classes or rows that a network has not."""
    check_classes(settings.get("classes"), len(network.names))
    # A detector's backbone gives three maps, the last row none, and Ultralytics counts no row from the end.
    first, last = int(hasattr(network.model[0], "out_strides")), len(network.model) - 2
    if any(not first <= row <= last for row in settings.get("embed") or ()):
        raise UsageError(f"embed={shown(settings['embed'])}: give rows {first} to {last}, which give one map each.")


def check_training(network: Any, name: str, settings: dict[str, Any]) -> None:
    """Raise UsageError for training settings, ours among them, that do not suit a network.

    Args:
        network: what is to be trained.
        name: what to call it.
        settings: keyword arguments of ``train``.
    """
    check_quantize(settings.get("quantize", named_settings(settings).get("quantize")))
    check_freeze(settings.get("freeze"), len(network.model))
    check_stages(freeze_entries(None, settings.get("freeze_stages")), network)
    check_own(settings, settings.get("freeze"))
    for key in () if getattr(network, "collapses", True) else DEEP_KEYS:
        if settings.get(key) not in (None, 0, 1):
            raise UsageError(
                f"{key}={settings[key]}: {name} has no pairs to train deep and no stages of ours; leave {key} out."
            )


def check_freeze(freeze: Any, rows: int) -> None:
    """Raise UsageError for a ``freeze`` that names no row of the network, or leaves nothing to train.

    Args:
        freeze: Ultralytics' setting: how many rows from the first on, or a list of rows or of parts of names.
        rows: rows of the network.
    """
    if freeze is None:
        return
    listed = isinstance(freeze, (list, tuple))
    entries = list(freeze) if listed else [freeze]
    named = [x for x in entries if listed and isinstance(x, str)]
    numbers = [x for x in entries if isinstance(x, int) and not isinstance(x, bool) and 0 <= x < rows]
    if len(named) + len(numbers) < len(entries):
        raise UsageError(
            f"freeze={shown(freeze)}: give a count of rows, 0 to {rows - 1}, or a list of rows, like [0,4]."
        )
    if len(set(numbers)) == rows:
        raise UsageError(f"freeze={freeze}: holds every row, so that nothing trains; leave one out.")


def check_quantize(quantize: Any) -> None:
    """Raise UsageError for a precision that there is no training in."""
    if str(quantize) not in {"None", "32", "8", "int8"}:
        raise UsageError(
            f"quantize={quantize}: training is in float, or with quantize=8 through the roundings of int8; leave it "
            "out, or give 8."
        )


def check_tracker(tracker: Any, has_maps: bool = True) -> None:
    """Raise UsageError for a tracker that is neither one of Ultralytics' own nor a YAML file with all that one has.

    Args:
        tracker: the YAML file, or its name.
        has_maps: whether the network gives its maps, by which a tracker may know objects again.
    """
    folder = ROOT / "cfg" / "trackers"
    own = {file.name: YAML.load(file) for file in sorted(folder.glob("*.yaml"))}
    if tracker is None or str(tracker) in own:
        return
    path = Path(tracker)
    if not path.is_file():
        raise UsageError(f"tracker={shown(str(tracker))}: no such file; {closest(str(tracker), own)}")
    given = read_yaml(path)
    types = {settings["tracker_type"]: settings for settings in own.values()}
    if given is None or not isinstance(given.get("tracker_type"), str):
        raise UsageError(
            f"tracker={shown(str(path))}: no YAML of a tracker; give one that has tracker_type, or {', '.join(own)}."
        )
    if (kind := given["tracker_type"]) not in types:
        raise UsageError(f"tracker={shown(str(path))}: tracker_type={shown(kind)}: {closest(kind, types)}")
    for key, default in types[kind].items():
        if key not in given:
            raise UsageError(f"tracker={shown(str(path))}: lacks {key}; give it, for instance {key}: {default}.")
        if is_number(default):
            kind = SHARE if key.endswith("_thresh") and default <= 1 else number(0, MANY)
            check_value(f"tracker={shown(str(path))}: {key}", given[key], kind)
        elif isinstance(default, bool):
            check_value(f"tracker={shown(str(path))}: {key}", given[key], FLAG)
        elif key == "gmc_method":
            check_value(f"tracker={shown(str(path))}: {key}", given[key], MOTIONS)
    model = given.get("model", "auto")
    endings = tuple(ending for ending in export_formats()["Suffix"] if ending)
    if given.get("with_reid") and model != "auto" and not str(model).endswith(endings):
        raise UsageError(
            f"tracker={shown(str(path))}: model={shown(model)}: give auto, or a checkpoint or exported file."
        )
    if given.get("with_reid") and str(model).endswith(".pt") and Path(model).is_file():
        try:
            load_checkpoint(model)
        except Exception as error:  # Ultralytics and torch raise a dozen types for a file that is no checkpoint
            reason = f"not a loadable checkpoint ({one_line(error)}); give another, or auto"
            raise UsageError(f"tracker={shown(str(path))}: model={shown(model)}: {reason}.") from error
    if given.get("with_reid") and model == "auto" and not has_maps:
        raise UsageError(
            f"tracker={shown(str(path))}: with_reid with model: auto needs the network's maps, which an exported file "
            "does not give; track with the checkpoint, or name a model there."
        )
