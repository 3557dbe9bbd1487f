from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vanillayolo import cli
from vanillayolo.errors import DataError
from vanillayolo.nn import randomize_batchnorm
from vanillayolo.study import ablate
from vanillayolo.study.ablate import CONFIGS, augmented, gather_ablation, load_data, load_split, run
from vanillayolo.study.ablation_networks import Config, build
from vanillayolo.study.ablation_report import TABLES, difference, statement, write_ablation


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that differ in brightness, 16 and 8 images of each."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 8)):
        for i, name in enumerate(("dark", "bright")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(120 * i, 120 * i + 100, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{k}.png")
    return root


def test_every_row_of_the_papers_tables_can_be_trained() -> None:
    assert {name for names in TABLES.values() for name in names} <= set(CONFIGS)
    assert {f"n{n}" for n in range(5)} <= set(CONFIGS)
    both = {(c.pair, c.act_num > 0) for c in CONFIGS.values() if c.shortcut == "none"}
    assert {("deep", True), ("deep", False), ("shallow", True), ("shallow", False)} <= both
    assert {c.shortcut for c in CONFIGS.values()} == {"none", "before", "after"}


@pytest.mark.parametrize("name", CONFIGS)
def test_networks_give_logits_and_all_parameters_learn(name: str) -> None:
    net = build(CONFIGS[name], 1 / 64, num_classes=7)
    out = net(torch.rand(4, 3, 32, 32))
    assert out.shape == (4, 7)
    out.square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_shortcut_costs_no_parameters_and_is_a_shortcut(assert_near: Any) -> None:
    plain = build(CONFIGS["n3"], 1 / 64)
    for where in ("before", "after"):
        net = build(Config("", shortcut=where), 1 / 64)
        randomize_batchnorm(net).eval()
        assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in plain.parameters())
        last = net.stages[-1]  # as wide out as in, of stride 1: the shortcut is the input itself
        x = torch.rand(2, last.stage.pair.conv1.in_channels, 4, 4)
        pair = last.stage.pair(x)
        wanted = last.stage.act(pair + x) if where == "before" else last.stage.act(pair) + x
        assert_near(last(x), wanted, 1e-6)


def test_a_network_begun_at_the_identity_differs_in_the_centres_of_its_activations_alone() -> None:
    weights = []
    for name in ("n3", "n3-identity"):
        torch.manual_seed(0)
        weights.append(build(CONFIGS[name], 1 / 64).state_dict())
    plain, identity = weights
    for key, before in plain.items():
        moved = identity[key] - before
        if key.endswith("act.conv.weight"):
            assert torch.allclose(moved[:, :, 3, 3], torch.ones(()))
            moved[:, :, 3, 3] = 0
        assert not moved.any(), key


@pytest.mark.parametrize("name", ["n3", "shallow-n3"])
def test_convolutions_begin_as_asked_for(name: str) -> None:
    for init in ("noise", "fan_in"):
        torch.manual_seed(0)
        net = build(CONFIGS[name], 1 / 16, pair_init=init)
        weight = [m.weight for m in net.modules() if isinstance(m, torch.nn.Conv2d) and m.groups == 1][1].detach()
        wanted = 0.02 if init == "noise" else weight.shape[1] ** -0.5
        assert weight.std().item() == pytest.approx(wanted, rel=0.1)  # over 1,024 weights at least: 2 %


def test_the_shallow_form_is_one_convolution_each() -> None:
    deep, shallow = build(CONFIGS["n3"], 1 / 64), build(CONFIGS["shallow-n3"], 1 / 64)
    count = [sum(isinstance(m, torch.nn.Conv2d) and m.groups == 1 for m in net.modules()) for net in (deep, shallow)]
    assert count == [12, 6], "VanillaNet-6"


def test_images_of_any_size_are_scaled(tmp_path: Path) -> None:
    for name, size in (("a", (64, 16)), ("b", (32, 32))):
        (tmp_path / name).mkdir()
        Image.new("RGB", size, (10, 20, 30)).save(tmp_path / name / "0.png")
    (images, labels), classes = load_split(tmp_path)
    assert images.shape == (2, 3, 32, 32)
    assert (classes, labels.tolist()) == (["a", "b"], [0, 1])
    assert images.permute(1, 0, 2, 3).flatten(1).unique(dim=1).tolist() == [[10], [20], [30]]


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0\.png: not a readable image"):
        load_split(tmp_path)


def test_augmentation_shifts_and_turns_whole_images() -> None:
    image = torch.arange(32.0).view(1, 1, 1, 32).expand(64, 3, 32, 32).contiguous()
    out = augmented(image, torch.Generator().manual_seed(0))
    assert out.shape == image.shape
    steps = out[:, 0, 16, 8:24].diff()
    turned = (steps < 0).all(1)
    assert ((steps.abs() == 1).all(1)).all()
    assert 16 < int(turned.sum()) < 48


@pytest.mark.slow
def test_runs_are_kept_and_gathered(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"configs": "n0,shallow-n0", "epochs": 2, "width": 1 / 64, "batch": 8}
    run(images, tmp_path / "out", seeds=(0, 1), **settings)
    record = json.loads((tmp_path / "out" / "n0_seed1.json").read_text())
    assert len(record["top1_per_epoch"]) == 2
    assert record["top1"] == record["top1_per_epoch"][-1]
    monkeypatch.setattr(ablate, "train_one", None)
    run(images, tmp_path / "out", seeds=(0, 1), **settings)  # all there: nothing is trained
    result = gather_ablation(tmp_path / "out")
    assert {name: list(runs) for name, runs in result["runs"].items()} == {
        "n0": ["0", "1"],
        "shallow-n0": ["0", "1"],
    }
    files = write_ablation(tmp_path / "out", "vanillayolo ablate ...")
    text = files["md"].read_text()
    assert "not trained: 'n = 4' over 'n = 0'" in text
    assert json.loads(files["json"].read_text())["runs"] == result["runs"]


def test_the_same_seed_gives_the_same_figures(images: Path) -> None:
    train, val, classes = load_data(images)
    settings = {"epochs": 1, "width": 1 / 64, "batch": 8, "lr": 1e-3, "weight_decay": 0.05, "decay": 1 / 3}
    settings["pair_init"] = "fan_in"
    a, b = (ablate.train_one(CONFIGS["n1"], 3, train, val, classes, settings) for _ in range(2))
    assert a["loss_per_epoch"] == b["loss_per_epoch"]


def test_the_verdict_follows_the_numbers() -> None:
    def rows(a: list[float], b: list[float]) -> dict[str, Any]:
        return {name: {str(i): {"top1": v} for i, v in enumerate(vs)} for name, vs in (("n1", a), ("n0", b))}

    assert difference(rows([0.60, 0.61, 0.62], [0.50, 0.512, 0.52]), "n1", "n0").verdict == "more"
    assert difference(rows([0.40, 0.41, 0.42], [0.50, 0.512, 0.52]), "n1", "n0").verdict == "less"
    assert difference(rows([0.5, 0.6, 0.4], [0.55, 0.45, 0.45]), "n1", "n0").verdict == "undecided"
    assert difference(rows([0.9], [0.1]), "n1", "n0").verdict == "undecided", "one seed decides nothing"
    assert difference({}, "n1", "n0").verdict == "not trained"
    known = statement({"runs": rows([0.60, 0.61, 0.62], [0.50, 0.512, 0.52])})
    assert known.startswith("Of 1 differences in top-1, 1 are decided and 0 undecided")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["configs=n9"], "n9"),
        (["epochs=0"], "from 1 to"),
        (["width=2"], "above 0 up to 1"),
        (["seeds=x"], "whole numbers"),
        (["pair_init=zeros"], "give one of noise, fan_in"),
        (["epohcs=2"], "did you mean epochs"),
        (["data=nowhere"], "train/CLASS"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], says: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [] if words[0].startswith("data=") else [f"data={images}"]
    assert cli.main(["ablate", *data, f"folder={tmp_path / 'out'}", *words]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
