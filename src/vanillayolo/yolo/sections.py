"""Our keys of training: under which key of the model's YAML each travels, and which of them do not go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vanillayolo.errors import UsageError
from vanillayolo.nn import DeepTraining
from vanillayolo.nn.reparameterize import is_joined
from vanillayolo.settings import Settings

from .fine_tuning import FineTuning, freeze_entries, freezes_backbone
from .lean_training import LeanTraining
from .recipe import Recipe

#: Our settings by the key of the model's YAML that they travel under: Ultralytics' arguments are a closed list.
SECTIONS: dict[str, type[Settings]] = {s.SECTION: s for s in (DeepTraining, LeanTraining, FineTuning, Recipe)}


def keys_of(name: str) -> tuple[str, ...]:
    """Return the training keys of a section; where the slope starts is not the user's to say."""
    return tuple(key for key in SECTIONS[name].KINDS if key != "start")


#: Sections of every task; a classifier has its recipe besides.
COMMON = ("deep_training", "lean_training", "fine_tuning")
#: Our keys of ``train``; ``freeze_stages`` becomes Ultralytics' own ``freeze``.
TRAIN_KEYS = (*(key for name in COMMON for key in keys_of(name)), "freeze_stages")
CLASSIFY_KEYS = (*TRAIN_KEYS, *keys_of("recipe"))


def section(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the settings, among those given, that belong under ``name`` in the model's YAML."""
    return {key: settings[key] for key in keys_of(name) if settings.get(key) is not None}


def check_own(settings: dict[str, Any], freeze: Any = None) -> None:
    """Raise UsageError for a value of ours that does not exist, or that asks to train a frozen backbone deep."""
    for name, own in SECTIONS.items():
        own.from_dict(section(settings, name))
    freeze, decay = freeze_entries(freeze, settings.get("freeze_stages")), settings.get("decay")
    if decay and freezes_backbone(freeze):
        raise UsageError(f"freeze={freeze} holds the backbone, decay={decay} trains it deep: give one of them.")


def check_form(weights: Any, decay: float | None) -> None:
    """Raise UsageError where weights whose pairs are one convolution each are to be trained deep once more."""
    if decay and weights is not None and is_joined(weights):
        raise UsageError(
            f"decay={decay}: the checkpoint's pairs are one convolution each since they reached slope 1; only slope "
            "1 is left to train: leave decay out, or train it with join=false in the first place."
        )
