from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vanillayolo.deploy import Verification
from vanillayolo.deploy.equality import Difference, Equality, LogitEquality, ProbabilityEquality
from vanillayolo.deploy.power import FAULTS, Power
from vanillayolo.deploy.verification import TOLERANCES, MeanAveragePrecision
from vanillayolo.errors import VerificationError
from vanillayolo.yolo.files import Suppression
from vanillayolo.yolo.inference import suppress
from vanillayolo.yolo.outputs import Outputs
from vanillayolo.yolo.tasks import TASKS


def found(kind: str = "float32", **changes: Any) -> Verification:
    """A record of a file that is as it should be, but for what is given."""
    outputs = [Difference("boxes", 1e-4, 1e-6), Difference("scores", 1e-8, 1e-6)]
    equality = Equality(images=4, outputs=outputs, boxes=20, matched=20)
    record = Verification("best.onnx", "best.pt", "onnx", kind, False, "here", records={"64x64": equality})
    for name, value in changes.items():
        setattr(equality if hasattr(equality, name) else record, name, value)
    return record


def test_within_tolerance_there_is_no_breach() -> None:
    for kind in TOLERANCES:
        found(kind).check()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"outputs": [Difference("boxes", 9.0, 0.2), Difference("scores", 0.1, 0.1)]}, "boxes at 64x64 differ by 9"),
        ({"outputs": [Difference("boxes", 9.0, 0.2), Difference("scores", 0.3, 0.3)]}, "scores at 64x64 differ by 0.3"),
        ({"outputs": [Difference("boxes", np.inf, np.inf), Difference("scores")]}, "boxes at 64x64 are not finite"),
        ({"matched": 16}, "16 of 20 found"),
        ({"extra": 4}, "4 too many"),
        ({"points": 0.6}, "key points at 64x64 agree to 0.6"),
        ({"map": MeanAveragePrecision("d.yaml", "val", 64, (0.4, 0.5), (0.41, 0.5))}, "mAP50-95 0.4000"),
    ],
)
def test_a_breach_names_what_is_worst_first(changes: dict[str, Any], told: str) -> None:
    record = found(**changes)
    assert not record.verified
    assert any(told in line for line in record.breaches)
    assert "NOT VERIFIED" in str(record)
    with pytest.raises(VerificationError, match=r"best\.onnx: not what best\.pt computes") as error:
        record.check()
    assert "\n" not in str(error.value)
    if "differ" in told:
        assert told in record.breaches[0]


def test_int8_is_judged_by_boxes_and_map_alone() -> None:
    far = [Difference("boxes", 9.0, 0.2), Difference("scores", 0.2, 0.2)]
    assert found("int8", outputs=far, matched=18, extra=2).verified
    assert not found("int8", matched=10).verified
    maps = {"file": (0.42, 0.5), "reference": (0.41, 0.5)}
    assert found("int8", map=MeanAveragePrecision("d.yaml", "val", 64, **maps)).verified  # better is no breach
    assert not found("int8", outputs=[Difference("boxes", np.inf, np.inf), Difference("scores")]).verified


def test_a_rounding_of_a_tiny_score_is_no_breach() -> None:
    """Scores of 1e-4 and a sigmoid that is right to 1e-7: relative 1e-3, and nothing is wrong."""
    assert found(outputs=[Difference("boxes"), Difference("scores", 1e-7, 1e-3)]).verified


@pytest.mark.parametrize("suppressed", [False, True])
def test_no_box_is_no_proof_and_no_breach(suppressed: bool) -> None:
    record = found(boxes=0, matched=0, suppressed=suppressed)
    record.check()
    assert not record.verified
    assert (
        str(record)
        .splitlines()[0]
        .endswith(
            "not proven: no box was found, so boxes prove nothing; train the network, or give source= or data= with "
            "objects that it finds"
        )
    )
    assert record.to_dict()["verdict"] == "not proven"
    with pytest.raises(VerificationError, match="no box was found"):
        record.check(proven=True)


