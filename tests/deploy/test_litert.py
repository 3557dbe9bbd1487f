"""int8 LiteRT: what stays in float, the ranges of calibration, and the whole way where the libraries are."""

from __future__ import annotations

import json
import math
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vanillayolo import VanillaYOLO
from vanillayolo.deploy import export, verify
from vanillayolo.deploy.formats import FORMATS, INT8
from vanillayolo.deploy.litert import alive, pattern_of, widen
from vanillayolo.yolo.files import contract_file, missing_packages

MISSING = missing_packages([*FORMATS["litert"].running, *FORMATS["litert"].making, *INT8["litert"].making])
EXAMPLE = Path(__file__).parents[2] / "examples" / "litert_detect.py"
BODY = "x.ChannelLastIOWrapper/v.Decoded_wrapped/vanillayolo.yolo.model.VanillaDetectionModel_body/"


def test_a_module_is_known_by_its_path_and_not_by_a_part_of_it() -> None:
    names = {
        "model.0.stem": f"{BODY}v.VanillaBackbone_0/v.Stage_stem/torch.nn.modules.conv.Conv2d_pair;1",
        "model.0.stages.0": f"{BODY}v.VanillaBackbone_0/v.Stages_stages/v.Stage_0/torch.nn.modules.conv.Conv2d_pair;2",
        "model.10.cv1": f"{BODY}v.SPPF_10/v.Conv_cv1/torch.nn.modules.conv.Conv2d_conv;2",
        "model.4": f"{BODY}v.SPPF_4;",
    }
    for module in names:
        assert [m for m, name in names.items() if re.fullmatch(pattern_of(module), name)] == [module]


def test_ranges_hold_the_extremes_of_every_image() -> None:
    ranges: dict[str, Any] = {}
    for low, high in ((-1.0, 2.0), (-0.5, 7.0), (-3.0, 1.0)):
        widen(ranges, {"a": {"min": np.array([[low]]), "max": np.array([[high]])}, "b": {}})
    assert (ranges["a"]["min"].item(), ranges["a"]["max"].item()) == (-3.0, 7.0)
    widen(ranges, {"dead": {"min": np.zeros((1, 1)), "max": np.zeros((1, 1))}})
    assert [alive(ranges)[name].get("max") for name in ("a", "b", "dead")] == [7.0, None, 1.0]


@pytest.mark.heavy
@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}: pip install 'vanillayolo[litert]'")
@pytest.mark.parametrize("decode", ["inside", "outside"])
def test_int8_is_verified_and_predicts(decode: str, lively: Path, lively_data: Path, tmp_path: Path) -> None:
    best = tmp_path / "best.pt"
    best.write_bytes(lively.read_bytes())
    asked: dict[str, Any] = {"imgsz": 64, "images": 4, "data": str(lively_data), "decode": decode}
    if decode == "outside":
        asked |= {"target": "ethos-u55-256"}
    else:
        asked |= {"format": "litert", "int8": True, "keep_float": "model.0.stem"}
    result = export(best, verify=False, **asked)
    pictures = lively_data.parent / "images" / "val"
    proof = verify(result.path, best, source=pictures)
    assert proof.precision == "int8"
    (record,) = proof.records.values()
    assert record.boxes > 20
    assert record.matched > 0.5 * record.boxes  # one scale a map costs a network of random weights much
    assert math.isfinite(record.worst.relative)
    said = json.loads(contract_file(result.path).read_text(encoding="utf-8"))
    assert said["input"]["layout"] == "NHWC"
    if decode == "outside":
        assert result.path.name == "best_ethos-u55-256_int8.tflite"
        assert said["rewrites"] == ["stem-in-two", "pool-by-axis"]
        levels = [(holds, stride) for holds in ("boxes", "scores") for stride in (8, 16, 32)]
        assert [(x["holds"], x["stride"]) for x in said["outputs"]] == levels
        assert {x["type"] for x in (said["input"], *said["outputs"])} == {"int8"}
    else:
        assert result.path.name == "best_int8.tflite"
        assert said["rewrites"] == ["depthwise-in-three"]
        assert said["input"]["type"] == said["outputs"][0]["type"] == "float32"
    found = VanillaYOLO(result.path).predict(pictures, imgsz=64, verbose=False)
    assert sum(len(x.boxes) for x in found) > 10
    if decode == "outside":
        alone = runpy.run_path(str(EXAMPLE))["detect"]
        for x in VanillaYOLO(result.path).predict(pictures, imgsz=64, iou=1.0, verbose=False):
            boxes = alone(result.path, said, x.orig_img, said["suppression"]["conf"], 1.0)
            # none suppressed, each column in its own order: integers have ties, which every suppression orders its way
            np.testing.assert_allclose(*(np.sort(b, axis=0) for b in (boxes, x.boxes.data.numpy())), atol=0.05)  # px
