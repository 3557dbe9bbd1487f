from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vanillayolo.errors import UsageError
from vanillayolo.study import latency as module
from vanillayolo.study.benchmark import TRAINING_FORM, subject
from vanillayolo.study.latency import (
    BACKENDS,
    check_backends,
    latency,
    load_average,
    machine,
    matmul_peak,
    measure,
    supported,
    table,
)
from vanillayolo.yolo.inference import trace_onnx


def test_rounds_alternate_their_order() -> None:
    order: list[str] = []
    timings = measure({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warmup=1)
    assert "".join(order) == "bbaaaabbbbaaaabb"
    assert [(t.name, t.rounds) for t in timings] == [("a", 3), ("b", 3)]
    assert all(0 < t.minimum <= t.median <= t.maximum for t in timings)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="one round"):
        measure({}, rounds=0)
    with pytest.raises(UsageError, match="onnxruntime"):
        latency({}, ["onxruntime"], 64)


def test_peak_is_a_rate() -> None:
    assert 0.1 < matmul_peak(torch.float32, size=256, seconds=0.05) < 1e5


def test_the_machine_states_its_versions() -> None:
    assert {"torch", "ultralytics", "onnxruntime", "vanillayolo"} <= set(machine()["versions"])
    assert (load_average() or 0.0) >= 0


@pytest.mark.slow
def test_files_are_timed_in_every_back_end_and_shown(tmp_path: Path, tiny_yaml: Path) -> None:
    names = {"ours": str(tiny_yaml), "training form": f"{tiny_yaml}{TRAINING_FORM}", "yolo11n": "yolo11n"}
    files = {key: trace_onnx(subject(name, 64).network, tmp_path / f"{key}.onnx", 64) for key, name in names.items()}
    backends = supported(BACKENDS)
    record = latency(files, backends, 64, rounds=2)
    text = table(record)
    assert text.count("\n") == 4
    assert all(name in text for name in (*files, *backends))


def test_bfloat16_is_timed_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("onnxruntime", "openvino-bf16", "openvino-int8-bf16", "openvino-f32")
    monkeypatch.setattr(module, "has_bfloat16_instructions", lambda: True)
    assert supported(names) == names
    check_backends(names, names)
    monkeypatch.setattr(module, "has_bfloat16_instructions", lambda: False)
    assert supported(names) == ("onnxruntime", "openvino-f32")
    with pytest.raises(UsageError, match=r"openvino-bf16.*no instructions"):
        check_backends(names, names)
