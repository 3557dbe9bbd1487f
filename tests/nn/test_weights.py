from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_cases import Golden
from safetensors.torch import save_file
from torch import Tensor, nn

from vanillayolo.errors import CheckpointError
from vanillayolo.nn import (
    LoadReport,
    VanillaNet,
    convert_weights,
    load_official_weights,
    randomize_batchnorm,
    reparameterize,
    vanillanet_variant,
    weights,
)
from vanillayolo.nn.reparameterize import join_pairs
from vanillayolo.nn.weights import describe_weights, translate_keys


def network(seed: int = 0, **kwargs: Any) -> VanillaNet:
    torch.manual_seed(seed)
    return randomize_batchnorm(vanillanet_variant("6", 1 / 64, **{"num_classes": 5, **kwargs}), seed).eval()


def authors_keys(net: VanillaNet) -> dict[str, Tensor]:
    """Return the state dict of a training form under the authors' key names, written out independently."""
    names = {
        "stem.pair.conv1": "stem1.0",
        "stem.pair.norm1": "stem1.1",
        "stem.pair.conv2": "stem2.0",
        "stem.pair.norm2": "stem2.1",
        "stem.act.conv": "stem2.2",
        "stem.act.norm": "stem2.2.bn",
        "head.pair.conv1": "cls1.2",
        "head.pair.norm1": "cls1.3",
        "head.pair.conv2": "cls2.0",
    }
    for i in range(len(net.stages)):
        ours, theirs = f"stages.{i}", f"stages.{i}"
        names[f"{ours}.pair.conv1"], names[f"{ours}.pair.norm1"] = f"{theirs}.conv1.0", f"{theirs}.conv1.1"
        names[f"{ours}.pair.conv2"], names[f"{ours}.pair.norm2"] = f"{theirs}.conv2.0", f"{theirs}.conv2.1"
        names[f"{ours}.act.conv"], names[f"{ours}.act.norm"] = f"{theirs}.act", f"{theirs}.act.bn"
    return {f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in net.state_dict().items()}


def same_function(a: nn.Module, b: nn.Module) -> bool:
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        return torch.equal(a(images), b(images))


# ---------------------------------------------------------------------------------------------------------------------
# The authors' files


def test_training_form_loads_whole(golden: Golden) -> None:
    net = golden.build()
    report = load_official_weights(net, golden.part("train_form."))
    assert report.form == "training"
    assert (report.missing, report.unexpected, report.shape) == ([], [], [])
    assert {k for k in report.loaded if "num_batches" not in k} == {k for k in net.state_dict() if "num_b" not in k}
    net.load_state_dict(translate_keys(golden.part("train_form.")))  # strict


def test_merged_form_loads_whole_into_a_merged_network(golden: Golden, assert_near: Callable[..., None]) -> None:
    net = golden.build(merged=True).eval()
    report = load_official_weights(net, golden.part("deploy_form."))
    assert report.form == "merged"
    assert (report.missing, report.unexpected, report.shape) == ([], [], [])
    assert set(report.loaded) == set(net.state_dict())
    net.load_state_dict(translate_keys(golden.part("deploy_form.")))  # strict
    with torch.no_grad():
        # float32: the same weights, the sums in another order
        assert_near(net(golden.tensors["input"]), golden.tensors["logits.deploy"], 1e-5)


@pytest.mark.parametrize(("weights", "merged"), [("train_form.", True), ("deploy_form.", False)])
def test_the_other_form_is_refused_with_the_remedy(golden: Golden, weights: str, merged: bool) -> None:
    with pytest.raises(CheckpointError, match="merged=True or False"):
        load_official_weights(golden.build(merged=merged), golden.part(weights))


# ---------------------------------------------------------------------------------------------------------------------
# Files


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model_ema": state, "model": {}, "epoch": 299},
        lambda state: {"model": state},
        lambda state: {"state_dict": state},
        lambda state: {f"module.{k}": v for k, v in state.items()},
        lambda state: {"model_ema": {f"module.{k}": v for k, v in state.items()}},
    ],
    ids=["plain", "model_ema", "model", "state_dict", "module", "model_ema_module"],
)
@pytest.mark.parametrize("names", [authors_keys, lambda net: net.state_dict()], ids=["authors", "ours"])
def test_torch_files(
    tmp_path: Path,
    wrap: Callable[[dict[str, Tensor]], Any],
    names: Callable[[VanillaNet], dict[str, Tensor]],
) -> None:
    source, net = network(1), network(2)
    torch.save(wrap(names(source)), tmp_path / "weights.pth")
    report = load_official_weights(net, tmp_path / "weights.pth")
    assert report.missing == report.unexpected == report.shape == []
    assert same_function(net, source)


