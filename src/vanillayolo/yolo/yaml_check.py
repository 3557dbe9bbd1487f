"""The check of a model's YAML against its tables, before anything is built.

Ultralytics' parser reads what it knows, leaves the rest alone and ends in Python's own words where rows do not fit. So
channels and strides are followed here from row to row.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import timm
from ultralytics.utils.ops import make_divisible

from vanillayolo.errors import ModelNameError, VanillaYOLOError, closest
from vanillayolo.values import Kind, shown

from .families import NECKS, Row, Yaml, with_head
from .sections import SECTIONS
from .tasks import HEADS, TASK_OF_HEAD, TASKS
from .yaml_tables import (
    BACKBONE,
    BACKBONES,
    CHANNELS,
    FAMILY,
    KEYS,
    MODULES,
    ONLY,
    STOCK,
    TEXT,
    head_stages,
    is_list,
    whole,
    word,
)


@dataclass(frozen=True)
class Map:
    """What a row gives: its channels (0 where only building it would tell) and its stride, pixels of the image."""

    channels: int
    stride: float


def check(what: str, value: Any, kind: Kind) -> None:
    """Raise ModelNameError unless a value is of its kind."""
    if not kind.fits(value):
        raise ModelNameError(f"{what} {shown(value)}: {kind.hint(value)}")


def check_fields(what: str, given: Any, kinds: Mapping[str, Kind]) -> None:
    """Raise ModelNameError for a key that is not in a table, or a value that is not of its kind."""
    for key, value in given.items():
        if key not in kinds:
            raise ModelNameError(f"unknown {what}{shown(key)}: {closest(str(key)[:80], kinds)}")
        check(f"{what}{key}", value, kinds[key])


def check_yaml(cfg: object, source: str, stock: bool = False) -> Yaml:
    """Return a copy of a model YAML of which every key and row is one that can be built, as it is written.

    Args:
        cfg: what the file holds.
        source: its name.
        stock: whether it describes a collapsed network.

    Raises:
        ModelNameError: naming file, key or row, and what is allowed.
        UsageError: likewise, for the settings of training.
    """
    if not isinstance(cfg, dict):
        raise ModelNameError(f"model {source!r}: not a model YAML; 'vanillayolo yaml model=NAME' prints one.")
    cfg = copy.deepcopy(cfg)
    try:
        complete(cfg)
        task = task_of(cfg, stock)
        others = {key for only in ONLY.values() for key in only} - set(ONLY[task])
        mine = {key: kind for key, kind in KEYS.items() if key not in others}
        check_fields("key ", cfg, mine)
        check_fields("family: ", cfg.get("family") or {}, FAMILY)
        check_neck(cfg)
        for key, settings in SECTIONS.items():
            settings.from_dict(cfg.get(key))
        if TASKS[task].finds_boxes:
            check_scale(cfg)
            check("key head_stages", cfg.get("head_stages"), head_stages(task))
            cfg.update({key: cfg.get(key, value) for key, value in TASKS[task].keys.items()})
        check_rows(cfg, task, stock)
    except VanillaYOLOError as error:
        raise type(error)(f"model {source!r}: {error}") from None
    return cfg


def complete(cfg: Yaml) -> None:
    """Fill in, in place, the head of a neck that is named, and the letter where there is one only."""
    if "head" not in cfg and isinstance(cfg.get("neck"), str) and cfg["neck"] in NECKS:
        named = cfg.get("task")
        cfg["head"] = with_head(cfg["neck"], named if named in TASKS and TASKS[named].finds_boxes else "detect")
    if "scale" not in cfg and isinstance(cfg.get("scales"), dict) and len(cfg["scales"]) == 1:
        cfg["scale"] = next(iter(cfg["scales"]))
    if "val" in cfg and not {"backbone", "head"} & set(cfg):
        raise ModelNameError("holds data, no network (key 'val'); give it as data=, and a model's name or YAML here.")
    for key in ("nc", "backbone", "head"):
        if key not in cfg:
            raise ModelNameError(
                f"key {key!r} is missing (necks known by name: {', '.join(NECKS)}); "
                "'vanillayolo yaml model=NAME' prints a whole one."
            )
        check(f"key {key}", cfg[key], KEYS[key])
    for key in ("backbone", "head"):
        cfg[key] = [list(row) if is_list(row) else row for row in cfg[key]]


def task_of(cfg: Yaml, stock: bool = False) -> str:
    """Return the task of a YAML, by its last row.

    Raises:
        ModelNameError: when that is the head of another task, or not that of ``task``.
    """
    rows = [*cfg["backbone"], *cfg["head"]]
    last = rows[-1][2] if is_list(rows[-1]) and len(rows[-1]) > 2 else None
    classifies = stock and cfg.get("task") == "classify"
    task = "classify" if classifies else TASK_OF_HEAD.get(last) if isinstance(last, str) else None
    if task is None:
        raise ModelNameError(
            f"row {len(rows) - 1}: the last row is {shown(last)}; the last rows of our networks are "
            f"{', '.join(TASK_OF_HEAD)}."
        )
    if cfg.get("task", task) != task:
        raise ModelNameError(f"key task {shown(cfg['task'])}: its last row, {last}, is there to {task}.")
    return task


def check_scale(cfg: Yaml) -> None:
    """Raise ModelNameError unless a detector's letter is one of its scales."""
    if "scales" not in cfg:
        raise ModelNameError(f"key 'scales' is missing: give {KEYS['scales'].says}.")
    if "scale" not in cfg:
        raise ModelNameError(f"key 'scale' is missing: give one of {', '.join(cfg['scales'])}.")
    check("key scale", cfg["scale"], word(*cfg["scales"]))


