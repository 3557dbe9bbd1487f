from __future__ import annotations

import contextlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vanillayolo import commands, study_commands, values
from vanillayolo.errors import UsageError
from vanillayolo.values import FLAG, KINDS, NAMES, NONE, PATH, SEEDS, SIZE, check_value, checked, number, several, whole


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (whole(1, 9), [1, 9, 2.0], [0, 10, True, None, "1", 1.5, float("nan"), float("inf"), [1], 10**400]),
        (number(0, 1), [0, 1, 0.5], [-0.1, 1.1, True, None, "0", float("nan"), -(10**400), (0.5,)]),
        (number(0, 1, above=True), [1e-9, 1], [0, 2]),
        (FLAG, [True, False], [0, 1, "true", None]),
        (FLAG | NONE, [True, None], [0, ""]),
        (
            PATH,
            ["a", Path("a/b"), "ä" * 100],
            ["", " ", "a\0b", "x" * 256, "a/" * 2100, 7, None, ["a"], "\udcff", Path("\udcff")],
        ),
        (NAMES, ["a,b", ["a", "b"]], ["", [], [7], 7, None, ["a", ""]]),
        (SIZE, [32, 640, [320, 640], (64,)], [31, "64", [32, 0], [1, 2, 3], [], True, 10**9, 64.5]),
        (KINDS["sizes"], [1, (25, 50)], [0, [[1]], {1: 2}, (), 1.5, "1", ...]),
        (KINDS["workers"], [1, 64], [0, 10**6, 1.5, 2.0, None]),
        (KINDS["threads"], [0, 1, 64], [-1, 10**4, 1.5, None]),
        (SEEDS, [0, (0, 1), [5]], [-1, [], [0, -1], "a", True, 2**32, [True]]),
        (several(whole(0, 3), 2), [[0, 1]], [[0], 0, "01"]),
    ],
)
def test_kinds(kind: values.Kind, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        check_value("key", value, kind)
    for value in bad:
        with pytest.raises(UsageError, match=r"^key=.*: give ") as error:
            check_value("key", value, kind)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 300


def test_what_two_kinds_take_is_said_once() -> None:
    assert (FLAG | NONE | NONE).says == "true or false, or none"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), st.lists, max_leaves=4
    )
)
def test_any_value_fits_or_is_refused(value: Any) -> None:
    for kind in KINDS.values():
        with contextlib.suppress(UsageError):  # anything else that is raised fails this test
            check_value("key", value, kind)


def test_a_function_refuses_before_it_begins() -> None:
    begun = []

    @checked
    def work(folder: str | Path = "", epochs: int = 0, share: float | None = None, **rest: Any) -> str:
        begun.append(epochs)
        return f"{folder} {epochs} {share} {rest}"

    assert work() == " 0 None {}"  # its own defaults always pass
    assert work("a", 3, share=None, more=[]) == "a 3 None {'more': []}"
    for bad in ({"folder": 7}, {"epochs": True}, {"epochs": -1}, {"share": "much"}, {"share": float("nan")}):
        with pytest.raises(UsageError, match=f"^{next(iter(bad))}="):
            work(**bad)
    assert len(begun) == 2
    assert list(inspect.signature(work).parameters) == ["folder", "epochs", "share", "rest"]


def test_every_number_of_a_command_has_a_kind() -> None:
    """A new ``int``, ``float`` or ``bool`` parameter of a command is checked without anybody thinking of it."""
    for command in (commands.verify, study_commands.benchmark, commands.info, commands.yaml):
        assert hasattr(command, "__wrapped__"), command
