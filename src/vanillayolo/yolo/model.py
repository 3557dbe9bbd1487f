"""The detector as an Ultralytics model: true strides, a fuse() that merges or refuses, slopes that travel."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules import Conv, Detect
from ultralytics.nn.tasks import DetectionModel, OBBModel, PoseModel, SegmentationModel, temporary_modules
from ultralytics.utils.torch_utils import initialize_weights

from vanillayolo.nn.layers import checkpointed, is_heard

from .architecture import building, collapses, resolve, scaled_channels
from .families import HeadStages, Yaml
from .merging import MergingMixin
from .modules import TimmBackbone, VanillaBackbone, VanillaStage
from .tasks import TASK_OF_HEAD, task_of_head

#: Our YAML rows and the names under which Ultralytics' parser finds them, for the time of building only. A module that
#: it does not know, it believes to keep its channels; one that stands for ``CBLinear`` is handed the channels that come
#: in and gives those it is asked for, which is what a stage needs.
ROWS: dict[type[nn.Module], str] = {
    VanillaBackbone: "VanillaBackbone",
    TimmBackbone: "TimmBackbone",
    VanillaStage: "CBLinear",
}
PLACES = {f"ultralytics.nn.tasks.{name}": f"{cls.__module__}.{cls.__name__}" for cls, name in ROWS.items()}


def for_parser(cfg: Yaml) -> Yaml:
    """Return a copy of a model YAML with our stages as the parser takes them."""
    cfg = copy.deepcopy(cfg)
    for row in (*cfg["backbone"], *cfg["head"]):
        if row[2] == VanillaStage.__name__:
            row[2], row[3][0] = ROWS[VanillaStage], scaled_channels(cfg, row[3][0])
    return cfg


def fold_stock(model: nn.Module) -> nn.Module:
    """Fold, in place, the BN of Ultralytics' own layers only: neck and head, not the backbone in training form."""
    if isinstance(model, DetectionModel):
        DetectionModel.fuse(model, verbose=False)
    return model


def use_yolo11_head(model: DetectionModel) -> None:
    """Give a detector YOLO11's head where the parser, finding no C3k2 row, has built YOLOv8's."""
    old = model.model[-1]
    if type(old).__name__ not in TASK_OF_HEAD or not isinstance(old.cv3[0][0], Conv):
        return
    before = Detect.legacy, Conv.default_act
    # The parser's own switches: class attributes that every build sets.
    Detect.legacy, Conv.default_act = False, old.cv3[0][0].act
    try:
        own = [getattr(old, name) for name in task_of_head(old).arguments]
        channels = [branch[0].conv.in_channels for branch in old.cv2]
        head = type(old)(old.nc, *own, old.reg_max, hasattr(old, "one2one_cv2"), channels)
    finally:
        Detect.legacy, Conv.default_act = before
    head.legacy = False
    initialize_weights(head)
    head.i, head.f, head.type, head.inplace = old.i, old.f, old.type, old.inplace
    head.np = sum(p.numel() for p in head.parameters())
    head.stride = old.stride
    model.model[-1] = head
    head.bias_init()


def use_stages(head: Detect, stages: HeadStages) -> None:
    """Put stages, in place and as wide, where the first layers of a head's branches were.

    Args:
        head: YOLO11's head.
        stages: how many of the two layers before the last convolution of each kind of branch, and the paper's n of
            these stages.
    """
    for name, attribute in task_of_head(head).branches.items():
        count = stages[name]
        for i, branch in enumerate(getattr(head, attribute)):
            last = branch[-1]  # of YOLO26's key points, what gives them stands apart
            width = last.conv.out_channels if isinstance(last, Conv) else last.in_channels
            channels = head.cv2[i][0].conv.in_channels
            for j in range(count):
                branch[j] = VanillaStage(width if j else channels, width, act_num=stages["act_num"])
        if hasattr(head, f"one2one_{attribute}"):  # it begins as a copy, as Ultralytics' own
            setattr(head, f"one2one_{attribute}", copy.deepcopy(getattr(head, attribute)))


