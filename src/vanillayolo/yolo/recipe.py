"""The settings of a classifier's training that Ultralytics has no keys for: loss, averaging, augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from vanillayolo.errors import UsageError
from vanillayolo.settings import Settings
from vanillayolo.values import TEXT, Kind, is_number, one_of


def soft_targets(classes: Tensor, num_classes: int) -> Tensor:
    """Return class numbers ``[batch]`` as targets ``[batch, classes]``; those that are targets already, as they are."""
    return classes.float() if classes.dim() == 2 else F.one_hot(classes.long(), num_classes).float()


#: What a classifier may be trained with: mean over the batch, of the classes' sum for ``bce`` divided by their number.
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": lambda logits, classes: F.cross_entropy(logits, soft_targets(classes, logits.shape[1])),
    "bce": lambda logits, classes: F.binary_cross_entropy_with_logits(logits, soft_targets(classes, logits.shape[1])),
}


@dataclass(frozen=True)
class Recipe(Settings):
    """The settings of a classifier's training that Ultralytics has no keys for.

    Attributes:
        loss: ``ce`` (softmax and cross-entropy) or ``bce`` (a sigmoid for every class).
        ema_decay: decay of the averaged weights; None: Ultralytics' 0.9999.
        rand_augment: timm's name of a random augmentation (``rand-m7-mstd0.5-inc1``) in place of Ultralytics'.

    Raises:
        UsageError: for a value that does not exist.
    """

    SECTION = "recipe"
    KINDS: ClassVar[dict[str, Kind]] = {
        "loss": one_of(*LOSSES),
        "ema_decay": Kind("a number between 0 and 1", lambda v: is_number(v) and 0 < v < 1),
        "rand_augment": TEXT,
    }
    loss: str = "ce"
    ema_decay: float | None = None
    rand_augment: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rand_augment is not None:
            self.transform()

    def transform(self) -> Any:
        """Return timm's random augmentation of PIL images."""
        from timm.data.auto_augment import rand_augment_transform

        try:
            if not str(self.rand_augment).startswith("rand"):
                raise ValueError("it does not begin with rand")
            return rand_augment_transform(str(self.rand_augment), {})
        except (AssertionError, ValueError, KeyError) as error:
            raise UsageError(
                f"rand_augment={self.rand_augment!r}: give timm's notation, like rand-m7-mstd0.5-inc1 ({error})."
            ) from None
