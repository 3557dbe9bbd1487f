"""``train quantize=8``: a finished network is merged exactly, then trained as the int8 file computes that it becomes.

First the merge, then the rounding: two rounded convolutions would not merge. What is trained is the merged network in
float, through the roundings of :mod:`vanillayolo.nn.fake_quantize`; what is saved is an ordinary merged network, and
``export int8=True`` of every format rounds it as it was trained.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK, colorstr

from vanillayolo.errors import CheckpointError, UsageError
from vanillayolo.nn.bias import correct_biases
from vanillayolo.nn.equalize import equalize, find_links
from vanillayolo.nn.fake_quantize import copy_ranges, measure_maps, round_convolutions, trained_levels, unrounded
from vanillayolo.nn.reparameterize import check_mergeable
from vanillayolo.values import check_values

from .arguments import fitting_imgsz, named_settings
from .calibration import Batches, calibration_images
from .kinds import KINDS
from .merging import MergingMixin, student
from .pictures import channels_of
from .saving import replaced
from .trainer import VanillaOBBTrainer, VanillaPoseTrainer, VanillaSegmentationTrainer, VanillaTrainer

if TYPE_CHECKING:
    from .trainer import VanillaTrainer as _Trainer
else:
    _Trainer = object  # the trainer is the mixin's neighbour, not its base

#: What this training does where the user says nothing: few steps, small ones, on pictures as they are.
RECIPE: dict[str, Any] = {
    "epochs": 3,
    "optimizer": "AdamW",
    "lr0": 1e-4,
    "lrf": 0.1,
    "warmup_epochs": 0.0,
    "weight_decay": 0.0,
    "mosaic": 0.0,
}
#: Pictures of the training split that ranges are measured on, at most: as many as ``export int8=True`` takes.
PICTURES = 300
#: Our settings that act on pairs, of which a merged network has none, or round otherwise than int8.
WITHOUT = ("decay", "decay_shape", "lean", "join", "bfloat16", "weights")


def asks(settings: dict[str, Any]) -> bool:
    """Return whether a training's settings, or those of its ``cfg``, ask for rounding to 8 bits."""
    check_values(settings, {"cfg": KINDS["cfg"]})
    return str(settings.get("quantize", named_settings(settings).get("quantize"))) in {"8", "int8"}


def is_trained_rounded(train_args: Any) -> bool:
    """Return whether a checkpoint with these arguments, which may have been edited, was trained through roundings."""
    return isinstance(train_args, dict) and train_args.get("quantize") == 8


def checked_quantized(model: Any, network: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of such a training, with what this module chooses where the user does not.

    Args:
        model: the interface.
        network: inside of it.
        kwargs: of ``train``; not of a training that is resumed.

    Raises:
        CheckpointError: for a network that is not trained, or none of ours.
        UsageError: for another task, or settings that do not go with it.
        MergeError: for a slope below 1.
    """
    name = str(model.model_name)
    if model.task not in QUANTIZED:
        raise UsageError(f"quantize=8: int8 is for detectors; {name} is made for task={model.task}.")
    if not model.ckpt or not isinstance(network, MergingMixin):
        raise CheckpointError(
            f"quantize=8: model={name} is no trained checkpoint of ours; train it without quantize first, then "
            "'vanillayolo train model=best.pt quantize=8'."
        )
    if hasattr(network.model[-1], "one2one_cv2"):
        raise UsageError("quantize=8: not with a head of two sets of branches, which merging makes one.")
    chosen = [key for key in WITHOUT if kwargs.get(key) is not None]
    chosen += ["pretrained"] if kwargs.get("pretrained") not in (None, True) else []
    if chosen:
        raise UsageError(
            f"{chosen[0]}={kwargs[chosen[0]]}: not with quantize=8, which trains the checkpoint's merged network in "
            f"float32; leave {chosen[0]} out."
        )
    check_mergeable(network)
    given = {**named_settings(kwargs), **{key: value for key, value in kwargs.items() if value is not None}}
    return {**{key: value for key, value in RECIPE.items() if key not in given}, **kwargs, "quantize": 8}


class QuantizedMixin(_Trainer):
    """Trains a merged network through int8's roundings; it stands before the trainer of its task."""

    _pictures: Batches

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: Any = None) -> None:
        super().__init__(cfg, overrides, _callbacks)
        if measure not in self.callbacks["on_train_epoch_start"]:
            self.callbacks["on_train_epoch_start"].append(measure)

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        """Return a copy of the trained network, merged, its scales equalised, its convolutions rounded."""
        files = calibration_images(str(self.args.data), PICTURES, channels_of(weights))
        self._pictures = Batches(files, fitting_imgsz(self.args.imgsz), channels_of(weights))
        network = copy.deepcopy(weights).float().eval().fuse(verbose=False)
        image = torch.zeros(1, channels_of(network), *self._pictures.size)
        if not weights.is_fused():  # what this training saved has been through it
            equalize(network, image, images=self._pictures.stacked())
            correct_biases(network, self._pictures.stacked(), trained_levels)
        round_convolutions(network, (link.writer for link in find_links(network, image) if link.relu))
        network.yaml = self._with_settings(copy.deepcopy(network.yaml), weights)
        network.yaml["deep_training"]["start"] = 1.0
        network.set_lean_training({"lean": "off", "bfloat16": False})
        network.criterion = None
        if RANK in {-1, 0}:
            LOGGER.info(f"{colorstr('quantize:')} merged; weights and maps rounded as in int8, {len(files)} pictures")
        return network.requires_grad_(True)

    def _setup_train(self) -> None:
        """Set up as Ultralytics does, without its own rounding, which is NVIDIA's and before the merge."""
        with replaced(self.args, quantize=None):
            super()._setup_train()

    def save_model(self) -> Any:
        """Save an ordinary merged network, which opens everywhere."""
        with unrounded(student(self.ema.ema)):
            return super().save_model()

    def final_eval(self) -> None:
        """Validate best.pt from its file, in float; say what makes int8 of it."""
        super().final_eval()
        if RANK in {-1, 0}:
            LOGGER.info(
                f"{colorstr('quantize:')} the figures of the epochs are of rounded weights and maps, those of the end "
                f"of {self.best} in float; 'vanillayolo export model={self.best} int8=True data=...' rounds it"
            )


class QuantizedTrainer(QuantizedMixin, VanillaTrainer):
    """Of boxes."""


class QuantizedSegmentationTrainer(QuantizedMixin, VanillaSegmentationTrainer):
    """Of masks."""


class QuantizedPoseTrainer(QuantizedMixin, VanillaPoseTrainer):
    """Of key points."""


class QuantizedOBBTrainer(QuantizedMixin, VanillaOBBTrainer):
    """Of turned boxes."""


#: By task. Ultralytics starts further processes by the name of the class.
QUANTIZED: dict[str, type[VanillaTrainer]] = {
    "detect": QuantizedTrainer,
    "segment": QuantizedSegmentationTrainer,
    "pose": QuantizedPoseTrainer,
    "obb": QuantizedOBBTrainer,
}


def measure(trainer: Any) -> None:
    """Measure, for the epoch that begins, the ranges of the maps of the network, which its average has too."""
    network = student(trainer.model)
    measure_maps(network.eval(), (image.to(trainer.device) for image in trainer._pictures.stacked()))
    copy_ranges(network, student(trainer.ema.ema))
