"""Every page of the guide is short and opens with an example; each example is run by a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from five_shapes import make_scenes
from small import shrink
from test_docs import ROOT, commands, first_block
from vanillayolo import cli
from vanillayolo.yolo import model_yaml
from vanillayolo.yolo.architecture import dump_yaml

NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2])
GUIDE = [page.removesuffix(".md") for row in NAV if "Guide" in row for entry in row["Guide"] for page in entry.values()]
#: Longest page of the guide, lines: what is measured and why it works stand on pages of their own.
LINES = 90
TRAIN = "epochs=1 imgsz=64 batch=2 workers=0 plots=False"
#: By page whose example is run below, and by command: words in the place of its own, or beside them.
SMALL = {
    "data": {"scenes": "pictures=10 size=64 workers=1", "val": "imgsz=64 plots=False"},
    "training": {"train": f"model=tiny.yaml {TRAIN}", "val": "imgsz=64 plots=False"},
    "pretraining": {"train": TRAIN},
    "model_yaml": {"info": "imgsz=64"},
    "scenes": {"scenes": "pictures=10 size=64 workers=1", "train": f"model=tiny.yaml {TRAIN}"},
    "distillation": {"train": f"model=tiny.yaml data=my.yaml distill_model=best.pt {TRAIN}"},
    "classification": {
        "train": f"model=vanillanet-6-w0.125-cls data=classes {TRAIN}",
        "val": "data=classes imgsz=64 plots=False",
        "predict": "source=street.jpg imgsz=64",
        "collapse": "imgsz=64",
        "export": "imgsz=64 verify=False",
    },
    "tasks": {
        "scenes": "pictures=10 size=64 workers=1",
        "segment": f"model=tiny-seg.yaml {TRAIN}",
        "export": "imgsz=64 verify=False",
    },
    "scale": {"predict": "model=best.pt workers=1 imgsz=64"},
}
#: By other page: the file whose tests run its example.
ELSEWHERE = {
    "deployment": "test_docs.py",
    "quantization": "test_docs.py",
    "browser": "test_docs.py",
    "npu": "test_script.py",
    "studies": "test_script.py",
    "search": "test_script.py",
    "tools": "test_tools.py",
    "several_machines": "yolo/test_several.py",
}


def example(name: str, small: dict[str, str]) -> Iterator[list[str]]:
    """Yield the commands of a page's first block, with these words in the place of their own or beside them."""
    for command, *words in commands(first_block(name)):
        given = dict(word.partition("=")[::2] for word in [*words, *small.get(command, "").split()])
        yield [command, *(f"{key}={value}" if value else key for key, value in given.items())]


def last_example(name: str, small: str) -> str:
    """Return the words behind the last command of a page's example, these in the place of its own or beside them."""
    command = commands(first_block(name))[-1][0]
    return " ".join(list(example(name, {command: small}))[-1][1:])


def test_every_page_of_the_guide_opens_with_an_example_that_is_run() -> None:
    assert sorted([*SMALL, *ELSEWHERE]) == sorted(GUIDE)
    for name in GUIDE:
        assert len((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8").splitlines()) <= LINES, name
        assert "vanillayolo " in first_block(name), f"{name}: no command in the first block"
    for name, file in ELSEWHERE.items():
        assert name in (Path(__file__).parent / file).read_text(encoding="utf-8"), name


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples name."""
    folder = tmp_path_factory.mktemp("guide")
    make_scenes(folder, train=4, val=4, size=64).rename(folder / "my.yaml")
    for name in ("street.jpg", *(f"pictures/{k}.jpg" for k in range(2))):
        (folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((64, 64, 3), 127, np.uint8))
    for split in ("train", "val"):
        for kind in ("dark", "bright"):
            (folder / "classes" / split / kind).mkdir(parents=True)
            for k in range(2):
                cv2.imwrite(str(folder / "classes" / split / kind / f"{k}.png"), np.full((32, 32, 3), 90 + k, np.uint8))
    (folder / "best.pt").write_bytes((Path(__file__).parent / "assets/0.1.0/detector.pt").read_bytes())
    for name, file in (("yolo11n-vanillanet-5", "tiny"), ("yolo11n-vanillanet-5-seg", "tiny-seg")):
        network = dump_yaml(shrink(model_yaml(name), [16, 16, 24, 32]))
        (folder / f"{file}.yaml").write_text(network, encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_example_runs(name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "scale":
        pytest.importorskip("pyarrow", reason="needs the extra scale")
    folder = workplace / name
    folder.mkdir()
    for path in workplace.iterdir():
        if path.suffix or path.name in ("classes", "pictures"):
            (folder / path.name).symlink_to(path)
    monkeypatch.chdir(folder)
    task = {"tasks": "segment", "classification": "classify"}.get(name, "detect")
    for command, *words in example(name, SMALL[name]):
        if command in ("train", "val", "predict", "segment") and not any(w.startswith("output=") for w in words):
            words.append(f"project={folder}/runs/{task}")
        assert cli.main([command, *words]) == 0, [command, *words]
    assert list(folder.rglob("*-unverified.*")) == []
