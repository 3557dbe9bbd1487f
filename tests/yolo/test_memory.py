"""What a step takes is predicted, and the batch that fits with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.torch_utils import profile_ops

from vanillayolo import VanillaYOLO
from vanillayolo.nn import get_negative_slope, set_lean, set_negative_slope
from vanillayolo.yolo import VanillaDetectionModel, free_memory
from vanillayolo.yolo.free_memory import free_bytes
from vanillayolo.yolo.memory import (
    CPU_BATCH,
    Prediction,
    activation_bytes,
    cpu_batch,
    peak_bytes,
    predict_memory,
    sample_batch,
    saved_bytes,
)

GB = 1_000_000_000


def detector(cfg: Any, lean: str = "auto", bfloat16: bool = False) -> Any:
    model: Any = VanillaDetectionModel(cfg, verbose=False).train()
    model.args, model.bfloat16 = get_cfg(), bfloat16
    set_negative_slope(model, 0.5)
    set_lean(model, lean)
    return model


def step(model: Any, sample: dict[str, torch.Tensor]) -> None:
    model.loss(sample)[0].sum().backward()


def test_peak_counts_what_is_alive_at_once() -> None:
    def run() -> None:
        x = torch.zeros(1000)  # 4 kB
        for _ in range(5):
            x = x + 1  # two of them at a time
        y = x.view(10, 100)  # the same storage
        y.add_(1)

    assert peak_bytes(run) == 8000


@pytest.mark.slow  # a step at 160 px, counted operator by operator, four times
@pytest.mark.parametrize(("lean", "bfloat16"), [("off", False), ("auto", True), ("max", False)])
def test_a_step_is_predicted(tiny_cfg: dict[str, Any], lean: str, bfloat16: bool) -> None:
    model = detector(tiny_cfg, lean, bfloat16)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    prediction = predict_memory(model, 160)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert prediction.image * 3 + prediction.fixed >= activation_bytes(model, 160, 3) * 0.98
    step(model, sample_batch(64, 2))  # the gradients exist
    for size, batch in ((160, 3), (128, 1)):
        model.zero_grad(set_to_none=False)
        counted = peak_bytes(lambda s=size, b=batch: step(model, sample_batch(s, b)))  # type: ignore[misc]
        predicted = prediction if size == 160 else predict_memory(model, size)
        # never much too low; too high by the part that is alive only while little is kept, twice the weights at most
        assert 0.85 * counted < predicted.peak(batch) - predicted.state < 1.3 * counted + 8e6


@pytest.mark.slow
def test_state_is_what_training_adds(tiny_cfg: dict[str, Any]) -> None:
    model = detector(tiny_cfg)
    weights = sum(p.nbytes for p in model.parameters())
    buffers = sum(b.nbytes for b in model.buffers())
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    assert predict_memory(model, 64, "SGD").state == 2 * trained + weights + buffers
    assert predict_memory(model, 64, "AdamW").state == 3 * trained + weights + buffers


@pytest.mark.slow
def test_stock_detectors_are_predicted_too() -> None:
    model: Any = DetectionModel("yolo11n.yaml", verbose=False).train()
    prediction = predict_memory(model, 128)
    assert prediction.image > 0
    assert prediction.state > 3 * sum(p.nbytes for p in model.parameters())


def test_a_head_of_the_finest_map_alone_is_predicted(tiny_cfg: dict[str, Any]) -> None:
    """Its stride says nothing of the coarsest map: two cells of 8 px would be one value of a channel there."""
    head = [*tiny_cfg["head"][:-1], [[11], *tiny_cfg["head"][-1][1:]]]
    alone, usual = (activation_bytes(detector({**tiny_cfg, "head": h}), 64) for h in (head, tiny_cfg["head"]))
    assert 0.3 * usual < alone < usual


def test_the_largest_batch() -> None:
    prediction = Prediction(image=GB, working=GB // 2, fixed=GB // 4, state=GB // 4)
    assert prediction.peak(4) == 6.5 * GB
    assert prediction.largest_batch(8 * GB, 1.0) == 5
    assert prediction.largest_batch(10 * GB) == 3  # 60 %
    assert prediction.largest_batch(GB // 10) == 0
    text = prediction.summary(640, 4, 8 * GB)
    assert "\n" not in text
    assert "1000 MB kept and 500 MB more" in text
    assert "6.5 GB of 8.0 GB" in text


@pytest.mark.parametrize(
    ("free", "images", "wanted", "most", "expected"),
    [
        (10, 100, -1, 16, 3),  # what fits into 60 %
        (10, 100, 0.9, 16, 5),
        (1000, 100, -1, CPU_BATCH, CPU_BATCH),
        (1000, 100, 0.5, 64, 64),
        (1000, 7, -1, 16, 7),  # no more than there are
        (0.1, 100, -1, 16, 1),
    ],
)
def test_the_batch_of_a_cpu(free: float, images: int, wanted: float, most: int, expected: int) -> None:
    prediction = Prediction(image=GB, working=GB // 2, fixed=GB // 4, state=GB // 4)
    assert cpu_batch(prediction, int(free * GB), images, wanted, most) == expected


def test_free_memory_is_the_containers_where_it_is_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most, taken = tmp_path / "max", tmp_path / "current"
    monkeypatch.setattr(free_memory, "CGROUP_FILES", ((str(most), str(taken)),))
    without = free_bytes()
    assert without > 1_000_000
    most.write_text("3000000\n")
    taken.write_text("1000000\n")
    assert free_bytes() == 2_000_000
    taken.write_text("4000000\n")
    assert free_bytes() == 0
    most.write_text("max\n")
    assert free_bytes() > 1_000_000


@pytest.mark.slow
def test_ultralytics_own_measurement_runs_lean(tiny_cfg: dict[str, Any]) -> None:
    # what batch=-1 measures on a GPU: the model called in training, and a backward pass, with its operators counted
    # before by hooks, which must not stay
    model = detector(tiny_cfg)
    image = torch.rand(1, 3, 96, 96)

    def kept() -> int:
        return saved_bytes(model, lambda: model(image))

    auto = kept()
    set_lean(model, "off")
    assert auto < 0.9 * kept()
    set_lean(model, "auto")
    results = profile_ops([torch.rand(1, 3, 96, 96)], model, n=1, device="cpu", max_num_obj=4)
    assert results[0] is not None
    assert model.training
    assert kept() == auto


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything that the trainer logs."""
    from vanillayolo.yolo import trainer

    lines: list[str] = []
    monkeypatch.setattr(trainer.LOGGER, "info", lambda text, *_: lines.append(str(text)))
    return lines


