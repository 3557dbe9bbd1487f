"""The merged detector as a stock Ultralytics model: rows of Conv, MaxPool2d, ReLU and DWConv, and nothing of ours.

A checkpoint of it opens wherever Ultralytics is installed. The rows are stock rows too, so that Ultralytics rebuilds
the same network from the checkpoint's own YAML, and the JSON description beside a safetensors file does.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from ultralytics.nn.modules import Detect

from vanillayolo.errors import MergeError
from vanillayolo.nn import is_merged
from vanillayolo.nn.reparameterize import MERGE, replace_modules

from .architecture import scaled_channels
from .classify import VanillaClassificationModel
from .engines import ENGINES, stock_class
from .families import HeadStages, Row, Yaml
from .model import VanillaDetectionModel, use_stages, use_yolo11_head
from .modules import VanillaBackbone, VanillaStage
from .tasks import TASK_OF_HEAD, task_of_head
from .yaml_tables import MODULES

#: Keys of a model YAML that its stock form keeps.
KEPT = ("nc", "scale", "channels", "activation", "head_stages", "kpt_shape", "end2end", "reg_max")


class StockRows:
    """The rows of the stock YAML as they come into being, and where keys and references of ours went.

    Attributes:
        rows: stock rows.
        prefixes: new prefix of every key prefix.
        where: row of the stock YAML by row of ours.
        maps: rows of the backbone's maps.
        split: how many rows are the backbone's.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.prefixes: dict[str, str] = {}
        self.where: dict[int, int] = {}
        self.maps: list[int] = []
        self.split = 0

    def source(self, after: int) -> int:
        """Return the reference to the row before ours of number ``after``: -1 where that is the last."""
        row = self.where.get(after - 1, -1)
        return -1 if row == len(self.rows) - 1 else row

    def add(self, module: str, arguments: list[Any], source: Any = -1, repeats: int = 1) -> int:
        """Append a row and return its number."""
        self.rows.append([source, repeats, module, arguments])
        return len(self.rows) - 1

    def add_stage(self, stage: Any, prefix: str, source: int = -1) -> int:
        """Append the rows of a merged stage and return the number of the last."""
        conv, depthwise = stage.pair, stage.act[1]
        kernel, stride, padding = (pair[0] for pair in (conv.kernel_size, conv.stride, conv.padding))
        pools = isinstance(stage.pool, nn.MaxPool2d)
        if pools and stage.pool_first:
            self.add("nn.MaxPool2d", [2], source)
            source = -1
        row = self.add("Conv", [conv.out_channels, kernel, stride, padding, 1, 1, False], source)
        self.prefixes[f"{prefix}.pair."] = f"model.{row}.conv."
        if pools and not stage.pool_first:
            self.add("nn.MaxPool2d", [2])
        self.add("nn.ReLU", [])
        row = self.add("DWConv", [depthwise.out_channels, depthwise.kernel_size[0], 1, 1, False])
        self.prefixes[f"{prefix}.act.1."] = f"model.{row}.conv."
        return row

    def add_backbone(self, backbone: VanillaBackbone, index: int) -> None:
        """Append the stages of a merged backbone; the ``Index`` rows after it become references to three of them."""
        ends = [self.add_stage(backbone.stem, f"model.{index}.stem")]
        ends += [self.add_stage(stage, f"model.{index}.stages.{i}") for i, stage in enumerate(backbone.stages)]
        self.maps = [ends[i] for i in backbone.taps]
        self.split = len(self.rows)


def stock_yaml(model: VanillaDetectionModel) -> tuple[Yaml, dict[str, str]]:
    """Return the stock YAML of a merged detector and the new prefix of every key prefix of its state dict."""
    cfg = copy.deepcopy(model.yaml)
    depth = cfg["scales"][cfg["scale"]][0]
    stock = StockRows()
    for i, (source, repeats, module, arguments) in enumerate([*cfg["backbone"], *cfg["head"]]):
        read = source if isinstance(source, list) else [source]
        sources = [stock.source(s + 1 + (i if s < 0 else 0)) for s in read]
        if module == "VanillaBackbone":
            stock.add_backbone(model.model[i], i)
        elif module == "VanillaStage":
            stock.where[i] = stock.add_stage(model.model[i], f"model.{i}", sources[0])
        elif module == "Index":  # takes a map out of the backbone's list: in stock rows every map is its own
            stock.where[i] = stock.maps[arguments[1]]
        else:
            arguments = list(arguments)
            if MODULES[module].scaled:
                arguments[0] = scaled_channels(cfg, arguments[0])
            repeats = max(round(repeats * depth), 1) if repeats > 1 else repeats
            row = stock.add(module, arguments, sources if isinstance(source, list) else sources[0], repeats)
            stock.where[i] = row
            stock.prefixes[f"model.{i}."] = f"model.{row}."
            if module in TASK_OF_HEAD:
                if module.startswith("Segment"):  # the parser scales the width of the prototypes' layers too
                    stock.rows[row][3][2] = model.model[i].npr
                stock.prefixes |= branch_prefixes(model.model[i], f"model.{i}", f"model.{row}")
    kept = {k: cfg[k] for k in KEPT if k in cfg}
    # Widths and repeats are spelled out above; the letter stays, because the parser builds C3k2 by it.
    scales = {cfg["scale"]: [1.0, 1.0, 1_000_000]}
    return {
        **kept,
        "scales": scales,
        "backbone": stock.rows[: stock.split],
        "head": stock.rows[stock.split :],
    }, stock.prefixes


