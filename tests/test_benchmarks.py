"""The scripts under benchmarks/ are current: they import what they need and say what they take."""

from __future__ import annotations

import json
import os
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from vanillayolo.errors import UsageError

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if "ArgumentParser" in path.read_text(encoding="utf-8"))


def test_the_index_names_every_record_and_script_and_where_it_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from readme_table import KINDS

    root, index = FOLDER.parent, (FOLDER / "README.md").read_text(encoding="utf-8")
    own = {kind: file for kind, (_, file) in KINDS.items() if file}
    rows = re.findall(r"^\| [^|]+ \| `([\w.-]+\.json)` \| ([^|]+) \| ([^|]+) \|$", index, re.M)
    assert sorted(record for record, *_ in rows) == sorted(path.name for path in FOLDER.rglob("*.json"))
    for record, makers, places in rows:
        for place in places.split(", "):
            text = (root / place).read_text(encoding="utf-8")
            marks = [f"<!-- table: {kind} -->" for kind, file in own.items() if file == record]
            assert record in text or any(mark in text for mark in marks), f"{place} does not quote {record}"
        for maker in re.findall(r"`([\w/]+\.py)`", makers):
            assert (FOLDER / maker).exists() or (root / maker).exists(), maker
    for path in [*FOLDER.glob("*.py"), *FOLDER.glob("*.yaml")]:
        assert f"`{path.name}`" in index or f"benchmarks/{path.name}`" in index, path.name


def test_a_record_names_no_place_of_the_machine_that_made_it() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.json")}
    assert {name: found for name, text in texts.items() if (found := re.findall(r'[ =",]/[a-z]+/[^ "]*', text))} == {}


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda path: path.stem)
def test_script_says_what_it_takes(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", [str(file), "--help"])
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(file), run_name="__main__")
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_the_picture_shows_every_network_of_its_protocol_that_was_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import accuracy_latency

    record, times = (
        json.loads((FOLDER / name).read_text()) for name in ("accuracy/updates.json", "time/runtimes.json")
    )
    runs = [run for run in record["runs"] if all(run[key] == value for key, value in accuracy_latency.PROTOCOL.items())]
    wanted = {(run["network"], run["start"]) for run in runs if run["network"] in times["models"]}
    wanted = {it for it in wanted if it[1] in accuracy_latency.STARTS}
    (axes,) = accuracy_latency.drawn(record, times).axes
    assert len(axes.texts) == len(axes.containers) == len(wanted) > 3
    assert {text.get_text().split("\n")[0] for text in axes.texts} == {name for name, _ in wanted}
    for x, y in (text.xy for text in axes.texts):
        assert axes.get_xlim()[0] < x < axes.get_xlim()[1]
        assert axes.get_ylim()[0] < y < axes.get_ylim()[1]


def test_runs_are_added_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import runs

    path = tmp_path / "a.json"
    assert not runs.has_run(path, seed=0)
    runs.add_run(path, {"model": "a", "seed": 0})
    runs.add_run(path, {"model": "b", "seed": 0})
    assert [run["model"] for run in runs.runs_of(path)] == ["a", "b"]
    assert runs.has_run(path, model="b", seed=0)
    assert not runs.has_run(path, model="b", seed=1)


def test_models_are_added_to_a_comparison_of_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from add_models import merged

    def record(name: str, command: str, **settings: Any) -> dict[str, Any]:
        shared = {"data": "a.yaml", "epochs": 4, **settings}
        models = {name: {"seeds": [0]}}
        return {"settings": shared, "models": models, "latency": None, "command": command, "machine": {"cores": 1}}

    first, second = record("a", "one", bfloat16=False, workers=0), record("b", "two")
    timing = {"milliseconds": {"onnxruntime": {"median": 1.0}}}
    latency = {
        "date": "today",
        "machine": {},
        "command": "time",
        "settings": {"backends": ["onnxruntime"], "imgsz": 320, "rounds": 2},
        "models": {"a": timing, "b": timing, "c": timing},
    }
    both = merged(first, second, latency)
    assert list(both["models"]) == ["a", "b"]
    assert both["models"]["b"]["machine"] == {"cores": 1}
    assert both["latency"]["milliseconds"] == {"onnxruntime": {"a": {"median": 1.0}, "b": {"median": 1.0}}}
    assert both["command"] == "one; two"
    first["latency"] = {"milliseconds": {"onnxruntime": {"a": timing}}}
    again = merged(first, {**record("a", "three"), "models": {"a": {"seeds": [0, 1]}}}, replace=True)
    assert again["models"]["a"]["seeds"] == [0, 1]
    assert again["latency"] == first["latency"]
    assert merged(first, second)["latency"] is None  # b was not timed
    further = merged(both, {**record("b", "four"), "models": {"b": {"seeds": [2]}}, "machine": {"cores": 2}})
    assert further["models"]["b"]["seeds"] == [0, 2]
    assert further["models"]["b"]["machine"] == {"cores": 1}
    assert further["models"]["b"]["further"] == [{"seeds": [2], "machine": {"cores": 2}}]
    for other, times, said in (
        (record("b", "two", epochs=5), None, "other settings"),
        (record("a", "two"), None, "in both"),
        (record("d", "two"), latency, "lacks d"),
    ):
        with pytest.raises(UsageError, match=said):
            merged(first, other, times)


def test_seeds_added_in_pieces_are_as_seeds_of_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from add_models import with_seeds

    from vanillayolo.study.results import summarize_model

    def run(seed: int) -> dict[str, Any]:
        figures = {"map50": 0.1 * seed, "map50_95": 0.05 * seed}
        return {
            "seed": seed,
            "val": {**figures, "per_class": {"cell": figures}},
            "test": {**figures, "per_class": {"cell": figures}},
            "cost": {"merged": {"parameters": 7, "gflops": 1.5}},
            "saved_bytes": 1000,
            "training_seconds": 10.0 + seed,
            "equality": {"matched": seed},
            "curve": {"map50": [0.0, 0.1 * seed, 0.2], "loss": [3.0, 1.0 * seed, 1.0]},
        }

    runs = [run(seed) for seed in (0, 1, 3)]
    assert with_seeds(summarize_model(runs[:2]), summarize_model(runs[2:])) == summarize_model(runs)
    del runs[2]["test"]
    assert with_seeds(summarize_model(runs[:2]), summarize_model(runs[2:])) == summarize_model(runs)
