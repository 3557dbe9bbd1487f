from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vanillayolo.errors import ModelNameError, VanillaYOLOError
from vanillayolo.nn import VARIANTS
from vanillayolo.yolo import VanillaDetectionModel, model_names, model_yaml
from vanillayolo.yolo.architecture import dump_yaml, is_model_name, load_yaml, resolve
from vanillayolo.yolo.families import DESIGNS, NECKS

# ---------------------------------------------------------------------------------------------------------------------
# Names


def test_every_combination_has_a_name() -> None:
    names = model_names()
    assert len(names) == len(set(names)) == 5 * (2 + len(DESIGNS) + 2 * len(VARIANTS))
    assert names[:5] == [f"yolo11{letter}-vanillanet" for letter in "nsmlx"]
    assert {"yolo11n-vanillanet-5-paper", "yolo11x-vanillanet-13_x1_5_ada_pool"} <= set(names)


@pytest.mark.parametrize("name", ["yolo11n-vanillanet", "yolo11x-vanillanet-13-paper", "vanillanet-6-cls"])
def test_a_name_may_end_as_a_file(name: str) -> None:
    assert is_model_name(f"{name}.yaml")
    assert model_yaml(f"{name}.yaml") == model_yaml(f"{name}.yml") == resolve(name) == model_yaml(name)


def test_every_name_resolves(tmp_path: Path) -> None:
    for name in model_names():
        cfg = model_yaml(name)
        assert is_model_name(name)
        variant = {**VARIANTS, **DESIGNS}[cfg["family"]["variant"]]
        arguments = cfg["backbone"][0][3][0]
        assert tuple(arguments["strides"]) == variant.strides
        assert arguments["adaptive_pool"] == variant.adaptive_pool
        assert tuple(arguments["dims"]) == variant.scaled(cfg["family"]["width"])
        if name.endswith("-paper"):
            assert tuple(arguments["dims"]) == variant.dims  # the paper's own widths
        if match := re.search(r"vanillanet-(.+?)(-paper)?$", name):
            assert cfg["family"]["variant"] == match[1]
        assert cfg["scale"] == name[len("yolo11")]
        assert cfg["deep_training"]["decay"] == pytest.approx(1 / 3, abs=1e-6)
        if name[len("yolo11")] == "n":  # letters differ in numbers alone
            (tmp_path / "edited.yaml").write_text(dump_yaml(cfg), encoding="utf-8")
            assert load_yaml(tmp_path / "edited.yaml") == cfg


@pytest.mark.parametrize(("key", "allowed"), [("series_init", "noise, identity"), ("pair_init", "noise, fan_in")])
def test_an_unknown_start_lists_those_there_are(tiny_cfg: dict[str, Any], key: str, allowed: str) -> None:
    with pytest.raises(ModelNameError, match=f"{key} 'dirac': give one of {allowed}"):
        resolve(tiny_cfg | {key: "dirac"})


@pytest.mark.parametrize(
    "stages",
    [
        2,
        {"box": 1},
        *(
            {"box": 1, "class": 0, "act_num": 2, **wrong}
            for wrong in (
                {"box": 3},
                {"class": -1},
                {"act_num": -1},
                {"act_num": 1.5},
                {"act_num": "two"},
                {"box": True},
                {"boxes": 1},
            )
        ),
    ],
)
def test_the_heads_stages_are_counted(tiny_cfg: dict[str, Any], stages: Any) -> None:
    with pytest.raises(ModelNameError, match=r"head_stages .*: give none, or whole numbers for box, class, act_num"):
        resolve(tiny_cfg | {"head_stages": stages})


def test_each_call_gives_a_dict_of_its_own() -> None:
    first = model_yaml("yolo11n-vanillanet-5")
    before = copy.deepcopy(first)
    first["backbone"][0][3][0]["dims"][0] = 1
    first["head"][0][3][0] = 1
    assert model_yaml("yolo11n-vanillanet-5") == before


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("yolo11n-vanilanet", "yolo11n-vanillanet"),
        ("yolo11n-vanillanet-4-paper", "-paper"),
        ("yolo11n-vanillanet5", "yolo11n-vanillanet-5"),
        ("yolo11n_vanillanet.yaml", "yolo11n-vanillanet"),
        ("YOLO11N-VANILLANET", None),
        ("yolo11q-vanillanet-5", "-vanillanet-5"),
    ],
)
def test_unknown_names_are_answered_with_the_closest(wrong: str, meant: str | None) -> None:
    assert not is_model_name(wrong)
    with pytest.raises(ModelNameError) as raised:
        model_yaml(wrong)
    message = str(raised.value)
    assert repr(wrong) in message
    assert "\n" not in message
    if meant:
        assert "did you mean" in message
        assert meant in message


@given(st.text(max_size=30))
@settings(max_examples=30, deadline=None)
def test_anything_else_is_one_line(text: str) -> None:
    if is_model_name(text):
        return
    with pytest.raises(ModelNameError) as raised:
        resolve(text)
    assert "\n" not in str(raised.value)


# ---------------------------------------------------------------------------------------------------------------------
# Files


def shapes(cfg: Any) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in VanillaDetectionModel(cfg, verbose=False).state_dict().items()}


def test_printed_yaml_builds_the_same_network(tiny_cfg: dict[str, Any], tiny_yaml: Path) -> None:
    assert resolve(tiny_yaml) == resolve(str(tiny_yaml)) == tiny_cfg
    assert shapes(str(tiny_yaml)) == shapes(tiny_cfg)


