"""The merged detector as a stock Ultralytics model: rows of Conv, MaxPool2d, ReLU and DWConv, and nothing of ours.

A checkpoint of it opens wherever Ultralytics is installed. The rows are stock rows too, so that Ultralytics rebuilds
the same network from the checkpoint's own YAML, and the JSON description beside a safetensors file does.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.ops import make_divisible

from vanillayolo.errors import MergeError
from vanillayolo.nn import is_merged

from .architecture import Row, Yaml
from .model import VanillaDetectionModel
from .modules import VanillaBackbone

#: Modules whose first argument Ultralytics' parser scales by the letter's width, among those of our necks.
SCALED = {"SPPF", "C2PSA", "C3k2", "Conv"}


def backbone_rows(backbone: VanillaBackbone) -> tuple[list[Row], dict[str, str], list[int]]:
    """Return the stock rows of a merged backbone, its keys' new prefixes, and the rows of its three maps."""
    rows: list[Row] = []
    prefixes: dict[str, str] = {}
    ends: list[int] = []

    def add(module: str, arguments: list[Any], prefix: str | None = None) -> None:
        if prefix is not None:
            prefixes[f"model.0.{prefix}."] = f"model.{len(rows)}.conv."
        rows.append([-1, 1, module, arguments])

    stages: list[tuple[str, Any]] = [("stem", backbone.stem)]
    stages += [(f"stages.{i}", stage) for i, stage in enumerate(backbone.stages)]
    for name, stage in stages:
        conv, depthwise = stage.pair, stage.act[1]
        kernel, stride, padding = (pair[0] for pair in (conv.kernel_size, conv.stride, conv.padding))
        add("Conv", [conv.out_channels, kernel, stride, padding, 1, 1, False], f"{name}.pair")
        if isinstance(stage.pool, nn.MaxPool2d):
            add("nn.MaxPool2d", [2])
        add("nn.ReLU", [])
        add("DWConv", [depthwise.out_channels, depthwise.kernel_size[0], 1, 1, False], f"{name}.act.1")
        ends.append(len(rows) - 1)
    return rows, prefixes, [ends[i] for i in backbone.taps]


def stock_yaml(model: VanillaDetectionModel) -> tuple[Yaml, dict[str, str]]:
    """Return the stock YAML of a merged detector and the new prefix of every key prefix of its state dict."""
    cfg = copy.deepcopy(model.yaml)
    depth, width, most = cfg["scales"][cfg["scale"]]
    rows, prefixes, maps = backbone_rows(model.model[0])
    ours = [*cfg["backbone"], *cfg["head"]]
    first = 1 + len(maps)
    shift = len(rows) - first
    where = {-1: -1, **dict(zip(range(1, first), maps, strict=True))}
    head: list[Row] = []
    for i, (source, repeats, module, arguments) in enumerate(ours[first:], start=first):
        prefixes[f"model.{i}."] = f"model.{i + shift}."
        moved = [where.get(s, s + shift) for s in (source if isinstance(source, list) else [source])]
        arguments = list(arguments)
        if module in SCALED:
            arguments[0] = make_divisible(min(arguments[0], most) * width, 8)
        repeats = max(round(repeats * depth), 1) if repeats > 1 else repeats
        head.append([moved if isinstance(source, list) else moved[0], repeats, module, arguments])
    stock = {k: cfg[k] for k in ("nc", "scale", "channels") if k in cfg}
    # Widths and repeats are spelled out above; the letter stays, because the parser builds C3k2 by it.
    return {**stock, "scales": {cfg["scale"]: [1.0, 1.0, 1_000_000]}, "backbone": rows, "head": head}, prefixes


def rename(state: dict[str, Tensor], prefixes: dict[str, str]) -> dict[str, Tensor]:
    """Return a merged state dict under the stock model's names."""
    longest = sorted(prefixes, key=len, reverse=True)
    return {
        next((prefixes[p] + key[len(p) :] for p in longest if key.startswith(p)), key): value
        for key, value in state.items()
    }


def build_stock(cfg: Yaml, state: dict[str, Tensor], names: dict[int, str]) -> DetectionModel:
    """Return the folded stock detector of a stock YAML with the weights given, all of them."""
    stock = DetectionModel(copy.deepcopy(cfg), ch=cfg.get("channels", 3), nc=cfg["nc"], verbose=False)
    stock.fuse(verbose=False)
    stock.load_state_dict(state, strict=True)
    stock.names = dict(names)
    return stock.eval().requires_grad_(False)


def to_stock(model: VanillaDetectionModel) -> DetectionModel:
    """Return the same function as a stock Ultralytics model, merged and folded.

    Args:
        model: a merged detector (after ``fuse()`` at slope 1).

    Raises:
        MergeError: when the detector is not merged, or has adaptive pooling.
    """
    if model.model[0].adaptive_pool:
        raise MergeError(
            "the adaptive-pool variant pads its input to multiples of 24, which no stock row does: "
            "use the merged network here or export it (vanillayolo export), or choose another variant."
        )
    if not is_merged(model) or not model.is_fused():
        raise MergeError("only a merged network has stock rows; call fuse() at slope 1 first.")
    cfg, prefixes = stock_yaml(model)
    stock = build_stock(cfg, rename(model.state_dict(), prefixes), model.names)
    stock.stride = model.stride.clone()
    stock.model[-1].stride = stock.stride
    stock.task = "detect"
    return stock
