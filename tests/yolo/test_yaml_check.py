from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vanillayolo import VanillaYOLO
from vanillayolo.deploy import load_collapsed
from vanillayolo.errors import CheckpointError, ModelNameError, VanillaYOLOError
from vanillayolo.nn import randomize_batchnorm
from vanillayolo.yolo import (
    VanillaClassificationModel,
    VanillaDetectionModel,
    classifier_names,
    model_names,
    model_yaml,
)
from vanillayolo.yolo.architecture import dump_yaml, load_yaml, resolve
from vanillayolo.yolo.inference import raw_output
from vanillayolo.yolo.stock import to_stock
from vanillayolo.yolo.yaml_check import check_yaml

OLD = Path(__file__).parents[1] / "assets" / "0.1.0"
NOT_NUMBERS = [None, True, -1, 0, 0.5, 10**9, float("nan"), float("inf"), "many", [], {}]
DELETED = object()


@pytest.fixture(scope="session")
def plain(shrink_yaml: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """The YAML of a small detector, not to be changed."""
    return shrink_yaml(model_yaml("yolo11n-vanillanet-5"), [16, 16, 24, 32])


def changed(cfg: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return a copy of a YAML with the value at one place replaced, added or deleted."""
    cfg = copy.deepcopy(cfg)
    inner: Any = cfg
    for key in place[:-1]:
        inner = inner[key]
    if value is DELETED:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return cfg


def refusal(cfg: Any) -> str:
    """Return the one line with which a YAML is refused, by the check alone."""
    with pytest.raises(VanillaYOLOError) as raised:
        check_yaml(cfg, "mine.yaml")
    message = str(raised.value)
    assert message.startswith("model 'mine.yaml': ")
    assert "\n" not in message
    assert len(message) < 400
    return message


# ---------------------------------------------------------------------------------------------------------------------
# What is refused

FIRST = ("backbone", 0, 3, 0)
STAGE, SPPF, UPSAMPLE, CONCAT, DETECT = (("head", i) for i in (1, 0, 2, 3, 14))
ROW = "give [from, repeats, module, arguments]"
BROKEN: list[tuple[tuple[Any, ...], Any, str]] = [
    (("haed_stages",), {}, "unknown key 'haed_stages': did you mean head_stages"),
    (("kpt_shape",), [17, 3], "unknown key 'kpt_shape'"),
    (("depth_multiple",), 1.0, "unknown key 'depth_multiple'"),
    (("names",), ["one"], "unknown key 'names'"),
    ((7,), 1, "unknown key 7"),
    (("x" * 5000,), 1, "unknown key 'xxx"),
    (("recipe",), {}, "unknown key 'recipe'"),  # a classifier's
    (("end2end",), "yes", "key end2end 'yes'"),
    (("reg_max",), 0, "key reg_max 0"),
    (("task",), "segment", "task 'segment'"),
    (("task",), "classify", "task 'classify': its last row, Detect, is there to detect"),
    (("activation",), "__import__('os').abort()", "activation \"__import__"),
    (("activation",), "nn.Linear(3,3)", "nn.NAME()"),
    *((("nc",), value, "key nc") for value in NOT_NUMBERS),
    *((("channels",), value, "key channels") for value in NOT_NUMBERS),
    ((*FIRST, "in_chans"), 4, "in_chans 4: channels, of the image, is 3"),
    (("scale",), "q", "key scale 'q'"),
    (("scales",), DELETED, "'scales' is missing"),
    *((("scales",), value, "key scales") for value in ([8], {}, {"n": [0.5, 0.5]}, {1: [1, 1, 8]}, "n", None)),
    *((("scales", "n", i), value, "key scales") for i in range(3) for value in (-1, 0, float("nan"), "1", True)),
    (("family",), "compact", "key family"),
    (("family", "name"), "compakt", "did you mean compact"),
    (("family", "widht"), 1, "did you mean width"),
    (("neck",), "plane", "did you mean plain"),
    (("neck",), "yolo11", "delete head to have 'yolo11'"),
    (("series_init",), [], "series_init []"),
    (("deep_training",), 0.3, "key deep_training"),
    (("deep_training",), None, "key deep_training"),
    (("deep_training", "decya"), 0.3, "decya"),
    *((("deep_training", "decay"), value, "decay") for value in (-1, 2, float("nan"), "third", True, [])),
    *((("deep_training", "decay_shape"), value, "decay_shape") for value in ("round", [], 1)),
    (("lean_training",), [], "key lean_training"),
    (("lean_training",), {"lean": "most"}, "lean='most'"),
    (("lean_training",), {"bfloat16": 1}, "bfloat16=1"),
    (("fine_tuning",), "x", "key fine_tuning"),
    (("fine_tuning",), {"layer_decay": 2}, "layer_decay=2"),
    (("fine_tuning",), {"weights": 3}, "weights=3"),
    (("head_stages", "act_num"), 10**9, "head_stages"),
    *((("backbone",), value, "key backbone") for value in ([], "VanillaBackbone", None, {})),
    *((("head",), value, "key head") for value in ([], "yolo11", None)),
    *((SPPF, value, f"row 4: {value!r}: {ROW}") for value in (None, 3, [-1, 1, "SPPF"], [-1, 1, ["SPPF"], [8]])),
    ((*SPPF, 2), "SPPG", "row 4 (SPPG): no module for this row; did you mean SPPF"),
    ((*SPPF, 2), "Detect", "row 4 (Detect): no module for this row"),
    ((*SPPF, 2), "nn.Linear", "row 4 (nn.Linear): no module"),
    ((*SPPF, 2), "torchvision.ops.nms", "row 4 (torchvision.ops.nms): no module"),
    (("backbone", 0, 2), "VanilaBackbone", "row 0 (VanilaBackbone): no module for this row; did you mean Vanilla"),
    (("backbone", 0, 2), "Conv", "row 0 (Conv): no module for this row"),
    (("backbone", 0, 0), 0, "row 0 (VanillaBackbone): from 0: give -1, the image"),
    ((*DETECT, 2), "v10Detect", "the last row is 'v10Detect'; the last rows of our networks are Detect, Segment"),
    ((*DETECT, 2), "Pose", "give none, or whole numbers for box, class, keypoint, act_num"),
    ((*DETECT, 3), ["nc", [17, 3]], "row 18 (Detect): arguments ['nc', [17, 3]]: give [classes]"),
    ((*DETECT, 3), [81], "row 18 (Detect): classes 81: give nc"),
    ((*DETECT, 0), [14, 11, 17], "give those of stride 8, 16, 32, in this order"),
    ((*DETECT, 0), 17, "from 17: give a list of rows"),
    ((*DETECT, 0), [], "from []: give a list of rows"),
    ((*SPPF, 0), [3], "from [3]: give one row"),
    *(((*SPPF, 0), value, "row 4 (SPPF): from") for value in (4, 99, -5, 0.5, "up", None, True)),
    ((*SPPF, 0), 0, "a backbone's maps are read by Index rows"),
    (("backbone", 2, 0), 1, "a backbone's maps are read by Index rows"),
    *(((*SPPF, 1), value, "row 4 (SPPF): repeats") for value in (0, -1, 2, 1.0, "1", None, True)),
    *(((*SPPF, 3, 0), value, "row 4 (SPPF): channels") for value in (-8, 0, 10**9, 8.0, "8", None, True)),
    *(((*SPPF, 3), value, "row 4 (SPPF): arguments") for value in ([], None, {}, [8, 5, 3, True, 1])),
    *(((*STAGE, 3, 1), value, "row 5 (VanillaStage): stride") for value in (0, 3, 5, True, "2")),
    *(((*STAGE, 3, 2), value, "row 5 (VanillaStage): act_num") for value in (-1, 16, 10**9, 1.5, None)),
    ((*UPSAMPLE, 3, 1), 3, "maps of stride 10.6667, 16 do not join"),
    ((*UPSAMPLE, 3, 2), "nearset", "did you mean nearest"),
    ((*CONCAT, 3), [2], "row 7 (Concat): dimension 2: give 1"),
    ((*CONCAT, 0), [-1, 1], "maps of stride 16, 8 do not join"),
    (("backbone", 1, 3, 0), 24, "row 1 (Index): channels 24: map 0 has 16"),
    (("backbone", 1, 3, 1), 7, "row 1 (Index): level 7"),
    (FIRST, "small", "row 0 (VanillaBackbone): settings"),
    ((*FIRST, "dimensions"), [8], "unknown 'dimensions': allowed: dims"),
    ((*FIRST, "merged"), True, "unknown 'merged'"),
    ((*FIRST, "dims"), DELETED, "dims is missing"),
    ((*FIRST, "dims"), [8, 8], "2 dims for 3 strides"),
    *(((*FIRST, "dims", 1), value, "dims [16") for value in (-8, 0, 8.5, "8", None)),
    ((*FIRST, "strides"), [2, 2, 3], "strides [2, 2, 3]"),
    ((*FIRST, "strides"), [1, 2, 1], "two stages of stride 2"),
    *(((*FIRST, "act_num"), value, "act_num") for value in (-1, 10**9, [1, 2], [], "3", 0.5)),
    ((*FIRST, "adaptive_pool"), 1, "adaptive_pool 1: give true or false"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "said"), BROKEN, ids=lambda x: str(x)[:40] if isinstance(x, tuple) else "")
def test_a_wrong_key_row_or_value_is_refused_by_name(
    plain: dict[str, Any], place: tuple[Any, ...], value: Any, said: str
) -> None:
    assert said in refusal(changed(plain, place, value))


def test_a_data_yaml_given_as_a_model_is_told() -> None:
    with pytest.raises(ModelNameError, match=r"my\.yaml': holds data, no network .*give it as data="):
        check_yaml({"path": ".", "train": "images", "val": "images", "names": ["cup"]}, "my.yaml")


def test_rows_that_only_building_finds_wrong_name_their_file(plain: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(changed(plain, (*SPPF, 3, 1), 4)), encoding="utf-8")  # an even pool adds a row
    with pytest.raises(ModelNameError, match=r"mine\.yaml': its rows do not fit each other"):
        VanillaYOLO(path)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("backbone", 0, 2), "VanillaBackbone", "no module for this row; allowed: VanillaFeatures"),
        (("head", 0, 3, 0), 64, "features 64: the row before gives"),
        (("head", 0, 2), "Classify", "the last row is 'Classify'"),
        (("head_stages",), {"box": 2, "class": 2, "act_num": 2}, "unknown key 'head_stages'"),
        (("recipe",), [], "key recipe"),
    ],
)
def test_a_classifiers_yaml_is_held_to_its_own_table(place: tuple[Any, ...], value: Any, said: str) -> None:
    assert said in refusal(changed(model_yaml("vanillanet-5-w0.03-cls"), place, value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nc: 80\nnc: 5\n", "at line 2 (key 'nc' twice)"),
        ("[" * 1200, "not valid YAML"),
        ("nc: 2026-99-99\n", "not valid YAML"),
        ("nc: !!int ''\n", "not valid YAML"),
        ("nc: !!python/object/apply:os.abort []\n", "not valid YAML at line 1"),
        ("? {a: b}\n: 1\n", "not valid YAML"),
        ("nc: &a [*a]\nbackbone: []\nhead: []\n", "key nc"),
    ],
)
def test_text_that_is_no_plain_data_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelNameError) as raised:
        load_yaml(path)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def leaves(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the places of everything in a YAML but the whole of it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for key, inner in items for p in ((*place, key), *leaves(inner, (*place, key)))]


WILD = st.sampled_from([DELETED, *NOT_NUMBERS, 1, 2, 3, 17, "nc", "Conv", "Segment", [1], [[1]], [-1, -2], "x" * 5000])


@given(st.data())
@settings(max_examples=150, deadline=None)
@pytest.mark.slow
def test_any_change_is_built_as_written_or_refused_in_one_line(plain: dict[str, Any], data: st.DataObject) -> None:
    """What the check lets through is built, or is refused in one line: never a traceback."""
    name = data.draw(st.sampled_from(["plain", "classifier"]))
    cfg = plain if name == "plain" else model_yaml("vanillanet-5-w0.03-cls")
    cfg = changed(cfg, data.draw(st.sampled_from(leaves(cfg))), data.draw(WILD))
    try:
        checked = resolve(cfg)
        build = VanillaDetectionModel if name == "plain" else VanillaClassificationModel
        built = build(cfg, verbose=False)  # type: ignore[operator]
    except VanillaYOLOError as error:
        message = str(error)
        assert "\n" not in message
    else:
        assert {**built.yaml, "channels": 3}["head"] == checked["head"]


# ---------------------------------------------------------------------------------------------------------------------
# What is accepted


def test_every_yaml_that_we_print_or_have_written_passes(tmp_path: Path) -> None:
    names = [*model_names()[::7], *classifier_names()[::4], "yolo11n-timm-resnet18"]
    for cfg in (*map(model_yaml, names), model_yaml("yolo11s-vanillanet", neck="yolo11")):
        assert resolve(cfg) == cfg
        (tmp_path / "mine.yaml").write_text(dump_yaml(cfg), encoding="utf-8")
        assert load_yaml(tmp_path / "mine.yaml") == cfg


@pytest.mark.parametrize("name", ["detector", "interrupted", "classifier"])
def test_the_yaml_of_an_old_checkpoint_passes(name: str) -> None:
    cfg = VanillaYOLO(OLD / f"{name}.pt").model.yaml
    assert resolve(cfg) == cfg


def test_the_words_of_ultralytics_yamls_are_understood(plain: dict[str, Any]) -> None:
    """There ``None`` stands without quotes, classes are a number at times, and the only letter goes without saying."""
    cfg = changed(plain, (*UPSAMPLE, 3, 0), "None")
    assert resolve(changed(changed(cfg, (*DETECT, 3), [80]), ("scale",), DELETED)) == {**plain, "scale": "n"}


def merged_differs(cfg: dict[str, Any]) -> float:
    """Return by how much a network's stock form differs, as a share of its largest output."""
    torch.manual_seed(0)
    model = randomize_batchnorm(VanillaDetectionModel(cfg, verbose=False)).double().eval()
    for classes in model.model[-1].cv3:  # a new head is sure of nothing, and a dead signal hides every fault
        torch.nn.init.normal_(classes[-1].weight, std=1.0)
        torch.nn.init.zeros_(classes[-1].bias)
    image = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    before = raw_output(model, image)
    assert before[:, 4:].std((0, 2)).mean() > 0.1
    model.fuse(verbose=False)
    after = raw_output(to_stock(model).double(), image)
    return float(((before - after).abs().amax((0, 2)) / before.abs().amax((0, 2))).max())


@pytest.mark.parametrize(
    "change",
    [
        [(("activation",), "nn.ReLU()")],
        [((*CONCAT, 0), [-1, -5])],  # a row counted from the one that reads it
        [(STAGE, [-1, 2, "C2f", [512, True]])],
        [(STAGE, [-1, 2, "C3", [512]])],
        [(STAGE, [-1, 1, "DWConv", [512, 3]])],
    ],
    ids=["activation", "relative", "C2f", "C3", "DWConv"],
)
@pytest.mark.slow
def test_an_edited_network_collapses_to_the_same_function(plain: dict[str, Any], change: list[Any]) -> None:
    cfg = plain
    for place, value in change:
        cfg = changed(cfg, place, value)
    assert merged_differs(cfg) < 1e-5  # the stock network's weights are float32


def test_an_activation_is_that_of_every_layer_of_ultralytics(plain: dict[str, Any]) -> None:
    built = VanillaDetectionModel(
        {**{k: v for k, v in plain.items() if k != "head_stages"}, "activation": "nn.ReLU()"}, verbose=False
    )
    assert not [m for m in built.modules() if isinstance(m, torch.nn.SiLU)]
    assert [m for m in VanillaDetectionModel(plain, verbose=False).modules() if isinstance(m, torch.nn.SiLU)]


# ---------------------------------------------------------------------------------------------------------------------
# Collapsed networks


@pytest.mark.parametrize(
    ("place", "value"),
    [(("activation",), "print('ran')"), (("head", 0, 2), "nn.Linear"), (("kpt_shape",), [17, 3]), (("nc",), -1)],
)
def test_the_description_of_a_collapsed_network_is_checked_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: tuple[Any, ...], value: Any
) -> None:
    (tmp_path / "net.safetensors").write_bytes((OLD / "detector-collapsed.safetensors").read_bytes())
    description = json.loads((OLD / "detector-collapsed.json").read_text(encoding="utf-8"))
    check_yaml(description["yaml"], "old", stock=True)
    description["yaml"] = changed(description["yaml"], place, value)
    (tmp_path / "net.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be rebuilt"):
        load_collapsed(tmp_path / "net.json")
    assert "ran" not in capsys.readouterr().out.split()