def test_an_edited_yaml_is_accepted(tiny_cfg: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = dump_yaml(tiny_cfg).replace("act_num: 3", "act_num: [2, 3, 3, 3]").replace("nc: 80", "nc: 7  # mine")
    path.write_text(text.replace("class: 2, act_num: 2", "class: 1, act_num: 1"), encoding="utf-8")
    built = shapes(str(path))
    assert built["model.0.stem.act.conv.weight"] == (16, 1, 5, 5)
    assert built["model.18.cv3.0.0.act.conv.weight"][2:] == (3, 3)
    assert built["model.18.cv3.0.2.weight"][0] == 7


@pytest.mark.parametrize("neck", NECKS)
def test_a_neck_may_be_given_by_name(neck: str, tiny_cfg: dict[str, Any], tmp_path: Path) -> None:
    """It fits whatever widths the backbone has been given."""
    short = {**{k: v for k, v in tiny_cfg.items() if k != "head"}, "neck": neck}
    path = tmp_path / "short.yml"
    path.write_text(yaml.safe_dump(short), encoding="utf-8")
    assert resolve(path)["head"] == model_yaml("yolo11n-vanillanet-5", neck=neck)["head"]
    assert shapes(str(path))["model.0.stem.act.conv.weight"] == (16, 1, 7, 7)


def test_an_unknown_neck_lists_those_there_are() -> None:
    assert "plain" in one_line_error(lambda: model_yaml("yolo11n-vanillanet", neck="plane"))


def test_a_checkpoint_carries_the_yaml_as_it_was_written(tiny_cfg: dict[str, Any]) -> None:
    """What the parser is given for its own sake stays out of it."""
    built = VanillaDetectionModel(tiny_cfg, verbose=False).yaml
    assert built["head"] == resolve(built)["head"] == tiny_cfg["head"]


def test_a_dict_is_copied(tiny_cfg: dict[str, Any]) -> None:
    resolved = resolve(tiny_cfg)
    assert resolved == tiny_cfg
    resolved["backbone"][0][3][0]["dims"].append(1)
    assert resolved != tiny_cfg


def one_line_error(make: Callable[[], Any]) -> str:
    with pytest.raises(ModelNameError) as raised:
        make()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("nc: 80\nbackbone:\n  - [-1, 1, VanillaBackbone\nhead: []\n", 4),
        ("nc: 80\nscale: 'n\n", 3),
        ("nc: 80\n\tbackbone: []\n", 2),
    ],
)
def test_malformed_yaml_is_one_line_with_its_place(text: str, line: int, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text, encoding="utf-8")
    message = one_line_error(lambda: load_yaml(path))
    assert str(path) in message
    assert f"at line {line}" in message


@pytest.mark.parametrize("content", [b"", b"- 1\n- 2\n", b"just text", b"\xff\xfe\x00bad", b"nc: 80\n"])
def test_files_that_are_no_model(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_bytes(content)
    assert "vanillayolo yaml" in one_line_error(lambda: load_yaml(path))


@pytest.mark.parametrize("key", ["nc", "backbone"])
def test_a_missing_key_is_named(key: str, tiny_cfg: dict[str, Any], tmp_path: Path) -> None:
    del tiny_cfg[key]
    path = tmp_path / "missing.yaml"
    path.write_text(yaml.safe_dump(tiny_cfg), encoding="utf-8")
    assert repr(key) in one_line_error(lambda: resolve(path))


def test_a_missing_head_lists_the_necks(tiny_cfg: dict[str, Any]) -> None:
    del tiny_cfg["head"]
    tiny_cfg["neck"] = "mine"
    assert "yolo11, published" in one_line_error(lambda: resolve(tiny_cfg))


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    assert "no such file" in one_line_error(lambda: load_yaml(tmp_path / "nowhere.yaml"))
    one_line_error(lambda: resolve(tmp_path / "nowhere.yaml"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda cfg: cfg["head"].__setitem__(0, [-1, 1, "SPPG", [1024, 5]]),
        lambda cfg: cfg["head"].__setitem__(3, [[-1, 77], 1, "Concat", [1]]),
        lambda cfg: cfg["head"].__setitem__(0, [-1, 1]),
        lambda cfg: cfg["backbone"][0][3][0].__setitem__("dimensions", [8]),
        lambda cfg: cfg["backbone"][0][3][0].__setitem__("dims", [8, 8]),
        lambda cfg: cfg["backbone"][0][3][0].__setitem__("strides", [2, 2, 3]),
        lambda cfg: cfg["backbone"][1][3].__setitem__(0, 24),
        lambda cfg: cfg["backbone"][1][3].__setitem__(1, 7),
        lambda cfg: cfg.__setitem__("backbone", []),
        lambda cfg: cfg.__setitem__("head", "yolo11"),
    ],
    ids=["module", "from", "short_row", "argument", "dims", "strides", "channels", "level", "no_backbone", "no_rows"],
)
def test_rows_that_cannot_be_built_are_the_users_to_mend(
    spoil: Callable[[dict[str, Any]], Any], tiny_cfg: dict[str, Any], tmp_path: Path
) -> None:
    spoil(tiny_cfg)
    path = tmp_path / "spoilt.yaml"
    path.write_text(yaml.safe_dump(tiny_cfg), encoding="utf-8")
    with pytest.raises(VanillaYOLOError) as raised:
        VanillaDetectionModel(str(path), verbose=False)
    assert "\n" not in str(raised.value)
