"""Muon's updates on CPUs without bfloat16: those of Ultralytics, in float32, and in trainings alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.optim import muon
from ultralytics.optim.muon import MuSGD, muon_update, zeropower_via_newtonschulz5

from vanillayolo import VanillaYOLO
from vanillayolo.yolo.muon import fitting_muon, orthogonal
from vanillayolo.yolo.saving import replaced

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(16, 24), (40, 8), (3, 12, 12)])
def test_it_is_the_iteration_of_ultralytics(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    ours, theirs = orthogonal(matrices), zeropower_via_newtonschulz5(matrices)
    assert ours.shape == theirs.shape
    assert ours.dtype == torch.float32
    # bfloat16 has 8 bits; five rounds multiply its rounding
    assert (ours - theirs.float()).abs().max() < 0.06 * ours.abs().max()
    # the quintic leaves singular values of a full matrix between 0.6 and 1.2
    values = torch.linalg.svdvals(ours)
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_matrices_of_no_gradient_stay_zero() -> None:
    assert not orthogonal(torch.zeros(2, 4, 6)).any()


def test_an_update_of_musgd_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanillayolo.yolo.muon.has_bfloat16_instructions", lambda: False)
    torch.manual_seed(0)
    gradients = [torch.randn(8, 6), torch.randn(8, 4, 3, 3)]
    plain = muon_update(gradients, [torch.zeros_like(g) for g in gradients])
    with replaced(muon, **fitting_muon(CPU)):
        ours = muon_update(gradients, [torch.zeros_like(g) for g in gradients])
    for a, b in zip(plain, ours, strict=True):
        assert 0 < (a - b).abs().max() < 0.1 * a.abs().max()  # another type, the same update


def test_it_is_for_cpus_without_bfloat16_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for has in (True, False):
        monkeypatch.setattr("vanillayolo.yolo.muon.has_bfloat16_instructions", lambda has=has: has)
        assert bool(fitting_muon(CPU)) is not has
        assert not fitting_muon(torch.device("cuda"))


@pytest.mark.slow
def test_a_training_takes_it_and_leaves_ultralytics_as_it_was(
    small_yaml: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vanillayolo.yolo.muon.has_bfloat16_instructions", lambda: False)
    seen: list[Any] = []
    step = MuSGD.step
    monkeypatch.setattr(MuSGD, "step", lambda *given: (seen.append(muon.zeropower_via_newtonschulz5), step(*given))[-1])
    words = {"epochs": 1, "imgsz": 64, "batch": 4, "nbs": 4, "workers": 0, "plots": False}
    VanillaYOLO(small_yaml).train(data=str(scenes), optimizer="MuSGD", project=str(tmp_path), **words)
    assert set(seen) == {orthogonal}
    assert muon.zeropower_via_newtonschulz5 is zeropower_via_newtonschulz5
