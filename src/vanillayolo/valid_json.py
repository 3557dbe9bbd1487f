"""Records as valid JSON: the standard has no word for NaN and infinity, so that other readers refuse them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def finite_or_null(value: Any) -> Any:
    """Return plain data in which every number that is not finite is None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite_or_null(entry) for key, entry in value.items()}
    return [finite_or_null(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def json_text(value: Any, indent: int | None = 1) -> str:
    """Return plain data as the text of a JSON file; numbers that are not finite become null."""
    return json.dumps(finite_or_null(value), indent=indent, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; what is no JSON, or nested too deeply, raises a ValueError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def digest(weights: Path, description: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hexadecimal, of a weights file and of all that its JSON says but this (``sha256``)."""
    said = {key: value for key, value in description.items() if key != "sha256"}
    text = json.dumps(json.loads(json_text(said)), sort_keys=True)  # as it is read again: keys are text
    return hashlib.sha256(weights.read_bytes() + text.encode("utf-8")).hexdigest()
