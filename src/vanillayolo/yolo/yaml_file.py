"""A model's YAML as a user left it: read strictly."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from vanillayolo.errors import ModelNameError


class RepeatedKeyError(yaml.MarkedYAMLError):
    """A key that a YAML has twice: the second would take the place of the first, silently."""


class UniqueKeys(yaml.SafeLoader):
    """PyYAML's loader of plain data, which refuses a key given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node."""
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key.value, str):
                raise RepeatedKeyError(problem=f"key {key.value!r} twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key.value, str) else id(key))
        return super().construct_mapping(node, deep)


@lru_cache(16)  # a sixth of the time that a small network takes to be built; it is read several times
def _parsed(text: str) -> Any:
    return yaml.load(text, UniqueKeys)


def read_yaml(path: Path) -> Any:
    """Return what a model's YAML holds, unchecked.

    Raises:
        ModelNameError: when the file is missing or no YAML.
    """
    try:
        return deepcopy(_parsed(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ModelNameError(f"model {str(path)!r}: no such file; 'vanillayolo yaml model=NAME' writes one.") from None
    except OSError as error:
        raise ModelNameError(f"model {str(path)!r}: cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)  # PyYAML has all of these for text that is no YAML
        where = f" at line {mark.line + 1}" if mark else ""
        reason = f" ({error.problem})" if isinstance(error, RepeatedKeyError) else ""
        raise ModelNameError(
            f"model {str(path)!r}: not valid YAML{where}{reason}; 'vanillayolo yaml model=NAME' prints one."
        ) from None
