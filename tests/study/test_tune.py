"""The search: what it draws, what it refuses, what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from vanillayolo import VanillaYOLO, cli
from vanillayolo.errors import UsageError
from vanillayolo.study import search
from vanillayolo.study.search_space import DEFAULT, NETWORK, TRAINING, allowed_keys, candidate, distribution, read_space
from vanillayolo.study.stage_costs import StageCosts, parts_of, shipped_form
from vanillayolo.study.tune import tune
from vanillayolo.yolo.architecture import dump_yaml, load_yaml, resolve
from vanillayolo.yolo.keys import settings_file
from vanillayolo.yolo.kinds import KINDS

NAME = "yolo11n-vanillanet"


@pytest.fixture
def words(tested_scenes: Path, small_model: Path) -> dict[str, Any]:
    """Settings of a search in seconds."""
    own = {"epochs": 1, "imgsz": 64, "batch": 4, "nbs": 4, "rounds": 2, "workers": 0}
    return {"model": str(small_model), "data": str(tested_scenes), "trials": 2, **own}


def test_every_value_of_the_table_is_one_that_its_key_takes() -> None:
    assert all(distribution(key, key, given) for key, given in DEFAULT.items())  # raises for one that is not
    assert all(NETWORK.get(key) or KINDS.get(key) for key in TRAINING)  # each has a kind, by which a space is checked


def test_candidates_are_networks_of_the_keys_asked_for(tmp_path: Path) -> None:
    assert candidate(NAME, {}) == resolve(NAME)
    assert candidate(NAME, {"letter": "s", "variant": "8"}) == resolve("yolo11s-vanillanet-8")
    assert candidate("yolo26n-vanillanet-pose", {"variant": "8"}) == resolve("yolo26n-vanillanet-8-pose")
    values = {"variant": "10", "width_multiple": 0.5, "act_num": 1, "series_init": "noise", "lr0": 0.1}
    (tmp_path / "x.yaml").write_text(dump_yaml(candidate(NAME, values)), encoding="utf-8")
    cfg = load_yaml(tmp_path / "x.yaml")  # the check of a YAML that a user edited passes
    plain = resolve("yolo11n-vanillanet-10")
    assert [2 * d for d in cfg["backbone"][0][3][0]["dims"]] == plain["backbone"][0][3][0]["dims"]
    assert cfg["scales"]["n"][1] == plain["scales"]["n"][1] / 2
    assert cfg["backbone"][0][3][0]["act_num"] == 1 == cfg["head_stages"]["act_num"]
    assert {row[3][2] for row in cfg["head"] if row[2] == "VanillaStage"} == {1}
    assert cfg["series_init"] == "noise"


def test_a_space_is_ranges_choices_and_values(tmp_path: Path, small_model: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "lr0: {low: 1e-4, high: 1e-2, log: true}\nact_num: {low: 1, high: 3}\nvariant: [8, slim]\nmosaic: 0.5\n"
    )
    space = read_space(file, NAME)
    assert space["lr0"] == FloatDistribution(1e-4, 1e-2, log=True)  # YAML reads 1e-4 as a text
    assert space["variant"] == CategoricalDistribution(["8", "slim"])
    assert space["mosaic"] == CategoricalDistribution([0.5])
    assert space["act_num"] == IntDistribution(1, 3)
    assert set(allowed_keys("best.pt")) == set()
    with pytest.raises(UsageError, match=r"model=.* does not let it change"):
        read_space(file, str(small_model))


@pytest.mark.parametrize(
    ("words", "space", "says"),
    [
        (["trials=0"], "", "trials=0: give a whole number from 1"),
        (["latency=abc"], "", "latency='abc': give milliseconds above 0, like 12ms"),
        (["latency=0ms"], "", "milliseconds above 0"),
        (["backend=opnvino"], "", "did you mean openvino"),
        (["trails=3"], "", "tune has no key 'trails': did you mean trials"),
        (["variant=99"], "", "variant='99'"),
        (["model=yolo11n", "act_num=2"], "", "does not let it change"),
        (["asha=true", "epochs=2"], "", "epochs=2 end before candidates are compared"),
        (["name=x"], "", "set by the search"),
        (["cfg=x.yaml"], "", "set by the search"),
        (["optimizer=auto"], "", "optimizer=auto sets lr0 itself"),
        ([], "lr00: [0.1]", "did you mean lr0"),
        ([], "lr0: {low: 1, high: 0.1}", "low below high"),
        ([], "lr0: {low: 0.1, hihg: 1}", "give low and high"),
        ([], "mosaic: [2]", "mosaic=2"),
        ([], "act_num: []", "one value or more"),
        (["lr0=0.1"], "lr0: [0.1, 0.2]", "leave one to search"),
        (["space=nowhere.yaml"], None, "no YAML of keys"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    words: list[str], space: str | None, says: str, tested_scenes: Path, tmp_path: Path, capsys: Any
) -> None:
    given = ["tune", f"data={tested_scenes}", f"folder={tmp_path / 'runs'}", *words]
    if space:
        (tmp_path / "space.yaml").write_text(space)
        given.append(f"space={tmp_path / 'space.yaml'}")
    assert cli.main(given) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_python_searches_from_its_own_model(tested_scenes: Path, lively: Path, tmp_path: Path) -> None:
    given = {"data": tested_scenes, "folder": tmp_path / "runs"}
    with pytest.raises(UsageError, match="letter='z': give one of n, s, m, l, x"):
        VanillaYOLO(NAME).tune(**given, letter="z")
    with pytest.raises(UsageError, match=r"act_num=2: model=.*lively.pt does not let it change"):
        VanillaYOLO(lively).tune(**given, act_num=2)
    with pytest.raises(UsageError, match="data=None: give a path"):
        VanillaYOLO(NAME).tune()


@pytest.mark.slow
def test_parts_are_known_again_by_what_they_compute(small_model: Path, tmp_path: Path) -> None:
    def keys(values: dict[str, Any]) -> list[str]:
        path = tmp_path / "x.yaml"
        path.write_text(dump_yaml(candidate(str(small_model), values)), encoding="utf-8")
        return [part.key for part in parts_of(shipped_form(path), 64)]

    plain = keys({})
    assert keys({"series_init": "noise"}) == plain  # other weights, no other cost
    assert 0 < len(set(keys({"act_num": 1})) & set(plain)) < len(set(plain))  # Concat and Upsample stay


@pytest.mark.slow
def test_a_network_predicted_above_the_latency_is_not_trained(
    words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "DRAWS", 1)
    words |= {"latency": "0.0001ms", "trials": 1}
    with pytest.raises(UsageError, match=r"latency=0.0001ms: none of \d+ networks .* the fastest takes"):
        tune(**words, folder=tmp_path / "runs")
    record = json.loads((tmp_path / "runs" / "stages.json").read_text())
    assert not list((tmp_path / "runs").glob("trial*/weights"))
    # Predicted again, nothing is timed anew, and the sum is that of the table.
    costs = StageCosts(tmp_path / "runs" / "stages.json", "onnxruntime", 64, words["model"])
    parts = parts_of(shipped_form(words["model"]), 64)
    total = sum(record["stages"][part.key]["milliseconds"] for part in parts)
    assert costs.predict(words["model"]) == pytest.approx(record["share"] * total)
    assert json.loads((tmp_path / "runs" / "stages.json").read_text()) == record


@pytest.mark.slow
def test_a_killed_search_goes_on(words: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "runs"
    words |= {"folder": str(root), "epochs": 3, "latency": "1000ms", "pair_init": "fan_in"}
    command = [sys.executable, "-m", "vanillayolo", "tune", *(f"{key}={value}" for key, value in words.items())]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    table = root / "trial001" / "results.csv"
    until = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < until:
        if (root / "trial001" / "weights" / "last.pt").exists():
            break
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first, rows = (root / "trial000" / "record.json").stat().st_mtime_ns, table.read_text().splitlines()
    assert not (root / "trial001" / "record.json").exists(), "killed too late to show anything"

    assert tune(**{**words, "latency": "1000 ms"}) == root
    assert (root / "trial000" / "record.json").stat().st_mtime_ns == first
    assert table.read_text().splitlines()[:2] == rows[:2]  # gone on with, not begun again: its clock is in the row
    record = json.loads((root / "tune.json").read_text())
    assert [row["fate"] for row in record["trials"]] == ["trained", "trained"]
    assert all(row["predicted"] > 0 and row["in_turns"]["median"] > 0 for row in record["trials"])
    assert record["best"] in record["frontier"]
    best = settings_file(root / "best.yaml")
    assert best["lr0"] == record["trials"][record["best"]]["values"]["lr0"]
    assert resolve(best["model"])["series_init"] == record["trials"][record["best"]]["values"]["series_init"]
    assert resolve(best["model"])["pair_init"] == "fan_in"
    assert "trains it anew" in (root / "tune.md").read_text()
    with pytest.raises(UsageError, match=r"epochs=4: the runs in .* have epochs=3"):
        tune(**{**words, "epochs": 4})
    assert yaml.safe_load((root / "best.yaml").read_text())["epochs"] == 3
