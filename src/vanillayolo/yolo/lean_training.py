"""The settings of lean training: what is kept for the backward pass, in which type CPUs compute, in which form.

They travel in the model YAML's ``lean_training`` key, as ``deep_training`` does: so a resumed run, several processes
and fine-tuning have them without state of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from vanillayolo.nn import LEAN_MODES
from vanillayolo.settings import Settings
from vanillayolo.values import FLAG, Kind, one_of

#: Whether training on CPUs runs in bfloat16 where nobody says; None: where the CPU has instructions for it.
BFLOAT16: bool | None = None
#: What x86 calls its instructions on pairs of bfloat16, of vectors and of tiles; without, bfloat16 is no faster.
BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def has_bfloat16_instructions() -> bool:
    """Return whether the CPU multiplies bfloat16 in hardware (measured: twice as fast a step, without tiles too)."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)  # younger than torch 2.6
    found = capabilities()
    return any(found.get(name, False) for name in BFLOAT16_INSTRUCTIONS)


@dataclass(frozen=True)
class LeanTraining(Settings):
    """The settings of lean training.

    Attributes:
        lean: ``off``, ``auto`` or ``max``, how little is kept; see :func:`vanillayolo.nn.set_lean`.
        bfloat16: whether CPUs compute in bfloat16; None (``auto`` in a YAML): where they have instructions for it.
        join: whether each pair, from the first epoch at slope 1 on, is trained as the one convolution that it is.

    Raises:
        UsageError: for a mode that is none, or a value that is neither true, false nor, for ``bfloat16``, auto.
    """

    SECTION = "lean_training"
    KINDS: ClassVar[dict[str, Kind]] = {
        "lean": one_of(*LEAN_MODES),
        "bfloat16": FLAG | Kind("auto (where the CPU has it)", lambda v: v is None or v == "auto"),
        "join": FLAG,
    }
    WORDS: ClassVar[dict[str, dict[Any, Any]]] = {"lean": {False: "off"}, "bfloat16": {"auto": None}}  # a bare off
    lean: str = "auto"
    bfloat16: bool | None = BFLOAT16
    join: bool = True

    @property
    def wants_bfloat16(self) -> bool:
        """Whether CPUs compute in bfloat16, answered for this machine's."""
        return has_bfloat16_instructions() if self.bfloat16 is None else self.bfloat16
