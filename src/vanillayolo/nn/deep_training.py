"""Deep training: the slope of the leaky ReLU inside every pair, from 0 to 1 while training goes on.

Paper: arXiv 2305.12972, section 3.1: ``lambda = epoch / decay_epochs``, then 1. The slope is a pure function of the
position in training; applying it to a network is one loop. So a resumed run, a retried epoch, an averaged model and
several processes need no state of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from vanillayolo.errors import UsageError
from vanillayolo.settings import Settings
from vanillayolo.values import SHARE, Kind, one_of

from .layers import DeepPair

#: How far the slope has come (0 to 1) after a share of the ramp (0 to 1).
DECAY_SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda t: t,
    "cosine": lambda t: 0.5 * (1.0 - math.cos(math.pi * t)),
}


@dataclass(frozen=True)
class DeepTraining(Settings):
    """The settings of deep training.

    Attributes:
        decay: share of the training in which the slope rises, 0 to 1; 0 turns deep training off (slope 1 throughout).
        decay_shape: ``linear`` or ``cosine``.
        start: slope at the beginning; weights loaded at slope 1 start, and so stay, there.

    Raises:
        UsageError: for a share outside 0 to 1, an unknown shape or a start outside 0 to 1.
    """

    SECTION = "deep_training"
    KINDS: ClassVar[dict[str, Kind]] = {
        "decay": Kind("a number from 0 to 1, the share of the epochs in which the slope rises (0: none)", SHARE.fits),
        "decay_shape": one_of(*DECAY_SHAPES),
        "start": SHARE,
    }
    decay: float = 1 / 3
    decay_shape: str = "linear"
    start: float = 0.0

    def slope(self, position: float, ramp: float) -> float:
        """Return the slope at ``position`` of a ramp of length ``ramp`` (same unit); exactly 1.0 from its end on."""
        if ramp <= 0 or position >= ramp or self.start == 1:
            return 1.0
        return self.start + (1.0 - self.start) * DECAY_SHAPES[self.decay_shape](max(position, 0.0) / ramp)

    def ramp_epochs(self, epochs: int) -> int:
        """Return how many epochs have a slope below 1: the share asked for, but always one epoch fewer than there are.

        The last epoch at least is trained at slope 1, else the run could not be merged; so a run of one epoch has
        slope 1 at once.
        """
        return 0 if self.start == 1 else max(min(round(self.decay * epochs), epochs - 1), 0)

    def epoch_slope(self, epoch: int, epochs: int) -> float:
        """Return the slope of ``epoch`` (from 0) in a run of ``epochs``."""
        return self.slope(epoch, self.ramp_epochs(epochs))


def deep_pairs(model: nn.Module) -> Iterator[tuple[str, DeepPair]]:
    """Yield name and module of every deep pair."""
    for name, module in model.named_modules():
        if isinstance(module, DeepPair):
            yield name, module


def set_negative_slope(model: nn.Module, slope: float) -> None:
    """Set the slope of every deep pair: 0 is ReLU, 1 the identity.

    Raises:
        UsageError: when the slope is outside 0 to 1, or below 1 where the pairs are joined; nothing is changed then.
    """
    if not 0 <= slope <= 1:
        raise UsageError(f"negative slope {slope!r}: give a number from 0 (ReLU) to 1 (identity).")
    pairs = list(deep_pairs(model))
    if slope != 1 and (joined := next((name for name, pair in pairs if pair.is_joined), None)):
        raise UsageError(
            f"negative slope {slope:g}: {joined} is one convolution since its slope reached 1; only slope 1 is left."
        )
    for _, pair in pairs:
        pair.negative_slope = float(slope)


def get_negative_slope(model: nn.Module) -> float | None:
    """Return the smallest slope of all pairs, or None where there is none (a merged network)."""
    return min((pair.negative_slope for _, pair in deep_pairs(model)), default=None)
