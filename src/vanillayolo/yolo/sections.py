"""Our keys of training: under which key of the model's YAML each travels, and which of them do not go together."""

from __future__ import annotations

from typing import Any

from vanillayolo.errors import UsageError
from vanillayolo.nn import DeepTraining
from vanillayolo.nn.reparameterize import is_joined

from .fine_tuning import FineTuning, freeze_entries, freezes_backbone
from .lean_training import LeanTraining

#: Our training keys by the key of the model's YAML that they travel under: Ultralytics' arguments are a closed list.
SECTIONS: dict[str, tuple[str, ...]] = {
    "deep_training": ("decay", "decay_shape"),
    "lean_training": tuple(LeanTraining.KINDS),
    "fine_tuning": tuple(FineTuning.KINDS),
}
#: ... and ``freeze_stages``, which becomes Ultralytics' own ``freeze``.
TRAIN_KEYS = (*(key for keys in SECTIONS.values() for key in keys), "freeze_stages")


def section(settings: dict[str, Any], name: str, table: dict[str, tuple[str, ...]] | None = None) -> dict[str, Any]:
    """Return the settings, among those given, that belong under ``name`` in the model's YAML."""
    return {key: settings[key] for key in (table or SECTIONS)[name] if settings.get(key) is not None}


def check_own(settings: dict[str, Any], freeze: Any = None) -> None:
    """Raise UsageError for a value of ours that does not exist, or that asks to train a frozen backbone deep."""
    given = section(settings, "deep_training")
    DeepTraining.from_dict(given)
    LeanTraining.from_dict(section(settings, "lean_training"))
    FineTuning.from_dict(section(settings, "fine_tuning"))
    freeze = freeze_entries(freeze, settings.get("freeze_stages"))
    if given.get("decay") and freezes_backbone(freeze):
        raise UsageError(
            f"freeze={freeze} holds the backbone, decay={given['decay']} trains it deep: give one of them."
        )


def check_form(weights: Any, decay: float | None) -> None:
    """Raise UsageError where weights whose pairs are one convolution each are to be trained deep once more."""
    if decay and weights is not None and is_joined(weights):
        raise UsageError(
            f"decay={decay}: the checkpoint's pairs are one convolution each since they reached slope 1; only slope "
            "1 is left to train: leave decay out, or train it with join=false in the first place."
        )
