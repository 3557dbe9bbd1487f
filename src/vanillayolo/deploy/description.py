"""What the JSON beside a collapsed network's weights may say, and whether the weights are those it was written with.

Its ``yaml`` is held to stock rows by :mod:`vanillayolo.yolo.yaml_check`, so that opening the pair runs nothing.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

FORMAT = "vanillayolo-merged-1"
KEYS = {"format", "parameters", "equality", "yaml", "names", "stride", "input", "output", "sha256"}


def check_description(description: Any) -> dict[str, Any]:
    """Return the description of a collapsed network, checked.

    Raises:
        ValueError: for a format or key that is not one of ours.
    """
    if not isinstance(description, dict):
        raise ValueError(f"the JSON holds {type(description).__name__}, not a mapping")
    for key in description:
        if key not in KEYS:
            raise ValueError(f"the JSON has no key {str(key)[:40]!r}; allowed: {', '.join(sorted(KEYS))}")
    if description.get("format") != FORMAT:
        raise ValueError(f"format {str(description.get('format'))[:40]!r}, not {FORMAT}")
    return description


def digest(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def check_weights_file(weights: Path, description: dict[str, Any]) -> None:
    """Compare the weights with the checksum of the description; one written before there was any has none, and warns.

    Raises:
        ValueError: when they are not the weights that the description was written with.
    """
    if "sha256" not in description:
        warnings.warn(
            f"{weights}: its JSON holds no checksum; collapse the checkpoint again to have one.", stacklevel=3
        )
    elif digest(weights) != description["sha256"]:
        raise ValueError(f"{weights.name} is not the file that the JSON was written with: damaged, or another's")
