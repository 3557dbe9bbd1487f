from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vanillayolo import cli
from vanillayolo.errors import UsageError, VanillaYOLOError
from vanillayolo.study import protocol
from vanillayolo.study.protocol import compare, elapsed, folder_name
from vanillayolo.study.records import as_list, keep_settings, read_record, write_record


@given(st.lists(st.lists(st.floats(1, 100), min_size=1, max_size=5), min_size=1, max_size=4))
def test_the_length_of_a_training_is_that_of_all_its_pieces(pieces: list[list[float]]) -> None:
    """Every piece starts its clock anew; one whose first epoch ends after the last piece did, cannot be told apart."""
    clocks = [[sum(steps[: i + 1]) for i in range(len(steps))] for steps in pieces]
    ends = [c[-1] for c in clocks[:-1] if c]
    starts = [c[0] for c in clocks[1:]]
    if all(start < end for end, start in zip(ends, starts, strict=True)):
        assert elapsed([t for c in clocks for t in c]) == pytest.approx(sum(map(sum, pieces)))


def test_folder_names_are_plain() -> None:
    assert folder_name("yolo11n-timm-resnet50") == "yolo11n-timm-resnet50"
    assert folder_name("/a/b c/best.pt") == "a_b_c_best.pt"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["models=yolo11n-vanilanet"], "yolo11n-vanillanet"),
        (["models=yolo99n"], "neither ours"),
        (["models=yolo11"], "no letter"),
        (["models=yolo11n-seg"], "not a YOLO detector"),
        (["models=nowhere.pt"], "no such file"),
        (["models=yolo11n", "seeds=-1"], "whole numbers"),
        (["models=yolo11n", "backends=onxruntime"], "onnxruntime"),
        (["models=yolo11n", "epohcs=3"], "did you mean epochs"),
        (["models=yolo11n", "pretrained=x.pt"], "pretrained='x.pt': give true or false"),
        (["models=yolo11n-vanillanet,yolo11n", "pretrained=true"], "pretrained=true: yolo11n has no weights"),
        (["models=yolo11n", "decay=3"], "0 to 1"),
        (["models="], "separated by commas"),
        (["models=yolo11n", "rounds=abc"], "rounds='abc'"),  # not after hours of training,
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    words: list[str], says: str, tested_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["compare", f"data={tested_scenes}", f"folder={tmp_path / 'runs'}", *words])
    err = capsys.readouterr().err
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_folder_holds_one_protocol(tmp_path: Path) -> None:
    keep_settings(tmp_path / "protocol.json", {"epochs": 3, "sizes": (1, 2)})
    keep_settings(tmp_path / "protocol.json", {"epochs": 3, "sizes": (1, 2)})
    with pytest.raises(UsageError, match=r"epochs=4: the runs in .* have epochs=3"):
        keep_settings(tmp_path / "protocol.json", {"epochs": 4, "sizes": (1, 2)})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "not a record"),
        ('{"seed": 0, "map": NaN}', "NaN is no value of JSON"),
        ('{"seed": 0}', "lacks map"),
        ('{"seed": "x", "map": 0.5}', "seed='x' is no int"),
        ('{"seed": true, "map": 0.5}', "seed=True is no int"),
        ('{"seed": 0, "map"', "not a readable record"),
    ],
)
def test_records_that_were_edited_are_told(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"record\.json: .*{told}.*remove it"):
        read_record(path, {"seed": int, "map": float})
    path.write_text('{"seed": 0, "map": 1}')
    assert read_record(path, {"seed": int, "map": float}) == {"seed": 0, "map": 1}


def test_records_are_whole_or_absent(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_record(tmp_path / "a.json", {"bad": object()})
    assert list(tmp_path.iterdir()) == []


def test_seeds_are_read_from_any_form() -> None:
    assert as_list(2, "seeds") == [2]
    assert as_list((0, 1, 1), "seeds") == [0, 1]
    with pytest.raises(VanillaYOLOError):
        as_list((), "seeds")


def record(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "record.json").read_text()))


@pytest.mark.slow
def test_every_run_has_a_folder_and_a_record(compared: Path, budget: dict[str, Any]) -> None:
    runs = sorted(p.parent.relative_to(compared).as_posix() for p in compared.glob("*/*/record.json"))
    assert [r.rsplit("/")[-1] for r in runs] == ["seed0", "seed1"] * 2
    for path in compared.glob("*/*/record.json"):
        found = record(path.parent)
        assert set(found["test"]["per_class"]) == {"circle", "square", "triangle", "star", "cross"}
        assert len(found["curve"]["map50"]) == budget["epochs"]
        assert found["saved_bytes"] > 0 < found["training_seconds"]
        merges = found["model"] != "yolo11n"
        assert (found["equality"] is not None) == merges
        assert found["shipped"].endswith("collapsed.pt" if merges else "best.pt")
    timed = json.loads((compared / "latency.json").read_text())["milliseconds"]["onnxruntime"]
    assert len(timed) == 2


@pytest.mark.slow
def test_the_protocol_is_the_same_for_every_model(compared: Path) -> None:
    own = {"model", "name", "project", "save_dir", "seed"}
    arguments = [yaml.safe_load(p.read_text()) for p in compared.glob("*/*/args.yaml")]
    shared = [{k: v for k, v in a.items() if k not in own} for a in arguments]
    assert len(shared) == 4
    assert all(s == shared[0] for s in shared)


@pytest.mark.slow
def test_finished_runs_are_skipped_and_latency_kept(
    compared: Path, tested_scenes: Path, small_model: Path, budget: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.read_bytes() for p in compared.rglob("*.json")}
    monkeypatch.setattr(protocol, "train_detector", None)
    compare([str(small_model), "yolo11n"], tested_scenes, (0, 1), compared, **budget)
    assert {p: p.read_bytes() for p in compared.rglob("*.json")} == before


@pytest.mark.slow
def test_an_interrupted_run_is_resumed_and_test_waits_for_all(
    tested_scenes: Path, small_model: Path, budget: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vanillayolo.yolo.trainer import VanillaTrainer

    save = VanillaTrainer.save_model

    def stop_after_first(self: VanillaTrainer) -> None:
        save(self)
        raise KeyboardInterrupt

    root = tmp_path / "runs"
    arguments: tuple[Any, ...] = ([str(small_model)], tested_scenes, (0,), root)
    settings = {**budget, "backends": None}
    with monkeypatch.context() as patch:
        patch.setattr(VanillaTrainer, "save_model", stop_after_first)
        with pytest.raises(KeyboardInterrupt):
            compare(*arguments, **settings)
    assert not list(root.rglob("record.json"))
    best = next(root.rglob("best.pt"))
    best.write_bytes(best.read_bytes()[:5000])  # as a kill left it in versions before: mended by the run itself
    opened: list[str] = []
    score = protocol.score

    def noted(file: Path, data: str, split: str, *rest: Any) -> dict[str, Any]:
        opened.append(split)
        return score(file, data, split, *rest)

    monkeypatch.setattr(protocol, "score", noted)
    compare(*arguments, **settings)
    assert opened == ["val", "test"]
    assert len(record(next(root.glob("*/seed0")))["curve"]["map50"]) == budget["epochs"]
