from __future__ import annotations

from typing import Any

import pytest

from vanillayolo.errors import UsageError
from vanillayolo.yolo.arguments import check_classes, check_freeze, check_imgsz, check_numbers, check_quantize


@pytest.mark.parametrize("settings", [{"batch": -1}, {"batch": 0.6}, {"batch": 8}, {"time": 0.5}, {"workers": 0}, {}])
def test_numbers_with_a_meaning_pass(settings: dict[str, Any]) -> None:
    check_numbers(settings)


@pytest.mark.parametrize("freeze", [None, 0, 3, [0, 4], ["head", 2]])
def test_rows_that_there_are_may_be_held(freeze: Any) -> None:
    check_freeze(freeze, 19)


@pytest.mark.parametrize("freeze", [-1, 19, True, "head", [19], [0, 1.5], list(range(19))])
def test_rows_that_there_are_not_are_refused(freeze: Any) -> None:
    with pytest.raises(UsageError, match="freeze="):
        check_freeze(freeze, 19)


def test_sizes_classes_and_quantisation() -> None:
    for good in (32, 641, [320, 640]):
        check_imgsz(good)
    for bad in (31, "640", [320, 0], [1, 2, 3], True, None):
        with pytest.raises(UsageError, match="imgsz="):
            check_imgsz(bad)
    check_classes([0, 2])
    with pytest.raises(UsageError, match="classes="):
        check_classes([-1])
    check_quantize(None)
    with pytest.raises(UsageError, match="does not merge exactly"):
        check_quantize("int8")