def check_neck(cfg: Yaml) -> None:
    """Raise ModelNameError where ``neck`` names other rows than ``head`` has: one of the two would be passed over."""
    rows = next((name for name, rows in NECKS.items() if rows == cfg["head"][:-1]), None)
    if rows and cfg.get("neck", rows) != rows:
        raise ModelNameError(
            f"neck {cfg['neck']!r}: the rows under head are those of {rows!r}; delete head to have {cfg['neck']!r}."
        )


def check_rows(cfg: Yaml, task: str, stock: bool) -> None:
    """Check every row and put its arguments, in place, as the parser takes them."""
    rows = [*cfg["backbone"], *cfg["head"]]
    ends = {name for names in BACKBONES.values() for name in names} | set(TASK_OF_HEAD)
    inner = [name for name in (*MODULES, *(STOCK if stock else ())) if name not in ends]
    maps: list[Any] = []
    for i, row in enumerate(rows):
        name = row[2] if is_list(row) and len(row) == 4 else None
        try:
            if not isinstance(name, str):
                raise ModelNameError(f"{shown(row)}: give [from, repeats, module, arguments].")
            first, last = i == 0 and not stock, i == len(rows) - 1 and not (stock and task == "classify")
            allowed = BACKBONES[task] if first else HEADS[task] if last else inner
            if name not in allowed:
                raise ModelNameError(f"no module for this row; {closest(name[:80], allowed)}")
            maps.append(check_row(row, maps, cfg))
        except ModelNameError as error:
            raise ModelNameError(f"row {i}{f' ({name[:80]})' if isinstance(name, str) else ''}: {error}") from None


def check_row(row: Row, maps: list[Any], cfg: Yaml) -> Any:
    """Return what a row gives: a map, or the maps of a backbone.

    Args:
        row: one row; its arguments are put as the parser takes them.
        maps: what the rows before give.
        cfg: the whole YAML, for classes, letter and channels of the image.
    """
    sources, repeats, name, arguments = row
    module = {**MODULES, **STOCK}[name]
    inputs = [source_map(source, maps, cfg) for source in (sources if is_list(sources) else [sources])]
    if is_list(sources) != module.many or not inputs:
        raise ModelNameError(f"from {shown(sources)}: give {'a list of rows' if module.many else 'one row'}.")
    if any(isinstance(x, tuple) != (name == "Index") for x in inputs):
        raise ModelNameError(f"from {shown(sources)}: a backbone's maps are read by Index rows, and by them alone.")
    check("repeats", repeats, whole(1, 100 if module.repeats else 1))
    named = named_arguments(row, module.arguments, module.needed, cfg["nc"])
    if "settings" in named:
        return backbone_maps(name, named["settings"], inputs[0].channels)
    if name == "Index":
        return level(inputs[0], named)
    strides = [x.stride for x in inputs]
    if name == "Concat" and len(set(strides)) > 1:
        raise ModelNameError(
            f"from {shown(sources)}: maps of stride {', '.join(f'{s:g}' for s in strides)} do not join."
        )
    if name in TASK_OF_HEAD and module.many:
        check_levels(strides, maps)
    channels = sum(x.channels for x in inputs)
    check_channels(name, named, channels, arguments)
    if module.scaled and "scales" in cfg:  # a collapsed classifier has no letter
        _, width, most = cfg["scales"][cfg["scale"]]
        named["channels"] = int(make_divisible(min(named["channels"], most) * width, 8))
        check("channels under the letter's width,", named["channels"], CHANNELS)
    if name == "C2PSA" and (channels != named["channels"] or channels < 128):
        raise ModelNameError(f"{named['channels']} channels from {channels}: give as many as come in, 128 at least.")
    return Map(named.get("channels", channels), strides[0] * named.get("stride", 1) / named.get("scale", 1))


