"""YOLO26's head: no distribution of box sides, and a second set of branches that finds every object once."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.nn.modules import Detect

from detectors import make_lively
from lean_gradients import assert_lean_is_plain
from vanillayolo import VanillaDetectionModel, VanillaYOLO
from vanillayolo.deploy import export, load_collapsed, verify
from vanillayolo.errors import ModelNameError, UsageError
from vanillayolo.nn import get_negative_slope, randomize_batchnorm, set_negative_slope
from vanillayolo.yolo import model_yaml
from vanillayolo.yolo.architecture import dump_yaml
from vanillayolo.yolo.engines import ENGINES
from vanillayolo.yolo.inference import raw_outputs
from vanillayolo.yolo.memory import sample_batch
from vanillayolo.yolo.modules import VanillaStage
from vanillayolo.yolo.opened import choose_branches, open_checkpoint
from vanillayolo.yolo.outputs import Outputs
from vanillayolo.yolo.stock import to_stock
from vanillayolo.yolo.tasks import HEADS, TASKS


def test_the_name_makes_yolo26s_head_of_stages() -> None:
    head: Any = VanillaDetectionModel("yolo26n-vanillanet", verbose=False).model[-1]
    assert head.reg_max == 1
    for branches in (head.one2many, head.one2one):
        stages = [layer for kind in branches.values() for branch in kind for layer in branch[:2]]
        assert all(isinstance(layer, VanillaStage) for layer in stages)
    assert "end2end" not in model_yaml("yolo11n-vanillanet")
    with pytest.raises(ModelNameError, match="yolo26n-vanillanet-seg"):
        model_yaml("yolo26n-vanilanet-seg")


@pytest.mark.slow
@pytest.mark.parametrize("task", [task for task, heads in HEADS.items() if len(heads) > 1])
def test_other_tasks_have_yolo26s_heads_which_train_and_ship_either_set(
    task: str, shrink_yaml: Callable[..., Any], tmp_path: Path
) -> None:
    cfg = shrink_yaml(model_yaml(f"yolo26n-vanillanet-5{TASKS[task].suffix}"), [16, 16, 24, 32])
    model: Any = ENGINES[task]["model"](cfg, verbose=False)
    head = model.model[-1]
    assert (type(head).__name__, head.reg_max) == (HEADS[task][-1], 1)
    for attribute in TASKS[task].branches.values():
        for branch in (*getattr(head, attribute), *getattr(head, f"one2one_{attribute}")):
            assert all(isinstance(layer, VanillaStage) for layer in branch[:2])
    model.args, model.bfloat16 = get_cfg(), False
    randomize_batchnorm(model).train()
    model.loss(sample_batch(64, 2, 3, head=model.model[-1]))[0].sum().backward()
    last = [*TASKS[task].branches.values()][-1]
    for branches in (getattr(model.model[-1], last), getattr(model.model[-1], f"one2one_{last}")):
        assert branches[0][0].conv.weight.grad.abs().max() > 0
        with torch.no_grad():  # the sets begin as copies
            branches[0][0].conv.weight.mul_(1 + torch.rand(1))
    del model.criterion
    set_negative_slope(model.eval(), 1.0)
    x = torch.rand(2, 3, 64, 64)
    outputs = []
    for one_to_one in (False, True):
        reference, merged = copy.deepcopy(model).double(), copy.deepcopy(model)
        for network in (reference, merged):
            choose_branches(network, one_to_one)
        stock = to_stock(merged.fuse(verbose=False))
        assert type(stock).__module__ == "ultralytics.nn.tasks"
        wanted, got = raw_outputs(reference, x.double()), raw_outputs(stock, x)
        for part, values in wanted.parts.items():  # float32 against float64
            assert (got.parts[part] - values).abs().max() <= 1e-4 * values.abs().max(), part
        objects = [o.objects(0.0, max_det=20) for o in (wanted, got)]
        assert all(a.shape == b.shape for a, b in zip(*objects, strict=True))
        outputs.append(got.parts[TASKS[task].extra])
    assert not torch.allclose(*outputs)


@pytest.mark.slow
def test_lean_training_has_the_gradients_of_the_plain_one(shrink_yaml: Callable[..., Any]) -> None:
    cfg = shrink_yaml(model_yaml("yolo26n-vanillanet-5"), [16, 16, 24, 32])
    assert_lean_is_plain(VanillaDetectionModel(cfg, verbose=False), "model.18.one2one_cv3.0.2.weight")


def test_chosen_boxes_are_those_that_ultralytics_chooses() -> None:
    head: Any = Detect(3, 1, True, [16, 16, 16])
    raw = torch.rand(2, 7, 500, generator=torch.Generator().manual_seed(0))
    wanted = head.postprocess(raw.permute(0, 2, 1))
    for rows, boxes in zip(wanted, Outputs(raw, classes=3, one_to_one=True).objects(conf=0.9), strict=True):
        assert 10 < len(boxes) < 300
        assert torch.equal(boxes, rows[rows[:, 4] > 0.9])


@pytest.mark.slow
@pytest.mark.parametrize("nms", [None, False])
def test_both_sets_of_branches_ship(lively_26: Path, scenes: Path, nms: bool | None, tmp_path: Path) -> None:
    best = tmp_path / "best.pt"
    best.write_bytes(lively_26.read_bytes())
    model = VanillaYOLO(best)
    collapsed = model.collapse(tmp_path / "collapsed.pt", imgsz=64, nms=nms)
    equality: Any = collapsed.equality
    assert equality.boxes == equality.matched > 10
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    reference = raw_outputs(open_checkpoint(model).merged(nms is False), x).parts
    stock: Any = YOLO(collapsed.checkpoint).model
    assert type(stock).__module__ == "ultralytics.nn.tasks"
    assert stock.end2end == (nms is False)
    for network in (stock, load_collapsed(collapsed.checkpoint.with_suffix(".json"))):
        for name, got in raw_outputs(network.eval().float(), x).parts.items():
            assert (got - reference[name]).abs().max() <= 1e-4 * reference[name].abs().max(), name

    source = scenes.parent / "images" / "val"
    for format, settings in (("openvino", {}), ("onnx", {"simplify": False}))[nms is None :]:
        proof = export(best, format=format, imgsz=64, source=source, nms=nms, **settings).verification
        assert proof is not None
        assert proof.verdict == "verified"
        assert proof.suppressed == (nms is False)
        (record,) = proof.records.values()
        assert record.boxes > 10
    graph = onnx.load(best.with_suffix(".onnx"))
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    (name,) = (key for key in weights if key.endswith("cv3.1.2.weight"))
    weights[name].CopyFrom(onnx.numpy_helper.from_array(1.5 * onnx.numpy_helper.to_array(weights[name]), name))
    onnx.save(graph, tmp_path / "wrong.onnx")
    assert verify(tmp_path / "wrong.onnx", best, source=source).verdict.startswith("NOT VERIFIED")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "last", "part"),
    [
        ("segment", "one2one_cv4", "mask coefficients"),
        ("pose", "one2one_cv4_kpts", "key points"),
        ("obb", "one2one_cv4", "angles"),
    ],
)
def test_files_of_other_tasks_choose_their_objects_and_all_of_them_is_proven(
    task: str, last: str, part: str, shrink_yaml: Callable[..., Any], scenes: Path, tmp_path: Path
) -> None:
    cfg = shrink_yaml(model_yaml(f"yolo26n-vanillanet-5{TASKS[task].suffix}"), [16, 16, 24, 32])
    best = make_lively({**cfg, "nc": 3}, scenes, tmp_path)
    model: Any = VanillaYOLO(best)
    head = model.model.model[-1]
    with torch.no_grad():  # scores of 1 are many, and which of them come first is chance
        for branches in (head.cv3, head.one2one_cv3):
            for branch in branches:
                branch[-1].weight.mul_(0.15 if task == "obb" else 1.0)
    model.save(best)
    source = scenes.parent / "images" / "val"
    result = export(best, format="onnx", imgsz=64, nms=False, source=source, simplify=False)
    proof: Any = result.verification
    assert proof.verdict == "verified"
    (record,) = proof.records.values()
    assert record.boxes > 10
    assert part in {output.name for output in record.outputs}
    contract = json.loads(best.with_suffix(".onnx.contract.json").read_text())
    assert contract["suppression"]["iou"] is None
    assert contract["outputs"][0]["holds"][0] == ("centre x" if task == "obb" else "x1")
    VanillaYOLO(result.path).predict(source, imgsz=64, verbose=False)

    graph = onnx.load(result.path)
    wrong = [
        tensor for tensor in graph.graph.initializer if f"{last}.1." in tensor.name and tensor.name.endswith("weight")
    ]
    weights = onnx.numpy_helper.to_array(wrong[-1])
    wrong[-1].CopyFrom(onnx.numpy_helper.from_array(1.05 * weights, wrong[-1].name))
    onnx.save(graph, tmp_path / "wrong.onnx")
    verdict = verify(tmp_path / "wrong.onnx", best, source=source).verdict
    assert verdict.startswith("NOT VERIFIED")
    assert part in verdict


@pytest.mark.slow
def test_it_trains_deep_and_answers_with_either_set(
    shrink_yaml: Callable[..., Any], quick: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "small.yaml").write_text(dump_yaml(shrink_yaml(model_yaml("yolo26n-vanillanet-5"), [16, 16, 24, 32])))
    model = VanillaYOLO(tmp_path / "small.yaml")
    model.train(epochs=2, decay=0.5, project=str(tmp_path), name="run", lean="max", **quick)
    assert get_negative_slope(model.model) == 1.0
    best = VanillaYOLO(model.trainer.best)
    images = Path(quick["data"]).parent / "images" / "val"
    shapes = set()
    for nms in (None, False):
        best.val(data=quick["data"], imgsz=64, plots=False, verbose=False, project=str(tmp_path), nms=nms)
        (result, *_) = VanillaYOLO(model.trainer.best).predict(images, imgsz=64, conf=1e-6, nms=nms, verbose=False)
        assert len(result.boxes) > 0
        shapes.add(len(result.boxes))
    assert copy.deepcopy(best.model).model[-1].one2one_cv2 is not None  # validation left both
    with pytest.raises(UsageError, match="one-to-one"):
        VanillaYOLO("yolo11n-vanillanet").collapse(tmp_path / "x.pt", nms=False)
