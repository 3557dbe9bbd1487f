"""What a search may change: keys of the network and of its training, and the range of each, as a table."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vanillayolo.errors import UsageError, closest
from vanillayolo.nn import VARIANTS
from vanillayolo.values import Kind, check_value, is_number, number, one_of, shown, whole
from vanillayolo.yolo.architecture import NAME, backbone_rows, is_model_name, resolve
from vanillayolo.yolo.arguments import read_yaml
from vanillayolo.yolo.families import BACKBONES, COMPACT, INITS, MOST_ACT_NUM, Yaml
from vanillayolo.yolo.kinds import KINDS

Space = dict[str, Any]  # Optuna's distributions by key

#: Keys of the network: they need a model's name, but for those of :data:`EDITED`, which any YAML of ours has.
NETWORK: dict[str, Kind] = {
    "letter": one_of(*COMPACT),
    "variant": one_of(*BACKBONES),
    "width_multiple": number(0.1, 4),
    "act_num": whole(0, MOST_ACT_NUM, exact=True),
    **{key: one_of(*words) for key, words in INITS.items()},
}
EDITED = ("act_num", *INITS)
#: What is searched where no ``space=`` says otherwise, in the words of such a file.
DEFAULT: dict[str, Any] = {
    "variant": ["slim", "6", "8", "10"],
    "width_multiple": {"low": 0.5, "high": 1.25},
    "act_num": [1, 2, 3],
    "series_init": ["identity", "noise"],
    "decay": {"low": 0.0, "high": 0.6},
    "lr0": {"low": 2e-4, "high": 1e-2, "log": True},
    "lrf": {"low": 0.01, "high": 1.0, "log": True},
    "weight_decay": {"low": 1e-5, "high": 1e-2, "log": True},
    "warmup_epochs": {"low": 0.0, "high": 5.0},
    "mosaic": {"low": 0.0, "high": 1.0},
}
#: Keys of training that may be searched: Ultralytics' and ours.
TRAINING = (
    *("optimizer", "lr0", "lrf", "cos_lr", "momentum", "weight_decay", "nbs"),
    *("warmup_epochs", "warmup_momentum", "warmup_bias_lr", "box", "cls", "dfl", "dropout"),
    *("hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr", "bgr"),
    *("mosaic", "close_mosaic", "mixup", "cutmix", "copy_paste", "multi_scale", "amp"),
    *("decay", "decay_shape", "layer_decay", "backbone_lr", "freeze_stages", "lean", "bfloat16", "join"),
)
#: Ultralytics' optimizer=auto sets these itself, and so would search in vain.
AUTO_SETS = ("lr0", "momentum")


def allowed_keys(model: str) -> tuple[str, ...]:
    """Return the keys of the network that a model's name or file lets change."""
    if model.endswith(".pt") or not (model.endswith((".yaml", ".yml")) or NAME.fullmatch(model)):
        return ()
    return tuple(NETWORK) if is_model_name(model) else EDITED


def meant(key: str, value: Any) -> Any:
    """Return a value as its key has it: variants are texts that look like numbers."""
    return f"{value:g}" if key == "variant" and is_number(value) else value


def read_space(file: str | Path, model: str) -> Space:
    """Read the space of a YAML: ``key: {low: 0.1, high: 1, log: true}`` or ``key: [values]``.

    Args:
        file: the YAML.
        model: what is searched.

    Raises:
        UsageError: for a file that is none, a key that cannot be searched, or a range or value that it does not take.
    """
    where = f"space={shown(str(file))}"
    content = read_yaml(file)
    if not content:
        raise UsageError(f"{where}: no YAML of keys with ranges; give one like 'lr0: {{low: 0.001, high: 0.01}}'.")
    known = [*allowed_keys(model), *TRAINING]
    for key in content:
        if key not in known:
            hint = f"model={model} does not let it change" if key in NETWORK else closest(str(key), known)
            raise UsageError(f"{where}: key {shown(key)} cannot be searched: {hint}")
    return {key: distribution(f"{where}: {key}", key, given) for key, given in content.items()}


def distribution(where: str, key: str, given: Any) -> Any:
    """Return the distribution, one of Optuna's, that a YAML's value describes.

    Raises:
        UsageError: for a value that describes none, or one that the key does not take.
    """
    from optuna import distributions

    kind = NETWORK.get(key) or KINDS[key]
    ranged = isinstance(given, dict)
    if ranged and not {"low", "high"} <= given.keys() <= {"low", "high", "log"}:
        raise UsageError(f"{where}={shown(given)}: give low and high, and log: true where it is meant.")
    listed = [given["low"], given["high"]] if ranged else given if isinstance(given, (list, tuple)) else [given]
    values = [meant(key, _number(value)) for value in listed]
    for value in values:
        check_value(where, value, kind)
    if not ranged:
        if not values or not all(isinstance(value, (str, int, float)) for value in values):
            raise UsageError(f"{where}={shown(given)}: give one value or more: numbers, words, true or false.")
        return distributions.CategoricalDistribution(list(dict.fromkeys(values)))
    (low, high), log = values, given.get("log", False)
    if not (is_number(low) and is_number(high) and low < high) or not isinstance(log, bool) or (log and low <= 0):
        raise UsageError(f"{where}={shown(given)}: give low below high (log: true wants low above 0).")
    if type(low) is type(high) is int and not kind.fits(low + 0.5):
        return distributions.IntDistribution(low, high, log)
    return distributions.FloatDistribution(low, high, log)


def _number(value: Any) -> Any:
    """Return the number that a text is: YAML's 1e-4 is a text."""
    with contextlib.suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


def candidate(model: str, values: Mapping[str, Any]) -> Yaml:
    """Return the YAML of a network with keys of :data:`NETWORK` changed.

    Args:
        model: name, or YAML file.
        values: by key; those of a training are left alone.
    """
    if (match := NAME.fullmatch(model)) and {"letter", "variant"} & values.keys():
        variant = values.get("variant", match["variant"])
        parts = [f"yolo{match['generation']}{values.get('letter', match['letter'])}-vanillanet", variant]
        ends = ["-paper" if match["paper"] and variant in VARIANTS else "", match["task"] or ""]
        model = "-".join(part for part in parts if part) + "".join(ends)
    cfg = resolve(model)
    if (factor := values.get("width_multiple", 1)) != 1:
        family, (depth, width, most) = cfg["family"], cfg["scales"][cfg["scale"]]
        family["width"] = min(family["width"] * factor, 64)
        rows = backbone_rows(BACKBONES[family["variant"]], family["width"])
        cfg |= {"backbone": rows, "scales": {cfg["scale"]: [depth, width * factor, most]}}
    if (act_num := values.get("act_num")) is not None:
        settings = cfg["backbone"][0][3][0]
        settings["act_num"] = act_num
        for row in cfg["head"]:
            if row[2] == "VanillaStage":
                row[3][2] = act_num
        if cfg.get("head_stages"):
            cfg["head_stages"] = {**cfg["head_stages"], "act_num": act_num}
    return cfg | {key: values[key] for key in INITS if key in values}
