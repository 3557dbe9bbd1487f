"""Every command of the table, through the installed script, each in a process of its own.

Its name ends in "yolo": what reads the name of the program sees here what it sees at the users'. The commands of the
README run so in test_readme.py, those of docs/deployment.md in test_docs.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from five_shapes import make_scenes
from installed import Script
from test_docs import DEPLOYMENT
from test_docs import commands as commands_of
from test_guide import last_example
from test_readme import commands as commands_of_readme
from vanillayolo import cli
from vanillayolo.nn import VanillaNet

ASSETS = Path(__file__).parent / "assets" / "0.1.0"
#: By command that README and deployment.md do not run: its words, and the file or the text that it leaves.
COMMANDS = {
    "demo": ("epochs=1", "demo/detections.png"),  # from the package's weights, so that one epoch finds something
    "scenes": ("folder=scenes pictures=10 size=64 workers=1", "scenes"),
    "track": ("model=best.pt source=images/val save_txt imgsz=64", "Results saved to"),
    "compare": (
        last_example("studies", "models=tiny.yaml seeds=0 epochs=1 imgsz=64 batch=4 backends=none workers=0"),
        "runs/compare/compare.md",
    ),
    "pretrain": ("model=tiny.yaml pictures=16 epoch=8 batch=4 imgsz=64 classes=3 folder=pre", "pre/tiny.safetensors"),
    "learning-curve": (
        "model=tiny.yaml data=my.yaml sizes=2,4 seeds=0 epochs=1 imgsz=64 batch=2 workers=0 folder=curve",
        "curve/curve.md",
    ),
    "tune": (
        last_example("search", "model=tiny.yaml trials=1 epochs=1 imgsz=64 batch=4 workers=0 rounds=1 latency=1000ms"),
        "runs/tune/best.yaml",
    ),
    "ablate": ("data=classes configs=n0 seeds=0 epochs=1 batch=4", "runs/ablate/ablate.md"),
    "benchmark": ("models=best.pt backends=torch imgsz=64 rounds=1", "best.pt"),
    "cost": (last_example("npu", "models=best.pt imgsz=64"), "ethos-u55-256"),
    "features": ("model=best.pt source=street.jpg imgsz=64", "features/street.png"),
    "convert": ("model=vanillanet.pth", "vanillanet.safetensors"),
    "info": ("model=best.pt imgsz=64", "merged"),
    "yaml": ("model=yolo11n-vanillanet", "VanillaBackbone"),
    "checks": ("", "onnxruntime"),
    "settings": ("", "runs_dir"),
    "cfg": ("", "epochs: 100"),
    "version": ("", "0."),
    "completion": ("bash", "complete -F _vanillayolo vanillayolo"),
}
#: By command: a module of an extra that it does not run without.
NEEDS = {"features": "torchcam", "tune": "optuna", "cost": "ethosu"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands name."""
    folder = tmp_path_factory.mktemp("workplace")
    make_scenes(folder, train=4, val=4, size=64).rename(folder / "my.yaml")
    cv2.imwrite(str(folder / "street.jpg"), np.full((64, 64, 3), 127, np.uint8))
    for split in ("train", "val"):
        for kind in ("dark", "bright"):
            (folder / "classes" / split / kind).mkdir(parents=True)
            for k in range(2):
                cv2.imwrite(str(folder / "classes" / split / kind / f"{k}.png"), np.full((32, 32, 3), 90 + k, np.uint8))
    (folder / "best.pt").write_bytes((ASSETS / "detector.pt").read_bytes())
    torch.save(VanillaNet(num_classes=3, dims=[8, 8, 8], strides=[2, 2]).state_dict(), folder / "vanillanet.pth")
    return folder


def test_every_command_is_run_by_some_test() -> None:
    elsewhere = [*commands_of_readme(), *commands_of(DEPLOYMENT)]
    assert {*COMMANDS, *(words[0] for words in elsewhere)} == set(cli.COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_the_installed_script_runs_it(command: str, workplace: Path, tiny_yaml: Path, script: Script) -> None:
    (workplace / "tiny.yaml").write_bytes(tiny_yaml.read_bytes())
    if command in NEEDS:
        pytest.importorskip(NEEDS[command], reason=f"needs {NEEDS[command]}, of an extra")
    words, leaves = COMMANDS[command]
    done = script([command, *words.split()], workplace)
    assert "Traceback" not in done.stderr
    assert leaves in done.stdout or (workplace / leaves).is_file(), done.stdout[-1000:]
    if command == "demo":
        untrained, trained, collapsed = map(float, re.findall(r"^mAP50-95 \w+ +([\d.]+)", done.stdout, re.M))
        assert untrained < 0.01  # hard enough that an untrained network finds nothing
        assert trained > 0.1
        assert abs(collapsed - trained) < 2e-3  # the same network, but for the float16 of the checkpoint
        assert "merge error" in done.stdout
        pictures = re.findall(r"^picture +(\S+)$", done.stdout, re.M)
        assert [Path(picture).name for picture in pictures[:2]] == ["detections.png", "results.png"]
        assert all((workplace / picture).is_file() for picture in pictures)