def branch_stages(head: Detect) -> list[tuple[str, nn.Sequential, str]]:
    """Return every stage of a head's branches: its branch, and its name in it; none where they are YOLO11's."""
    return [
        (f"{name}.{level}", branch, i)
        for attribute in task_of_head(head).branches.values()
        for name in (attribute, f"one2one_{attribute}")
        for level, branch in enumerate(getattr(head, name, None) or ())
        for i, layer in branch.named_children()
        if isinstance(layer, VanillaStage)
    ]


def branch_prefixes(head: Detect, ours: str, stock: str) -> dict[str, str]:
    """Return the new key prefixes of a head's stages: convolution, ReLU, depthwise convolution."""
    names = {"pair.": "0.", "act.1.": "2."}
    return {
        f"{ours}.{branch}.{i}.{old}": f"{stock}.{branch}.{i}.{new}"
        for branch, _, i in branch_stages(head)
        for old, new in names.items()
    }


def use_stock_stages(head: Detect, stages: HeadStages) -> None:
    """Give a stock head, in place, the branches that :func:`use_stages` merges to, of torch's classes alone."""
    use_stages(head, stages)
    replace_modules(head, MERGE)
    for _, branch, i in branch_stages(head):
        stage: Any = branch._modules[i]
        branch._modules[i] = nn.Sequential(stage.pair, *stage.act)


def rename(state: dict[str, Tensor], prefixes: dict[str, str]) -> dict[str, Tensor]:
    """Return a merged state dict under the stock model's names."""
    longest = sorted(prefixes, key=len, reverse=True)
    return {
        next((prefixes[p] + key[len(p) :] for p in longest if key.startswith(p)), key): value
        for key, value in state.items()
    }


def stock_classifier_yaml(model: VanillaClassificationModel) -> tuple[Yaml, dict[str, str]]:
    """Return the stock YAML of a merged classifier and the new prefix of every key prefix of its state dict."""
    cfg, (features, head) = model.yaml, model.model
    stock = StockRows()
    stock.add_stage(features.stem, "model.0.stem")
    for i, stage in enumerate(features.stages):
        stock.add_stage(stage, f"model.0.stages.{i}")
    split = len(stock.rows)
    stock.add("nn.AdaptiveAvgPool2d", [1])
    row = stock.add("nn.Conv2d", [head.pair.in_channels, head.pair.out_channels, 1])
    stock.prefixes["model.1.pair."] = f"model.{row}."
    stock.add("nn.Flatten", [1])
    stock.add("nn.Softmax", [1])
    kept = {key: cfg[key] for key in ("nc", "channels") if key in cfg}
    return {**kept, "task": "classify", "backbone": stock.rows[:split], "head": stock.rows[split:]}, stock.prefixes


def build_stock(cfg: Yaml, state: dict[str, Tensor], names: dict[int, str]) -> Any:
    """Return the folded stock model of a stock YAML with the weights given, all of them."""
    task = cfg.get("task") or TASK_OF_HEAD[cfg["head"][-1][2]]
    classifier = task == "classify"
    stock = stock_class(ENGINES[task]["model"])(
        copy.deepcopy(cfg), ch=cfg.get("channels", 3), nc=cfg["nc"], verbose=False
    )
    if not classifier:
        use_yolo11_head(stock)
        if stages := cfg.get("head_stages"):
            use_stock_stages(stock.model[-1], stages)
        if cfg.get("end2end"):  # of the two sets of branches, folding keeps the one that the weights are of
            stock.end2end = any(".one2one_cv2." in key for key in state)
    stock.fuse(verbose=False)
    stock.load_state_dict(state, strict=True)
    stock.names, stock.task = dict(names), task
    return stock.eval().requires_grad_(False)


def to_stock(model: VanillaDetectionModel | VanillaClassificationModel) -> Any:
    """Return the same function as a stock Ultralytics model, merged and folded.

    Args:
        model: a merged detector or classifier (after ``fuse()`` at slope 1).

    Raises:
        MergeError: when it is not merged, or has adaptive pooling.
    """
    if model.model[0].adaptive_pool:
        raise MergeError(
            "the adaptive-pool variant pads to multiples of 24 or pools odd sizes, which no stock row does: "
            "use the merged network here or export it (vanillayolo export), or choose another variant."
        )
    if not is_merged(model) or not model.is_fused():
        raise MergeError("only a merged network has stock rows; call fuse() at slope 1 first.")
    classifier = isinstance(model, VanillaClassificationModel)
    cfg, prefixes = stock_classifier_yaml(model) if classifier else stock_yaml(model)
    stock = build_stock(cfg, rename(model.state_dict(), prefixes), model.names)
    stock.stride = model.stride.clone()
    if classifier:
        stock.transforms = getattr(model, "transforms", None)  # what Ultralytics' predictor puts before the network
        if stock.transforms is None:
            del stock.transforms
    else:
        stock.model[-1].stride = stock.stride
    return stock
