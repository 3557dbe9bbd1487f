from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from five_shapes import make_scenes
from vanillayolo import cli
from vanillayolo.data.scenes import SceneSettings
from vanillayolo.data.scenes.writing import write_scenes
from vanillayolo.errors import UsageError, VanillaYOLOError
from vanillayolo.study import protocol
from vanillayolo.study.inputs import about_inputs, of_task
from vanillayolo.study.protocol import compare, elapsed, folder_name
from vanillayolo.study.records import as_list, keep_settings, read_record, write_record
from vanillayolo.study.report import accuracy_table, write_report
from vanillayolo.study.results import summarize_split
from vanillayolo.yolo import detectors, model_yaml
from vanillayolo.yolo.architecture import dump_yaml
from vanillayolo.yolo.engines import ENGINES, stock_class
from vanillayolo.yolo.tasks import FINDING, TASKS


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
        (["models=yolo11n-cls"], "not a YOLO detector"),
        (["models=yolo11n,yolo11n-pose"], "yolo11n is there to detect, yolo11n-pose to find key points"),
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
    keep_settings(tmp_path / "protocol.json", {"epochs": 3, "sizes": (1, 2), "files": {}})  # 0.2.0 had no such key


def test_a_protocol_knows_its_dataset_by_more_than_a_name(tmp_path: Path) -> None:
    told = []
    for folder, train in (("a", 2), ("b", 3), ("c", 2)):
        data = make_scenes(tmp_path / folder, train=train, val=2, size=64, seed=1)
        told.append(about_inputs(data, str(data), "detect", data, "yolo11n", True))
    data.write_text(data.read_text(encoding="utf-8").replace("circle", "disc"), encoding="utf-8")
    told.append(about_inputs(data, str(data), "detect"))
    first, more, same, renamed = (about["dataset"] for about in told)
    assert first == same  # wherever it lies
    assert first.startswith("2 + 2 pictures, ")
    assert len({first, more, renamed}) == 3
    assert list(told[0]["files"]) == [data.name]


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


@pytest.mark.parametrize(
    ("task", "names"), [("detect", ["mAP50"]), ("pose", ["mAP50 of key points", "mAP50 of boxes"])]
)
def test_a_task_is_judged_by_its_own_metric(
    task: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def metric(figure: float) -> SimpleNamespace:
        return SimpleNamespace(ap_class_index=[1], ap50=[figure], ap=[figure / 2], map50=figure, map=figure / 2)

    metrics = SimpleNamespace(names={0: "a", 1: "b"}, box=metric(0.8), pose=metric(0.6))
    opened = SimpleNamespace(task=task, val=lambda **_: metrics)
    monkeypatch.setattr(detectors, "open_detector", lambda _: opened)
    found = detectors.score(tmp_path / "best.pt", "data.yaml", "val", 64, tmp_path)
    figures = [0.8] if task == "detect" else [0.6, 0.8]
    both = found, found.get("boxes", {})
    assert [x["map50"] for x in both if x] == figures
    assert found["per_class"] == {"b": {"map50": figures[0], "map50_95": figures[0] / 2}}
    assert (summarize_split([{"val": found}], "val") or {})["map50"]["mean"] == figures[0]
    result = {
        "settings": of_task(task),
        "models": {"a": {"seeds": [0], "val": summarize_split([{"val": found}], "val")}},
    }
    header, (row,) = accuracy_table(result, "val")
    assert [(name, cell) for name, cell in zip(header, row, strict=True) if "mAP50 " in f"{name} "] == [
        (name, f"{figure:.3f}") for name, figure in zip(names, figures, strict=True)
    ]


def test_every_task_has_a_trainer_of_ultralytics_own() -> None:
    assert tuple(detectors.STOCK_TRAINERS) == FINDING
    for task, trainer in detectors.STOCK_TRAINERS.items():
        assert stock_class(trainer) is stock_class(ENGINES[task]["trainer"])
        assert getattr(detectors, trainer.__name__) is trainer


@pytest.mark.slow
def test_a_task_is_compared_with_yolo11(shrink_yaml: Callable[..., Any], tmp_path: Path) -> None:
    """Ours and Ultralytics' own, trained, collapsed, scored on val and test, timed."""
    task = "pose"
    settings = SceneSettings(pictures=10, size=64, task=task, classes=2, objects=4)
    data = write_scenes(tmp_path / "scenes", settings, "yolo", 1)
    data.write_text(data.read_text() + "test: images/val\n")
    suffix = TASKS[task].suffix
    ours = tmp_path / f"yolo11n-small{suffix}.yaml"
    ours.write_text(dump_yaml(shrink_yaml(model_yaml(f"yolo11n-vanillanet-5{suffix}"), [16, 16, 24, 32])))
    budget = {"epochs": 1, "imgsz": 64, "batch": 4, "nbs": 4, "backends": "onnxruntime", "rounds": 1}
    root = compare([str(ours), f"yolo11n{suffix}"], data, 0, tmp_path / "runs", **budget)
    files = write_report(root)
    assert f"mAP50 of {TASKS[task].judged}" in files["md"].read_text()
    assert read_record(root / "protocol.json")["task"] == task
    for run in root.glob("*/seed0"):
        found = record(run)
        assert ("boxes" in found["test"]) == (TASKS[task].metric != "box")
        assert len(found["curve"]["map50"]) == 1
        assert found["saved_bytes"] > 0
        assert found["shipped"].endswith("collapsed.pt" if "small" in str(run) else "best.pt")


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
    text = small_model.read_text(encoding="utf-8")
    small_model.write_text(f"{text}# edited\n", encoding="utf-8")
    with pytest.raises(UsageError, match="changed since"):
        compare([str(small_model)], tested_scenes, (0, 1), compared, **budget)
    small_model.write_text(text, encoding="utf-8")
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