def source_map(source: Any, maps: list[Any], cfg: Yaml) -> Any:
    """Return what the row gives that ``from`` names."""
    if not maps:
        check("from", source, Kind("-1, the image", lambda x: type(x) is int and x == -1))
        return Map(cfg.get("channels", 3), 1.0)
    check("from", source, whole(-len(maps), len(maps) - 1))
    return maps[source]


def named_arguments(row: Row, kinds: dict[str, Kind], needed: int, classes: int) -> dict[str, Any]:
    """Return a row's arguments by name, after checking each."""
    if not is_list(row[3]) or not needed <= len(row[3]) <= len(kinds):
        raise ModelNameError(f"arguments {shown(row[3])}: give [{', '.join(kinds)}], {needed} of them at least.")
    given = (None if x == "None" else x for x in row[3])  # None is a word in YAML
    named: dict[str, Any] = dict(zip(kinds, given, strict=False))
    if "classes" in named and type(named["classes"]) is int and named["classes"] == classes:
        named["classes"] = "nc"  # follows the classes of the data
    row[3] = list(named.values())
    for name, value in named.items():
        check(name, value, kinds[name])
    return named


def backbone_maps(name: str, settings: dict[str, Any], image_channels: int) -> Any:
    """Return the maps of a backbone, fine to coarse; the last alone for a classifier."""
    if name == "TimmBackbone":
        check("name", settings.get("name"), TEXT)
        if not timm.is_model(settings["name"]):
            raise ModelNameError(f"timm has no network {settings['name']!r}; timm.list_models() names all.")
        return tuple(Map(0, stride) for stride in (8.0, 16.0, 32.0))
    check_fields("", settings, BACKBONE)
    if missing := [key for key in ("dims", "strides") if key not in settings]:
        raise ModelNameError(f"{missing[0]} is missing: give the widths (dims) and the strides.")
    dims, strides = settings["dims"], settings["strides"]
    series: Any = settings.get("act_num")
    if len(dims) != len(strides) + 1:
        raise ModelNameError(f"{len(dims)} dims for {len(strides)} strides: give one width more than strides.")
    if is_list(series) and len(series) != len(dims):
        raise ModelNameError(f"act_num: {len(series)} numbers for {len(dims)} dims: give one, or one for each.")
    if settings.get("in_chans", image_channels) != image_channels:
        raise ModelNameError(f"in_chans {settings['in_chans']}: channels, of the image, is {image_channels}.")
    stride = 3.0 if settings.get("adaptive_pool") else 4.0
    last = {stride: dims[0]}
    for step, channels in zip(strides, dims[1:], strict=True):
        stride *= step
        last[stride] = channels
    if name == "VanillaFeatures":
        return Map(dims[-1], stride)
    if len(last) < 3:
        raise ModelNameError(f"strides {shown(strides)}: a detector needs two stages of stride 2 at least.")
    return tuple(Map(channels, stride) for stride, channels in list(last.items())[-3:])


def level(maps: tuple[Map, ...], named: dict[str, Any]) -> Map:
    """Return the map that an Index row takes out of a backbone's."""
    taken = maps[named["level"]]
    if taken.channels not in (0, named["channels"]):
        raise ModelNameError(f"channels {named['channels']}: map {named['level']} has {taken.channels}.")
    return Map(named["channels"], taken.stride)


def check_levels(strides: list[float], maps: list[Any]) -> None:
    """Raise ModelNameError where a head reads as many maps as the backbone gives, but of other strides.

    Boxes are decoded by the backbone's strides, in their order; other counts by what Ultralytics finds in an image of
    256 px, where the strides of adaptive pooling (6, 12, 24) do not fit.
    """
    own = [x.stride for x in maps[0]] if isinstance(maps[0], tuple) else strides
    if strides != own and (len(strides) == len(own) or own[0] % 8):
        texts = [", ".join(f"{s:g}" for s in row) for row in (strides, own)]
        raise ModelNameError(f"from: maps of stride {texts[0]}; give those of stride {texts[1]}, in this order.")


def check_channels(name: str, named: dict[str, Any], channels: int, arguments: Any) -> None:
    """Raise ModelNameError where channels that a row states are not those that come in, or do not split in groups."""
    if named.get("features", channels) != channels:
        raise ModelNameError(f"features {named['features']}: the row before gives {channels}.")
    if name == "Conv" and channels % named.get("groups", 1):
        raise ModelNameError(f"groups {named['groups']}: {channels} channels come in.")