def test_a_blind_comparison_is_no_proof() -> None:
    blind = Power(50, {**dict.fromkeys(FAULTS, 0), FAULTS[0]: 35}, ["a"] * 15)
    assert found(power=Power(50, {FAULTS[0]: 40, FAULTS[1]: 0, FAULTS[2]: 0}, ["a"] * 10)).verified
    record = found(power=blind)
    assert record.verdict.startswith("not proven: in 15 of 50 layers 1 % of a layer's weights would not be seen")
    assert "NOT" not in record.verdict
    assert found("int8", power=blind).verified  # boxes alone: a layer at 0 in a quarter of the layers


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("side", [0, 1, 2])
def test_what_is_not_finite_is_never_equal(value: float, side: int, tmp_path: Path) -> None:
    """``inf / nan`` is NaN and ``max(0.0, nan)`` is 0; equal NaNs of both sides (2) are no equality either."""
    raw = torch.rand(1, 6, 8)
    bad = raw.clone()
    bad[0, 5, 3] = value
    pair = [(bad, raw), (raw, bad), (bad, bad)][side]
    outputs: list[Any] = [Equality(), LogitEquality(), ProbabilityEquality()]
    outputs[0].add(*map(Outputs, pair))
    for record in outputs[1:]:
        record.add(*(Outputs(x.flatten(1), task=TASKS["classify"]) for x in pair))
    for record in outputs:
        assert max(output.relative for output in record.outputs) == np.inf
    for kind in TOLERANCES:
        proof = found(kind, records={"64x64": outputs[0]})
        assert any("not finite" in line for line in proof.breaches)
        text = proof.save(tmp_path / "best.onnx").read_text()
        json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    nan = MeanAveragePrecision("d.yaml", "val", 64, (np.nan, 0.5), (0.4, 0.5))
    assert not found(map=nan).verified


def test_suppression_inside_is_judged_by_its_own_settings() -> None:
    """Of ten boxes the file keeps the three surest, and across classes only one of two that overlap."""
    raw = torch.zeros(1, 6, 10)
    raw[0, :4] = torch.tensor([[40.0 * i + 20, 20, 20, 20] for i in range(10)]).T
    raw[0, 4] = torch.linspace(0.9, 0.5, 10)
    file = suppress(raw, 0.25, max_det=3)[0]
    for most, equal in ((3, True), (300, False)):
        record = Equality()
        record.add_suppressed(Outputs(raw), [file], Suppression(max_det=most), 0.25, 0.9, 0.001)
        assert (record.matched == record.boxes > 0) == equal
    raw[0, :4, 1] = raw[0, :4, 0]
    raw[0, 4:, 1] = torch.tensor([0.0, 0.85])
    file = suppress(raw, 0.25, agnostic=True)[0]
    for agnostic in (True, False):
        record = Equality()
        record.add_suppressed(Outputs(raw), [file], Suppression(agnostic_nms=agnostic), 0.25, 0.9, 0.001)
        assert (record.matched == record.boxes == 9) == agnostic
    file[0, 0] = torch.nan
    record.add_suppressed(Outputs(raw), [file], Suppression(), 0.25, 0.9, 0.001)
    assert record.worst.relative == np.inf


def test_a_box_at_the_threshold_is_no_difference_and_another_score_is() -> None:
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0, 0.2501, 0.0]])
    other = box.clone()
    other[0, 4] = 0.2499
    equality = Equality()
    equality.add_boxes(box, other, conf=0.25)
    assert (equality.boxes, equality.matched, equality.extra) == (1, 1, 0)
    other[0, 4] = 0.5
    equality.add_boxes(box, other, conf=0.25)
    assert (equality.boxes, equality.matched, equality.extra) == (2, 1, 1)


def test_the_record_is_plain_data_and_a_table(tmp_path: Path) -> None:
    record = found(map=MeanAveragePrecision("d.yaml", "val", 64, (0.4, 0.5), (0.4, 0.5)))
    path = record.save(tmp_path / "best.onnx")
    assert path.name == "best.onnx.verify.json"
    saved = json.loads(path.read_text())
    assert saved["breaches"] == []
    assert saved["records"]["64x64"]["boxes"] == 20
    assert saved["tolerance"]["raw"] == 1e-4
    lines = str(record).splitlines()
    assert lines[0] == "best.onnx (onnx, float32) against best.pt: verified"
    assert any("scores" in line and "1.00e-06" in line for line in lines)
    assert any("mAP50-95 0.4000, PyTorch 0.4000" in line for line in lines)
