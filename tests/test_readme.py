"""The README's commands do what it says."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from installed import Script
from vanillayolo import VanillaYOLO, cli
from vanillayolo.nn import randomize_batchnorm
from vanillayolo.study.cost import both_forms

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(?P<language>\w+)\n(?P<code>.*?)```", re.S)


def blocks(language: str) -> list[str]:
    return [m["code"] for m in BLOCK.finditer(README) if m["language"] == language]


def commands() -> list[list[str]]:
    lines = [line.partition("#")[0].split() for code in blocks("bash") for line in code.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["vanillayolo"]]


@pytest.fixture
def workplace(tmp_path: Path, tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the README's commands name: a data YAML, an image, a trained checkpoint."""
    from five_shapes import make_scenes

    data = make_scenes(tmp_path / "scenes", train=4, val=2, size=64)
    (tmp_path / "my.yaml").write_text(data.read_text(), encoding="utf-8")
    for name in ("street.jpg", "image.jpg"):
        cv2.imwrite(str(tmp_path / name), np.full((96, 128, 3), 127, np.uint8))
    model = VanillaYOLO(tiny_yaml)
    randomize_batchnorm(model.model)
    model.save(tmp_path / "best.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_make_targets_and_commands_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for words in commands():
        assert words[0] in cli.COMMANDS
        cli.parse(words)


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that puts figures into documents."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("readme_table")


def test_the_tables_are_those_of_the_benchmark_files(tables: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["readme_table.py", "--check"])
    assert tables.main() == 0, "run python benchmarks/readme_table.py"


def test_no_table_with_figures_is_written_by_hand(tables: ModuleType) -> None:
    rest = tables.MARK.sub("", README)
    assert "<!-- table" not in rest, "a mark without its end"
    by_hand = [line for line in rest.splitlines() if line.startswith("|") and re.search(r"\|\s*[-+~]?\d", line)]
    assert by_hand == []


def test_a_table_that_no_file_backs_is_refused(tmp_path: Path, tables: ModuleType) -> None:
    for mark in ("nonsense", "compare", "compare missing.json"):
        with pytest.raises(SystemExit, match="table"):
            tables.rendered(f"<!-- table: {mark} -->\nold\n<!-- end table -->", tmp_path)


def test_an_edited_figure_is_noticed(tables: ModuleType) -> None:
    figure = re.search(r"\| `yolo11s-vanillanet` \| (\d+\.\d+)", README)
    assert figure is not None
    edited = README[: figure.start(1)] + "9.99" + README[figure.end(1) :]
    assert tables.rendered(edited) == README


@pytest.mark.slow
def test_the_size_of_n_is_that_of_the_network() -> None:
    training, merged = both_forms(VanillaYOLO("yolo11n-vanillanet").model, 640).values()
    text = (
        f"Merged it has {merged.parameters / 1e6:.2f} M parameters and {merged.gflops:.1f} GFLOPs at 640 px, "
        f"in training {training.parameters / 1e6:.2f} M and {training.gflops:.1f}."
    )
    assert text in " ".join(README.split())


def test_records_of_ablate_make_a_table(tmp_path: Path, tables: ModuleType) -> None:
    runs = {"n0": {"0": {"top1": 0.4, "parameters": 54316}}}
    (tmp_path / "a.json").write_text(json.dumps({"runs": runs, "command": "vanillayolo ablate ..."}), encoding="utf-8")
    text = tables.rendered("<!-- table: ablate a.json -->\n<!-- end table -->", tmp_path)
    assert "| n = 0 | 40.00 | 1 | 54 |" in text


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


#: By command: the settings with which the README's line is run here, in the place of its own or beside them.
SMALL = {
    "train": {"model": "yolo11n-tiny.yaml", "epochs": 1, "imgsz": 64, "batch": 2, "plots": False, "workers": 0},
    "val": {"imgsz": 64, "plots": False},
    "predict": {"imgsz": 64},
    "export": {"imgsz": 64},
    "collapse": {"imgsz": 64},
}


@pytest.mark.slow
def test_commands_run_in_the_readmes_order(workplace: Path, script: Script) -> None:
    """Every ``vanillayolo`` line, through the installed script, with a small network and one epoch where it trains."""
    run = ["--project=" + str(workplace / "runs" / "detect")]
    for mode, *words in commands():
        if "resume" in words:
            continue  # the run that it names has ended: resuming is tested with the trainer
        given = dict(word.partition("=")[::2] for word in words)
        words = [f"{key}={value}" for key, value in {**given, **SMALL[mode]}.items()]
        script([mode, *words, *(run if mode in ("train", "val", "predict") else [])], workplace)
    assert (workplace / "runs/detect/train/weights/best.pt").exists()
    assert (workplace / "runs/detect/predict/image.jpg").exists()
    assert (workplace / "best-collapsed.pt").exists()
    assert (workplace / "best.onnx").exists()


@pytest.mark.slow
def test_python_example_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = str(next(workplace.glob("*tiny.yaml")))
    (code,) = blocks("python")
    code = code.replace('"yolo11n-vanillanet"', repr(tiny)).replace(
        "epochs=100, imgsz=640", "epochs=1, imgsz=64, batch=2"
    )
    exec(compile(code, "README.md", "exec"), {})
    assert (workplace / "deployed.pt").exists()
