"""VanillaNet as a classifier, the paper's own task, on Ultralytics' classification engine."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from torch import Tensor
from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.nn.tasks import ClassificationModel, temporary_modules
from ultralytics.utils import LOGGER, RANK, colorstr

from .architecture import building, resolve
from .deep_trainer import DeepTrainingMixin
from .families import Yaml
from .fine_tuning import check_stages
from .merging import MergingMixin
from .modules import VanillaClassify, VanillaFeatures
from .recipe import LOSSES, Recipe
from .sections import SECTIONS

#: Our YAML rows, put into Ultralytics' parser for the time of building only.
ROWS = {
    f"ultralytics.nn.tasks.{cls.__name__}": f"{cls.__module__}.{cls.__name__}"
    for cls in (VanillaFeatures, VanillaClassify)
}


#: Updates in which the averaging gains its full length, as in Ultralytics.
EMA_WARMUP = 2000


class ClassificationLoss:
    """The loss of a classifier, from its logits; Ultralytics' own takes class numbers only.

    Args:
        loss: a key of :data:`vanillayolo.yolo.recipe.LOSSES`.
    """

    def __init__(self, loss: str) -> None:
        self.loss = loss

    def __call__(self, preds: Any, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts; ``preds`` are logits, or (probabilities, logits) outside of training."""
        logits = preds[1] if isinstance(preds, (list, tuple)) else preds
        loss = LOSSES[self.loss](logits, batch["cls"])
        return loss, {"loss": loss.detach()}


class VanillaClassificationModel(MergingMixin, ClassificationModel):
    """VanillaNet as an Ultralytics classification model, in training form until :meth:`fuse`.

    Args:
        cfg: model name, path of a model YAML, or its dict (copied).
        ch: channels of the image.
        nc: number of classes; the YAML's where not given.
        verbose: print the table of layers.

    Raises:
        ModelNameError: when ``cfg`` describes no classification network of ours.
        UsageError: when its settings of training do not exist.
    """

    def __init__(
        self, cfg: str | Yaml = "vanillanet-6-cls", ch: int = 3, nc: int | None = None, verbose: bool = True
    ) -> None:
        yaml_dict = resolve(cfg)
        yaml_dict["backbone"][0][3][0]["in_chans"] = ch
        with building(cfg, "vanillanet-6-cls"), temporary_modules(attributes=ROWS):
            super().__init__(yaml_dict, ch=ch, nc=nc, verbose=verbose)
        self._set_up(yaml_dict, momentum=0.1)  # torch's, as in the paper's code

    def init_criterion(self) -> ClassificationLoss:
        """Return the loss that the YAML's ``recipe`` names."""
        return ClassificationLoss(Recipe.from_dict(self.yaml.get("recipe")).loss)


class VanillaClassificationTrainer(DeepTrainingMixin, ClassificationTrainer):
    """Ultralytics' classification trainer with deep training.

    ``mixup`` and ``cutmix``, which Ultralytics' classification leaves unused, mix images and targets as timm does.

    Args:
        cfg: Ultralytics' default settings.
        overrides: Ultralytics' arguments and ours (:data:`vanillayolo.yolo.sections.CLASSIFY_KEYS`).
        _callbacks: Ultralytics' callbacks.
    """

    sections = tuple(SECTIONS)
    _mixer: Any = None

    @property
    def recipe(self) -> Recipe:
        """The settings of this run, from the model's YAML."""
        source = self.model if isinstance(self.model, dict) else self.model.yaml
        return Recipe.from_dict(source.get("recipe"))

    def get_model(
        self, cfg: str | Yaml | None = None, weights: Any = None, verbose: bool = True
    ) -> VanillaClassificationModel:
        """Return the classifier for this run, with the weights loaded where there are any."""
        cfg = self._with_settings(resolve(cfg or self.args.model), weights)
        model = VanillaClassificationModel(
            cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=verbose and RANK == -1
        )
        check_stages(self.args.freeze, model)
        self._load_weights(model, weights)
        if self.args.dropout:
            model.model[-1].drop.p = self.args.dropout
        return model

    def setup_model(self) -> Any:
        """Load or build the model; its number of classes is right already."""
        return super(ClassificationTrainer, self).setup_model()

    def build_dataset(self, img_path: str, mode: str = "train", batch: Any = None) -> Any:
        """Build Ultralytics' dataset; in training with timm's random augmentation where the recipe has one."""
        dataset = super().build_dataset(img_path, mode, batch)
        if mode == "train" and self.recipe.rand_augment:
            steps = dataset.torch_transforms.transforms
            random = [
                i for i, step in enumerate(steps) if type(step).__name__ in ("RandAugment", "AugMix", "AutoAugment")
            ]
            at = random[0] if random else 1  # after cropping, before the tensor
            steps[at : at + len(random)] = [self.recipe.transform()]
        return dataset

    def preprocess_batch(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Move a training batch to the device and mix its images and targets."""
        batch = super().preprocess_batch(batch)
        mixup, cutmix = float(self.args.mixup), float(self.args.cutmix)
        if mixup or cutmix:
            if self._mixer is None:
                from timm.data import Mixup

                self._mixer = Mixup(mixup, cutmix, label_smoothing=0.0, num_classes=self.data["nc"])
            if len(batch["img"]) % 2 == 0:  # timm mixes an image with that at the other end: pairs
                batch["img"], batch["cls"] = self._mixer(batch["img"], batch["cls"])
        return batch

    def apply_slope(self) -> None:
        """Apply the epoch's slope, and the recipe's averaging."""
        super().apply_slope()
        if decay := self.recipe.ema_decay:
            self.ema.decay = lambda updates: decay * (1 - math.exp(-updates / EMA_WARMUP))

    def _setup_train(self) -> None:
        """Set up as Ultralytics does, and say what the recipe is."""
        super()._setup_train()
        if RANK in {-1, 0}:
            mixing = {"mixup": self.args.mixup, "cutmix": self.args.cutmix, "dropout": self.args.dropout}
            text = ", ".join(f"{key} {value}" for key, value in {**asdict(self.recipe), **mixing}.items() if value)
            LOGGER.info(f"{colorstr('recipe:')} {text}")
