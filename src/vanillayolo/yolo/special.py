"""Commands of Ultralytics that are no verbs of a model: checks, settings, cfg."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils import DEFAULT_CFG_PATH, SAFE_LOAD, SETTINGS
from ultralytics.utils.checks import collect_system_info

from vanillayolo.errors import UsageError, closest
from vanillayolo.places import check_folder
from vanillayolo.values import FLAG, PATH, check_value

from .lean_training import has_bfloat16_instructions
from .threads import available_cores

PACKAGES = (
    *("vanillayolo", "ultralytics", "torch", "torchvision", "timm", "numpy", "safetensors", "onnx", "onnxruntime"),
    *("openvino", "nncf", "ncnn", "pnnx", "litert-torch", "executorch"),
)
PREFIXES = ("YOLO_", "ULTRALYTICS_", "VANILLAYOLO_", "OMP_", "MKL_")
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "CUDA_VISIBLE_DEVICES")


def checks() -> None:
    """Print what a report of a bug needs: Ultralytics' table, our packages, what of the environment is read."""
    collect_system_info()
    print()
    for name in PACKAGES:
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "(not installed)"
        print(f"{name:<23}{found}")
    print(f"{'cores, threads':<23}{available_cores()}, {torch.get_num_threads()}")
    print(f"{'bfloat16 instructions':<23}{has_bfloat16_instructions()}")
    print(f"{'instructions':<23}{', '.join(instructions()) or '(not told)'}")
    weights = sorted(path.stem for path in (Path(__file__).parents[1] / "weights").glob("*.safetensors"))
    print(f"{'weights in the package':<23}{', '.join(weights) or '(none)'}")
    print(f"{'restricted loading':<23}{SAFE_LOAD}")
    for name, value in sorted(os.environ.items()):
        if (name.startswith(PREFIXES) and "KEY" not in name) or name in NAMES:
            print(f"{name:<23}{value}")


def instructions() -> list[str]:
    """Return the instructions of this CPU for vectors and matrices that torch knows of."""
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return sorted(name for name, there in found.items() if there is True)


def settings(reset: bool, values: dict[str, Any]) -> None:
    """Print Ultralytics' settings, after changing or resetting them.

    Raises:
        UsageError: for a setting that does not exist, a value of another type, or a folder that cannot be.
    """
    check_value("reset", reset, FLAG)
    for key in values:
        if key not in SETTINGS or key == "settings_version":  # another one makes Ultralytics forget all of them
            raise UsageError(f"settings has no key {key!r}: {closest(key, SETTINGS)}")
        if key.endswith("_dir"):
            check_value(key, values[key], PATH)
            check_folder(key, values[key])
    if reset:
        SETTINGS.reset()
    try:
        SETTINGS.update(values)
    except TypeError as error:
        raise UsageError(f"settings: {str(error).splitlines()[0]}") from None
    print(SETTINGS)


def print_defaults() -> None:
    """Print Ultralytics' file of default settings."""
    print(DEFAULT_CFG_PATH.read_text(encoding="utf-8"), end="")