class VanillaDetectionModel(MergingMixin, DetectionModel):
    """YOLO11 with a VanillaNet backbone, in training form until :meth:`fuse`.

    Args:
        cfg: model name, path of a model YAML, or its dict (copied).
        ch: channels of the image.
        nc: number of classes; the YAML's where not given.
        verbose: print the table of layers.
        kpt_shape: key points and their numbers, as the data have them; the YAML's where not given.

    Attributes:
        bfloat16: whether training on CPUs runs in bfloat16; None: where the CPU has instructions for it.
        lean: how much training keeps for the backward pass (``auto``); set it with
            :func:`vanillayolo.nn.set_lean`. Both come from the YAML's ``lean_training`` key where it has one.

    Raises:
        ModelNameError: when ``cfg`` describes no network of ours.
        UsageError: when its ``lean_training`` asks for what there is not.
    """

    def __init__(
        self,
        cfg: str | Yaml = "yolo11n-vanillanet",
        ch: int = 3,
        nc: int | None = None,
        verbose: bool = True,
        kpt_shape: list[int] | None = None,
    ):
        yaml_dict = resolve(cfg)
        if kpt_shape and "kpt_shape" in yaml_dict:
            yaml_dict["kpt_shape"] = list(kpt_shape)
        if yaml_dict["backbone"][0][2] in ("VanillaBackbone", "TimmBackbone"):
            yaml_dict["backbone"][0][3][0]["in_chans"] = ch
        with building(cfg, "yolo11n-vanillanet"), temporary_modules(attributes=PLACES):
            super().__init__(for_parser(yaml_dict), ch=ch, nc=nc, verbose=verbose)
        self.yaml |= {key: yaml_dict[key] for key in ("backbone", "head")}
        use_yolo11_head(self)
        if stages := yaml_dict.get("head_stages"):
            use_stages(self.model[-1], stages)
        self._set_strides()
        self._set_up(yaml_dict, momentum=0.03)

    def _set_strides(self) -> None:
        """Take the strides from the backbone, not from the parser's probe at 256 px, and redo what depends on them."""
        backbones = [m for m in self.modules() if isinstance(m, (VanillaBackbone, TimmBackbone))]
        head = self.model[-1]
        if backbones and len(backbones[0].out_strides) == getattr(head, "nl", 0):
            head.stride = torch.tensor([float(s) for s in backbones[0].out_strides])
            self.stride = head.stride
            head.bias_init()

    @property
    def collapses(self) -> bool:
        """Whether the network is made to merge; one of timm's backbones under YOLO11's neck is not."""
        return collapses(self.yaml)

    def _predict_once(self, x: Any, profile: bool = False, embed: Any = None) -> Any:
        """Run the rows; with ``lean`` at ``max``, neck and head keep their inputs only while training.

        Not where somebody listens to a row (a teacher does): the second computation would call the hook again.
        """
        plain = self.lean != "max" or not self.training or not torch.is_grad_enabled() or profile or embed
        if plain or torch.compiler.is_compiling() or any(map(is_heard, self.model)):
            return super()._predict_once(x, profile, embed)
        return checkpointed(self.model[1:], self.model[0](x), self._neck_and_head)

    def _neck_and_head(self, x: Any) -> Any:
        """Run every row but the backbone's, as Ultralytics does."""
        outputs = [x]
        for row in self.model[1:]:
            if row.f != -1:
                x = outputs[row.f] if isinstance(row.f, int) else [x if i == -1 else outputs[i] for i in row.f]
            x = row(x)
            outputs.append(x if row.i in self.save else None)
        return x


class VanillaSegmentationModel(VanillaDetectionModel, SegmentationModel):
    """The same with masks."""


class VanillaPoseModel(VanillaDetectionModel, PoseModel):
    """The same with key points."""


class VanillaOBBModel(VanillaDetectionModel, OBBModel):
    """The same with turned boxes."""