def test_averaged_weights_come_first(tmp_path: Path) -> None:
    averaged, last, net = network(1), network(2), network(3)
    torch.save({"model": authors_keys(last), "model_ema": authors_keys(averaged)}, tmp_path / "both.pth")
    load_official_weights(net, str(tmp_path / "both.pth"))
    assert same_function(net, averaged)


@pytest.mark.parametrize("merged", [False, True])
def test_safetensors(tmp_path: Path, merged: bool) -> None:
    source, net = network(1), network(2)
    if merged:
        source, net = reparameterize(source), reparameterize(net)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    report = load_official_weights(net, tmp_path / "weights.safetensors")
    assert report.form == ("merged" if merged else "training")
    assert not report.missing
    assert same_function(net, source)


def test_weights_of_joined_pairs(tmp_path: Path) -> None:
    source = network()
    join_pairs(source)
    save_file(source.state_dict(), tmp_path / "joined.safetensors")
    about = describe_weights(source.state_dict())
    assert (about.form, about.dims, about.act_num, about.num_classes) == (
        "joined",
        tuple(info["num_chs"] for info in source.feature_info),
        3,
        5,
    )
    net = network(seed=1)  # two convolutions a pair until the file says otherwise
    report = load_official_weights(net, tmp_path / "joined.safetensors")
    assert report.form == "joined"
    assert (report.missing, report.unexpected, report.shape) == ([], [], [])
    assert same_function(net, source)
    other = VanillaNet(dims=(8, 16), strides=(2,), num_classes=5)
    before = set(other.state_dict())
    with pytest.raises(CheckpointError, match="training form"):
        load_official_weights(other, source.state_dict())
    assert set(other.state_dict()) == before  # a refusal changes nothing


def test_old_torch_files_without_zip(tmp_path: Path) -> None:
    source, net = network(1), network(2)
    torch.save(authors_keys(source), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    load_official_weights(net, tmp_path / "old.pth")
    assert same_function(net, source)


def test_half_weights_keep_the_networks_dtype(tmp_path: Path) -> None:
    net = network(2)
    load_official_weights(net, {k: v.half() for k, v in authors_keys(network(1)).items()})
    assert {p.dtype for p in net.parameters()} == {torch.float32}


# ---------------------------------------------------------------------------------------------------------------------
# What does not fit


def test_another_number_of_classes_loads_all_but_the_classifier() -> None:
    source, net = network(1), network(2, num_classes=9)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    report = load_official_weights(net, authors_keys(source))
    assert report.missing == report.unexpected == []
    assert report.shape
    assert all(entry.startswith("head.") for entry in report.shape)
    assert any(entry.startswith("head.pair.conv2.weight: [5, 5, 1, 1], [9, 9, 1, 1]") for entry in report.shape)
    after = net.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in after if k.startswith("head.") and "num_b" not in k)
    assert all(torch.equal(after[k], v) for k, v in source.state_dict().items() if not k.startswith("head."))


def test_a_network_without_classifier_takes_the_backbone() -> None:
    source, net = network(1), network(2, num_classes=0)
    report = load_official_weights(net, authors_keys(source))
    assert report.missing == report.shape == []
    assert report.unexpected
    assert all(key.startswith("head.") for key in report.unexpected)
    with torch.no_grad():
        images = torch.randn(1, 3, 64, 64)
        assert torch.equal(net.forward_features(images), source.forward_features(images))


def test_weights_without_classifier_leave_it_alone() -> None:
    net = network(2)
    report = load_official_weights(net, authors_keys(network(1, num_classes=0)))
    assert report.missing
    assert all(key.startswith("head.") for key in report.missing)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"act_num": 4}, "stem.act.conv.weight: [8, 1, 7, 7], [8, 1, 9, 9]"),
        ({"in_chans": 1}, "stem.pair.conv1.weight: [8, 3, 4, 4], [8, 1, 4, 4]"),
        ({"dims": (8, 16, 32, 64, 72)}, "stages.3"),
        ({"dims": (8, 16, 32, 64), "strides": (2, 2, 2)}, "stages.3"),
    ],
)
def test_another_network_is_refused_and_left_as_it_was(other: dict[str, Any], named: str) -> None:
    net = network(2, **other)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(CheckpointError) as raised:
        load_official_weights(net, authors_keys(network(1)))
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_not_strict_takes_what_fits_and_reports_the_rest() -> None:
    source, net = network(1), network(2, act_num=4)
    report = load_official_weights(net, authors_keys(source), strict=False)
    assert [entry.split(":")[0] for entry in report.shape] == [
        "stem.act.conv.weight",
        *(f"stages.{i}.act.conv.weight" for i in range(4)),
    ]
    assert torch.equal(net.stages[0].pair.conv1.weight, source.stages[0].pair.conv1.weight)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    "state",
    [
        {"conv.weight": torch.zeros(3)},
        {},
        {"head.pair.conv1.weight": torch.zeros(5, 64, 1, 1)},
    ],
)
def test_weights_of_something_else_are_refused(state: dict[str, Tensor], strict: bool) -> None:
    with pytest.raises(CheckpointError):
        load_official_weights(network(), state, strict=strict)


