"""Files that version 0.1.0 wrote still open, compute the same and go on training.

``tests/assets/0.1.0`` was made by that version: a detector and a classifier after training, a training stopped in its
fourth epoch of six, a collapsed detector, and what each gives for one input (``outputs.safetensors``).
"""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile

import pytest
import torch
from safetensors.torch import load_file

from vanillayolo import VanillaYOLO
from vanillayolo.deploy import collapse, load_collapsed
from vanillayolo.yolo.inference import raw_output

OLD = Path(__file__).parent / "assets" / "0.1.0"
#: float32 sums in another order on another processor, as a share of the largest output.
TOLERANCE = 1e-4


def outputs(name: str, model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a model gives today for the input of ``name``, and what it gave."""
    stored = load_file(OLD / "outputs.safetensors")
    return raw_output(model.float().eval(), stored[f"{name}.input"]), stored[f"{name}.output"]


def assert_same(now: torch.Tensor, then: torch.Tensor) -> None:
    for part in (slice(0, 4), slice(4, None)) if now.ndim == 3 else (slice(None),):
        assert (now[:, part] - then[:, part]).abs().max() <= TOLERANCE * then[:, part].abs().max()


@pytest.mark.parametrize("name", ["detector", "classifier", "interrupted", "detector-collapsed"])
def test_an_old_checkpoint_computes_what_it_did(name: str) -> None:
    now, then = outputs(name, VanillaYOLO(OLD / f"{name}.pt").model)
    assert then.std() > 0.1
    assert_same(now, then)


def test_old_weights_without_pickle_compute_what_they_did() -> None:
    assert_same(*outputs("detector-collapsed", load_collapsed(OLD / "detector-collapsed.json")))


@pytest.mark.slow
def test_an_old_checkpoint_collapses(tmp_path: Path, scenes: Path) -> None:
    result = collapse(OLD / "detector.pt", tmp_path / "collapsed.pt", source=scenes.parent / "images" / "val", imgsz=64)
    assert_same(*outputs("detector", VanillaYOLO(result.checkpoint).model))


@pytest.mark.slow
def test_an_old_training_goes_on(tmp_path: Path, scenes: Path) -> None:
    weights = tmp_path / "broken" / "weights"
    weights.mkdir(parents=True)
    copyfile(OLD / "interrupted.csv", tmp_path / "broken" / "results.csv")
    stored = torch.load(OLD / "interrupted.pt", weights_only=False)
    # the training's own places are gone: it was made on another machine
    stored["train_args"] |= {"data": str(scenes), "project": str(tmp_path), "save_dir": str(tmp_path / "broken")}
    torch.save(stored, weights / "last.pt")
    model = VanillaYOLO(weights / "last.pt")
    model.train(resume=True)
    rows = (tmp_path / "broken" / "results.csv").read_text(encoding="utf-8").strip().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == [1, 2, 3, 4, 5, 6]
    assert model.trainer.model.negative_slope == 1
