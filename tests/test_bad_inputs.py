from __future__ import annotations

from pathlib import Path

import pytest

import bad_inputs


@pytest.mark.slow
def test_a_share_of_the_bad_inputs_is_refused_in_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each case is refused before any work, so that hundreds take seconds; all of them run by hand."""
    monkeypatch.chdir(tmp_path)
    outcomes = bad_inputs.run_all(tmp_path / "root", every=10, trained=False)
    assert len(outcomes) > 50
    wrong = [f"{o.kind}: {o.case}\n{o.said}" for o in outcomes if o.kind not in ("refused", "good")]
    assert not wrong, "\n".join(wrong)


def test_what_is_wrong_would_be_seen() -> None:
    clear = "vanillayolo: epochs=0: give a whole number from 1 to 1000000.\n"
    assert bad_inputs.is_clear(clear, "epochs=0")
    for unclear in (
        "vanillayolo: bad.\n",
        clear * 2,
        clear + "more\n",
        "epochs=0: give 1\n",
        "vanillayolo: epochs=0\n",
    ):
        assert not bad_inputs.is_clear(unclear, "epochs=0")
