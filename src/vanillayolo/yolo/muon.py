"""Muon's orthogonal updates on CPUs without bfloat16.

Ultralytics' MuSGD, which ``optimizer=auto`` takes for more than 10,000 updates, makes its matrices orthogonal in
bfloat16. A CPU without instructions for it emulates them: YOLO11n's matrices take 8.0 s there, 0.3 s in float32
(findings/ultralytics_muon_on_cpus.sh). On such a CPU they are made in float32, by the same iteration.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .lean_training import has_bfloat16_instructions

#: Of the quintic that brings all singular values near 1, and how often it is applied (K. Jordan, "Muon", 2024).
QUINTIC, ROUNDS = (3.4445, -4.7750, 2.0315), 5


def orthogonal(matrices: Tensor, eps: float = 1e-7) -> Tensor:
    """Return matrices ``[..., rows, columns]`` with all singular values near 1, in float32; those of 0 stay."""
    x = matrices.float()
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + eps)
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    first, third, fifth = QUINTIC
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = first * x + (third * square + fifth * square @ square) @ x
    return x.mT if tall else x


def fitting_muon(device: torch.device) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return what to put in the place of Ultralytics' functions, by name: nothing but on a CPU without bfloat16."""
    slow = device.type == "cpu" and not has_bfloat16_instructions()
    return {"zeropower_via_newtonschulz5": orthogonal} if slow else {}
