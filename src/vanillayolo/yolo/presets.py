"""The authors' ImageNet recipes as named presets: data, put under whatever the user gives."""

from __future__ import annotations

from typing import Any

from ultralytics.utils import LOGGER, colorstr

from vanillayolo.errors import UsageError, closest

#: What every variant shares. The batch of 1024 is Ultralytics' ``nbs``: gradients are gathered up to it.
SHARED: dict[str, Any] = {
    "epochs": 300,
    "nbs": 1024,
    "optimizer": "LAMB",
    "loss": "bce",
    "ema_decay": 0.99996,
    "rand_augment": "rand-m7-mstd0.5-inc1",
    "dropout": 0.05,
    "amp": True,
    "decay": 1 / 3,  # 100 of 300 epochs
    "decay_shape": "linear",
}

#: Per variant: https://github.com/huawei-noah/VanillaNet (MIT), as far as its recipes are published.
PAPER: dict[str, dict[str, Any]] = {
    "5": {"lr0": 3.5e-3, "weight_decay": 0.35, "mixup": 0.1},
    "6": {"lr0": 4.8e-3, "weight_decay": 0.32, "mixup": 0.15, "layer_decay": 0.8},
    "7": {"lr0": 4.7e-3, "weight_decay": 0.35, "mixup": 0.4, "layer_decay": 0.8},
    "8": {"lr0": 3.5e-3, "weight_decay": 0.3, "mixup": 0.4},
    "9": {"lr0": 3.5e-3, "weight_decay": 0.3, "mixup": 0.4},
    "10": {"lr0": 3.5e-3, "weight_decay": 0.25, "mixup": 0.4},
}
PRESETS: dict[str, dict[str, Any]] = {f"paper-{variant}": {**SHARED, **row} for variant, row in PAPER.items()}


def preset_settings(name: str, variant: str | None) -> tuple[str, dict[str, Any]]:
    """Return a preset's full name and settings; ``paper`` is that of the model's own variant.

    Raises:
        UsageError: for a name that is none, or a variant whose recipe is not published.
    """
    full = f"paper-{variant}" if name == "paper" else name
    if full in PRESETS:
        return full, PRESETS[full]
    if name == "paper":
        raise UsageError(f"preset=paper: no recipe is published for variant {variant}; allowed: {', '.join(PRESETS)}.")
    raise UsageError(f"preset={name!r}: {closest(name, ['paper', *PRESETS])}")


def with_preset(name: str, variant: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return the user's settings over a preset's, and say what of it applies.

    Raises:
        UsageError: for a name that is none.
    """
    full, preset = preset_settings(name, variant)
    own = {key: value for key, value in given.items() if value is not None}
    text = ", ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in preset.items()
        if key not in own
    )
    instead = ", ".join(f"{key}={own[key]}" for key in preset if key in own)
    LOGGER.info(f"{colorstr(f'preset {full}:')} {text}" + (f"; given instead: {instead}" if instead else ""))
    return {**preset, **own}
