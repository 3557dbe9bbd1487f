"""The settings of lean training: what is kept for the backward pass, in which type CPUs compute, in which form.

They travel in the model YAML's ``lean_training`` key, as ``deep_training`` does: so a resumed run, several processes
and fine-tuning have them without state of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from vanillayolo.errors import UsageError
from vanillayolo.nn import LEAN_MODES

LEAN_KEYS = ("lean", "bfloat16", "join")

#: Whether training on CPUs runs in bfloat16 where nobody says; None: where the CPU has instructions for it.
BFLOAT16: bool | None = None
#: Whether pairs become one convolution for the rest of a training where nobody says.
JOIN = True
#: How much a detector keeps where nobody says.
LEAN = "auto"

#: What x86 calls its instructions on pairs of bfloat16, of vectors and of tiles; without, bfloat16 is no faster.
BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def has_bfloat16_instructions() -> bool:
    """Return whether the CPU multiplies bfloat16 in hardware (measured: twice as fast a step, without tiles too)."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)  # younger than torch 2.6
    found = capabilities()
    return any(found.get(name, False) for name in BFLOAT16_INSTRUCTIONS)


@dataclass(frozen=True)
class LeanTraining:
    """The settings of lean training.

    Attributes:
        lean: one of ``vanillayolo.nn.LEAN_MODES``; see :func:`vanillayolo.nn.set_lean`.
        bfloat16: whether CPUs compute in bfloat16; None (``auto`` in a YAML): where they have instructions for it.
        join: whether each pair, from the first epoch at slope 1 on, is trained as the one convolution that it is.

    Raises:
        UsageError: for a mode that is none, or a value that is neither true, false nor, for ``bfloat16``, auto.
    """

    lean: str = LEAN
    bfloat16: bool | None = BFLOAT16
    join: bool = JOIN

    def __post_init__(self) -> None:
        if not isinstance(self.lean, str) or self.lean not in LEAN_MODES:
            raise UsageError(f"lean={self.lean!r}: allowed are {', '.join(LEAN_MODES)}.")
        if self.bfloat16 is not None and not isinstance(self.bfloat16, bool):
            raise UsageError(f"bfloat16={self.bfloat16!r}: allowed are true, false, auto (where the CPU has it).")
        if not isinstance(self.join, bool):
            raise UsageError(f"join={self.join!r}: allowed are true, false.")

    @property
    def wants_bfloat16(self) -> bool:
        """Whether CPUs compute in bfloat16, answered for this machine's."""
        return has_bfloat16_instructions() if self.bfloat16 is None else self.bfloat16

    @classmethod
    def from_dict(cls, settings: dict[str, Any] | None) -> LeanTraining:
        """Read the settings from a model YAML's ``lean_training`` key.

        Raises:
            UsageError: for a key that does not exist.
        """
        settings = settings or {}
        if not isinstance(settings, dict) or (unknown := sorted(set(settings) - set(LEAN_KEYS))):
            given = unknown[0] if isinstance(settings, dict) else settings
            raise UsageError(f"lean_training key {given!r}: allowed are {', '.join(LEAN_KEYS)}.")
        words: dict[str, dict[Any, Any]] = {
            "lean": {False: "off"},
            "bfloat16": {"auto": None},
        }  # False is YAML's reading of a bare off
        return cls(**{key: _word(value, words.get(key, {})) for key, value in settings.items()})


def _word(value: Any, words: dict[Any, Any]) -> Any:
    """Return what a word stands for; 0 is not False here."""
    return words[value] if isinstance(value, (str, bool)) and value in words else value
