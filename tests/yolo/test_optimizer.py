from __future__ import annotations

import pytest
import torch

from vanillayolo.yolo.optimizer import check_like


def test_an_optimizers_values_are_like_those_built_here() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 3))
    for value, like in (
        (0.1, 1),
        (torch.tensor(3.0), 0),
        (torch.ones(2, 3), weight),
        (None, True),
        ((0.9, 0.99), (1, 2)),
    ):
        check_like("key", value, like)
    for value, like in (
        ("x", 0.1),
        (True, 0.1),
        (torch.zeros(3), weight),
        ("x", 0),
        (7, (0.9, 0.99)),
        (7, True),
        (True, False),
    ):
        with pytest.raises(ValueError, match=r"^key="):
            check_like("key", value, like)