def test_one_missing_key_is_named() -> None:
    state = authors_keys(network(1))
    del state["stages.2.conv1.1.running_var"]
    with pytest.raises(CheckpointError, match=r"stages\.2\.pair\.norm1\.running_var"):
        load_official_weights(network(), state)


def test_batch_counters_may_be_missing() -> None:
    state = {k: v for k, v in authors_keys(network(1)).items() if "num_batches" not in k}
    assert load_official_weights(network(), state).missing == []


# ---------------------------------------------------------------------------------------------------------------------
# Files that are no weights


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        load_official_weights(network(), path)
    message = str(raised.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_files(tmp_path: Path, suffix: str, share: float) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"weights{suffix}"
    state = authors_keys(network())
    save_file(state, whole) if suffix == ".safetensors" else torch.save(state, whole)
    content = whole.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "fetch or save it again" in refused(path)


def test_files_of_other_things(tmp_path: Path) -> None:
    page = tmp_path / "weights.pth"
    page.write_text("<!doctype html><title>404</title>")
    refused(page)
    assert "no such weights file" in refused(tmp_path / "nowhere.pth")
    assert "no such weights file" in refused(tmp_path)  # a folder


@pytest.mark.parametrize(
    "content", [{"epoch": 3}, [], {"model": {}}, {0: torch.zeros(1)}, torch.zeros(3), 7, None, [torch.zeros(1)]]
)
def test_torch_files_without_weights(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "weights.pth")
    refused(tmp_path / "weights.pth")


@pytest.mark.parametrize("odd", [torch.eye(2).to_sparse(), torch.empty(2, device="meta")])
def test_tensors_that_are_not_there_in_full_are_named(tmp_path: Path, odd: Tensor) -> None:
    torch.save({**authors_keys(network()), "stem1.0.bias": odd}, tmp_path / "weights.pth")
    assert "stem1.0.bias is sparse or has no values" in refused(tmp_path / "weights.pth")


def test_files_beyond_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(authors_keys(network()), tmp_path / "weights.pth")
    monkeypatch.setattr(weights, "MAX_TENSORS", 10)
    assert "tensors, at most 10" in refused(tmp_path / "weights.pth")
    monkeypatch.setattr(weights, "MAX_BYTES", 1000)
    assert "bytes, at most 1,000 are read" in refused(tmp_path / "weights.pth")


@pytest.mark.parametrize("wrap", [dict, lambda state: {"model_ema": state}], ids=["plain", "model_ema"])
def test_a_small_file_of_large_tensors(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    # One number, repeated by a stride of 0: copied, as convert_weights does, it would take 400 TB.
    state = {**authors_keys(network()), "extra": torch.zeros(1).expand(10**7, 10**7)}
    torch.save(wrap(state), tmp_path / "weights.pth")
    assert "when unpacked" in refused(tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="when unpacked"):
        convert_weights(tmp_path / "weights.pth")
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pth"]


def test_compressed_files_are_limited_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch writes its zip archives uncompressed, but reads others: a file of zeros packs a thousandfold.
    torch.save({"extra": torch.zeros(10**6)}, tmp_path / "stored.pth")
    with (
        zipfile.ZipFile(tmp_path / "stored.pth") as stored,
        zipfile.ZipFile(tmp_path / "weights.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    monkeypatch.setattr(weights, "MAX_BYTES", 10**6)
    assert (tmp_path / "weights.pth").stat().st_size < 10**5
    assert "when unpacked" in refused(tmp_path / "weights.pth")


class Planted:
    """What a malicious file would hold: unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "planted"
    state: dict[str, Any] = {**authors_keys(network()), "extra": Planted(folder)}
    torch.save(state, tmp_path / "weights.pth")
    refused(tmp_path / "weights.pth")
    assert not folder.exists()


# ---------------------------------------------------------------------------------------------------------------------
# The report


def test_report_in_one_line() -> None:
    report = LoadReport(loaded=["a", "b"], missing=["c"], unexpected=[], shape=[], form="merged")
    assert str(report) == "weights in merged form: 2 loaded, 1 missing, 0 unexpected, 0 shape"


def test_translation_leaves_other_keys_alone() -> None:
    state = {"model.0.conv.weight": torch.zeros(1), "stages.0.pair.conv1.weight": torch.zeros(1)}
    assert list(translate_keys(state)) == list(state)
