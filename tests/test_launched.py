"""What each command does as one of several processes that a launcher started."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vanillayolo import cli, launched

PAGE = Path(__file__).parents[1] / "docs" / "several_machines.md"


@pytest.fixture(autouse=True)
def as_second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)


def refused(command: str, **settings: str) -> bool:
    try:
        launched.check_alone(command, settings)
    except launched.UsageError:
        return True
    return False


def test_the_page_says_what_each_command_does(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = re.findall(r"^\| (`.*) \| (shared|each|refused)", PAGE.read_text(encoding="utf-8"), re.M)
    says = {word: how for words, how in rows for word in re.findall(r"`([^`]+)`", words)}
    assert says.pop("predict output=FOLDER") == "shared"
    assert set(says) == set(cli.COMMANDS)
    for command, how in says.items():
        assert refused(command) is (how == "refused"), command
    assert refused("predict", output="x")  # nobody to share with: left over
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    assert not refused("predict", output="x")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not refused("demo")


def test_a_refusal_is_one_line_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["demo", f"folder={tmp_path / 'demo'}"]
    assert cli.main(words) == 2  # a number left over: the only process says so
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 0
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "vanillayolo: demo: is for one process, and WORLD_SIZE=2 says that a launcher started several"
    )
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
