"""What the JSON beside a collapsed network's weights may say, and whether both files are as they were written.

Its ``yaml`` is held to stock rows by :mod:`vanillayolo.yolo.yaml_check`, so that opening the pair runs nothing.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from vanillayolo.valid_json import digest

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


def check_weights_file(weights: Path, description: dict[str, Any]) -> None:
    """Compare both files with the checksum in the description; one written before there was any has none, and warns.

    Raises:
        ValueError: when they are not what was written together.
    """
    if "sha256" not in description:
        warnings.warn(
            f"{weights}: its JSON holds no checksum; collapse the checkpoint again to have one.", stacklevel=3
        )
    elif digest(weights, description) != description["sha256"]:
        raise ValueError(f"{weights.name} and its JSON are not as they were written together: damaged, edited or mixed")