@pytest.mark.slow
def test_training_says_what_it_takes_and_batch_minus_1_is_what_fits(
    small_yaml: Path,
    quick: dict[str, Any],
    tmp_path: Path,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vanillayolo.yolo import trainer

    free: Callable[..., int] = lambda *_: 40_000_000  # noqa: E731
    monkeypatch.setattr(trainer, "free_bytes", free)
    model = VanillaYOLO(small_yaml)
    model.train(project=str(tmp_path), epochs=1, val=False, **{**quick, "batch": -1})
    prediction = model.trainer._prediction
    assert model.trainer.batch_size == min(prediction.largest_batch(40_000_000), 8)  # of 8 images
    lines = [line for line in said if "MB kept" in line]
    assert len(lines) == 1
    assert "lean=auto" in lines[0]
    assert "64 px" in lines[0]
    assert isinstance(model.model, nn.Module)


@pytest.mark.slow
def test_measuring_leaves_the_slope_and_is_done_at_the_first_epochs(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vanillayolo.yolo import trainer

    seen: list[float | None] = []

    def predict(network: Any, *settings: Any) -> Prediction:
        seen.append(get_negative_slope(network))
        return predict_memory(network, *settings)

    monkeypatch.setattr(trainer, "predict_memory", predict)
    model = VanillaYOLO(small_yaml)
    model.add_callback("on_pretrain_routine_end", lambda t: seen.append(get_negative_slope(t.model)))
    model.train(project=str(tmp_path), epochs=2, decay=0.5, val=False, **quick)
    assert seen == [0.0, 1.0]
