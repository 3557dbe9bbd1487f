from __future__ import annotations

import copy
import functools
import json
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import ultralytics.nn.tasks
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.modules import Conv, Detect
from ultralytics.nn.tasks import DetectionModel

from small import slow_but
from vanillayolo.errors import MergeError, ModelNameError
from vanillayolo.nn import (
    VARIANTS,
    DeepPair,
    SeriesActivation,
    is_merged,
    randomize_batchnorm,
    reparameterize,
    set_negative_slope,
)
from vanillayolo.yolo import VanillaDetectionModel, model_yaml
from vanillayolo.yolo.merging import vanilla_batchnorms

FAMILIES = {"compact": "", "paper": "-paper"}
families = pytest.mark.parametrize("family", FAMILIES)
#: Every variant differs from these in the number and widths of its stages alone; tests/nn builds all of them.
variants = pytest.mark.parametrize("variant", slow_but("5", ["5", "9", "13_x1_5_ada_pool"]))


@pytest.fixture(scope="session")
def narrow(shrink_yaml: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return a function: variant and family to the YAML of its network at 1/64 of the paper's width."""

    def make(variant: str, family: str = "compact") -> dict[str, Any]:
        cfg = model_yaml(f"yolo11n-vanillanet-{variant}{FAMILIES[family]}")
        return shrink_yaml(cfg, list(VARIANTS[variant].scaled(1 / 64)))

    return make


def detector(cfg: dict[str, Any], **kwargs: Any) -> VanillaDetectionModel:
    """Return a detector with randomised batch normalisation, in evaluation mode.

    The backbone's weights are widened from the authors' 0.02, else its maps would be little but their biases.
    """
    return copy.deepcopy(built(json.dumps(cfg), **kwargs))


@functools.lru_cache
def built(cfg: str, nc: int = 4, **kwargs: Any) -> VanillaDetectionModel:
    torch.manual_seed(0)
    model = VanillaDetectionModel(json.loads(cfg), nc=nc, verbose=False, **kwargs)
    with torch.no_grad():
        for m in model.model[0].modules():
            if isinstance(m, nn.Conv2d):
                m.weight.mul_(10)
    return randomize_batchnorm(model).eval()


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def raw(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return what the head computes before it decodes: box distributions and class logits."""
    with torch.no_grad():
        _, head = model(images)
    return {key: head[key] for key in ("boxes", "scores")}


def batch(size: int = 64, channels: int = 3, images: int = 2) -> dict[str, Tensor]:
    """Return a batch as Ultralytics' loss takes it: two boxes on every image."""
    generator = torch.Generator().manual_seed(0)
    return {
        "img": torch.rand(images, channels, size, size, generator=generator),
        "batch_idx": torch.arange(images).repeat_interleave(2).float(),
        "cls": torch.tensor([[0.0], [1.0]]).repeat(images, 1),
        "bboxes": torch.tensor([[0.3, 0.3, 0.4, 0.4], [0.6, 0.6, 0.5, 0.6]]).repeat(images, 1),
    }


# ---------------------------------------------------------------------------------------------------------------------
# At full width


@pytest.mark.slow
def test_the_published_backbone_to_the_parameter() -> None:
    """The whole network in both forms: tests/test_cli.py."""
    model = VanillaDetectionModel("yolo11n-vanillanet-5-paper", verbose=False).eval()
    DetectionModel.fuse(model, verbose=False)  # what the published code had folded: the neck alone
    assert parameters(model.model[0]) == 17_228_800
    model = VanillaDetectionModel("yolo11n-vanillanet-5-paper", verbose=False).eval().fuse(verbose=False)
    assert parameters(model.model[0]) == 11_426_304


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo11x-vanillanet", "yolo11n-vanillanet-13_x1_5_ada_pool-paper"])
def test_names_build_at_full_width(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Detect, "bias_init", lambda self: None)  # reads a stride, which the meta device does not hold
    with torch.device("meta"):  # no memory
        model = VanillaDetectionModel(name, verbose=False)
    assert model.stride.shape == (3,)


# ---------------------------------------------------------------------------------------------------------------------
# Every variant builds, trains and decodes


@variants
@families
def test_strides_and_batchnorm_settings(variant: str, family: str, narrow: Callable[..., dict[str, Any]]) -> None:
    model = detector(narrow(variant, family))
    assert epsilons(model) == ({1e-6}, {1e-3})
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.03}
    backbone = model.model[0]
    reductions = {info["reduction"] for info in backbone.feature_info}
    assert model.stride.tolist() == model.model[-1].stride.tolist() == backbone.out_strides
    assert set(backbone.out_strides) <= reductions
    assert max(reductions) == backbone.out_strides[-1]


@pytest.mark.slow
@variants
@families
def test_a_training_step(variant: str, family: str, narrow: Callable[..., dict[str, Any]]) -> None:
    model = detector(narrow(variant, family)).train()
    model.args = get_cfg()
    set_negative_slope(model, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    loss, items = model.loss(batch())
    assert len(items) == 3
    loss.sum().backward()
    for key, p in model.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, key
            assert p.grad.isfinite().all(), key
    before = model.model[0].stem.pair.conv1.weight.clone()
    optimizer.step()
    assert not torch.equal(before, model.model[0].stem.pair.conv1.weight)


@pytest.mark.slow
def test_training_lowers_the_loss(tiny_cfg: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = VanillaDetectionModel(tiny_cfg, nc=2, verbose=False).train()
    model.args = get_cfg()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for step in range(25):
        set_negative_slope(model, min(step / 12, 1.0))
        loss = model.loss(batch())[0].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@variants
@families
@pytest.mark.parametrize("form", ["training", "merged"])
def test_boxes_are_decoded_on_the_true_grid(
    variant: str, family: str, form: str, narrow: Callable[..., dict[str, Any]]
) -> None:
    model = detector(narrow(variant, family))
    head = model.model[-1]
    for box in head.cv2:  # every side then lies 7.5 strides from its cell's centre
        nn.init.zeros_(box[-1].weight)
        nn.init.zeros_(box[-1].bias)
    if form == "merged":
        model.fuse(verbose=False)
    strides = model.model[0].out_strides
    for height, width in [(128, 128), (160, 96), (96, 224)]:
        with torch.no_grad():
            decoded, _ = model(torch.rand(1, 3, height, width))
        want = []
        for stride in strides:
            cells = [-(-side // strides[-1]) * strides[-1] // stride for side in (height, width)]
            y, x = torch.meshgrid(*(torch.arange(n) for n in cells), indexing="ij")
            want.append(torch.stack([x, y], -1).reshape(-1, 2).add(0.5) * stride)
        sides = torch.cat([torch.full((len(w),), 15.0 * s) for w, s in zip(want, strides, strict=True)])
        centres = torch.cat(want)
        assert decoded.shape == (1, 4 + 4, len(centres))
        # float32: a softmax over 16 equal entries, times the stride
        torch.testing.assert_close(decoded[0, :2].T, centres, rtol=1e-5, atol=1e-2)
        torch.testing.assert_close(decoded[0, 2], sides, rtol=1e-5, atol=1e-2)
        for w, stride in zip(want, strides, strict=True):  # and the cells cover the image
            assert w[0].tolist() == [stride / 2, stride / 2]
            assert w[-1, 0] + stride / 2 >= width
            assert w[-1, 1] + stride / 2 >= height


# ---------------------------------------------------------------------------------------------------------------------
# fuse()


@variants
@families
def test_fuse_merges_without_changing_the_outputs(
    variant: str, family: str, narrow: Callable[..., dict[str, Any]], assert_near: Callable[..., None]
) -> None:
    images = torch.rand(2, 3, 96, 128)
    # float64: rounding alone, through some 60 layers. float32: likewise.
    for dtype, share in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        model = detector(narrow(variant, family)).to(dtype)
        want = raw(model, images.to(dtype))
        assert not model.is_fused()
        fused = model.fuse(verbose=False)
        assert fused is model
        assert fused.is_fused()
        assert is_merged(fused)
        assert fused.negative_slope is None
        assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
        assert not any(p.requires_grad for p in fused.parameters())
        for key, got in raw(fused, images.to(dtype)).items():
            assert_near(got, want[key], share, f"{key}, {dtype}")


def test_a_head_of_stages_merges_too(tiny_cfg: dict[str, Any], assert_near: Callable[..., None]) -> None:
    model = detector(tiny_cfg | {"head_stages": {"box": 2, "class": 2, "act_num": 1}}).double()
    assert not any(isinstance(m, Conv) for m in model.model[-1].modules()), "every branch is made of stages"
    images = torch.rand(2, 3, 96, 128, dtype=torch.float64)
    want = raw(model, images)
    for key, got in raw(model.fuse(verbose=False), images).items():
        assert_near(got, want[key], 1e-12, key)
    kinds = {type(m) for m in model.model[-1].modules() if not list(m.children())}
    assert kinds == {nn.Conv2d, nn.ReLU, nn.Identity}


class Messages(logging.Handler):
    """Keeps what Ultralytics' logger says, from a level on."""

    def __init__(self, level: int = logging.WARNING) -> None:
        super().__init__(level)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture
def warnings_said() -> Any:
    handler = Messages()
    logger = logging.getLogger("ultralytics")
    logger.addHandler(handler)
    yield handler.said
    logger.removeHandler(handler)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "slope"), [("compact", 0.0), ("compact", 0.5), ("compact", 1 - 1e-9), ("paper", 0.5)]
)
def test_fuse_below_slope_one_folds_only_and_says_so(
    family: str,
    slope: float,
    narrow: Callable[..., dict[str, Any]],
    warnings_said: list[str],
    assert_near: Callable[..., None],
) -> None:
    model = detector(narrow("7", family)).double()
    set_negative_slope(model, slope)
    images = torch.rand(2, 3, 96, 128, dtype=torch.float64)
    want = raw(model, images)
    model.fuse(verbose=False)
    assert len(warnings_said) == 1
    assert f"slope {slope:g}" in warnings_said[0]
    assert "not merged" in warnings_said[0]
    assert model.is_fused()
    assert not is_merged(model)
    assert model.negative_slope == slope
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    for key, got in raw(model, images).items():
        assert_near(got, want[key], 1e-12, key)  # float64 rounding
    with pytest.raises(MergeError):
        reparameterize(model)


def test_one_pair_below_one_is_enough_to_refuse(tiny_cfg: dict[str, Any]) -> None:
    model = detector(tiny_cfg)
    model.model[0].stages[2].pair.negative_slope = 0.5
    assert model.negative_slope == 0.5
    assert not is_merged(model.fuse(verbose=False))


@pytest.mark.parametrize("slope", [0.5, 1.0])
def test_fuse_twice_is_once(tiny_cfg: dict[str, Any], slope: float, warnings_said: list[str]) -> None:
    model = detector(tiny_cfg)
    set_negative_slope(model, slope)
    once = {k: v.clone() for k, v in model.fuse(verbose=False).state_dict().items()}
    said = len(warnings_said)
    twice = model.fuse(verbose=False).state_dict()
    assert once.keys() == twice.keys()
    assert all(torch.equal(v, twice[k]) for k, v in once.items())
    assert len(warnings_said) == said  # nothing left to do, nothing more to say


def test_fuse_of_a_copy_leaves_the_model_trainable(tiny_cfg: dict[str, Any]) -> None:
    # predict, val and export fuse a copy
    model = detector(tiny_cfg)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    copy.deepcopy(model).fuse(verbose=False)
    assert not model.is_fused()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for k, p in model.named_parameters() if "dfl" not in k)


def test_summary_counts_the_merged_network(tiny_cfg: dict[str, Any]) -> None:
    handler = Messages(logging.INFO)
    logger = logging.getLogger("ultralytics")
    logger.addHandler(handler)
    try:
        model = detector(tiny_cfg).fuse(verbose=True, imgsz=64)
    finally:
        logger.removeHandler(handler)
    assert f"{parameters(model):,} parameters" in " ".join(handler.said)


# ---------------------------------------------------------------------------------------------------------------------
# Settings that Ultralytics would lose


def epsilons(model: nn.Module) -> tuple[set[float], set[float]]:
    """Return the eps of the backbone's and of the other batch normalisations."""
    ours = {
        id(bn)
        for block in model.modules()
        if isinstance(block, (DeepPair, SeriesActivation))
        for bn in block.modules()
        if isinstance(bn, nn.BatchNorm2d)
    }
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    return {m.eps for m in norms if id(m) in ours}, {m.eps for m in norms if id(m) not in ours}


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"model": m}, lambda m: {"ema": m, "model": None}])
def test_load_carries_slope_and_eps(wrap: Callable[[nn.Module], Any], tiny_cfg: dict[str, Any]) -> None:
    source, model = detector(tiny_cfg), VanillaDetectionModel(tiny_cfg, nc=4, verbose=False).eval()
    set_negative_slope(source, 0.25)
    for m in vanilla_batchnorms(source):
        m.eps = 1e-4
    model.load(wrap(source), verbose=False)
    assert model.negative_slope == 0.25
    assert epsilons(model) == ({1e-4}, {1e-3})
    images = torch.rand(1, 3, 64, 64)
    want = raw(source, images)
    assert all(torch.equal(got, want[key]) for key, got in raw(model, images).items())


def test_load_into_another_number_of_classes(tiny_cfg: dict[str, Any]) -> None:
    source = detector(tiny_cfg, nc=4)
    set_negative_slope(source, 0.75)
    model = VanillaDetectionModel(tiny_cfg, nc=9, verbose=False)
    model.load(source, verbose=False)
    assert model.negative_slope == 0.75
    assert model.model[-1].nc == 9
    ours, theirs = model.model[0].state_dict(), source.model[0].state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in ours.items())


def test_load_of_a_head_of_stages_into_another_number_of_classes(tiny_cfg: dict[str, Any]) -> None:
    source = detector(tiny_cfg | {"head_stages": {"box": 2, "class": 2, "act_num": 1}}, nc=4)
    model = VanillaDetectionModel(source.yaml, nc=90, verbose=False)
    model.load(source, verbose=False)
    ours, theirs = (m.model[-1].state_dict() for m in (model, source))
    same = [key for key in ours if ours[key].shape == theirs[key].shape]
    assert all(torch.equal(ours[key], theirs[key]) for key in same)
    assert {key.split(".")[2] for key in ours.keys() - set(same)} == {"2"}, "the last convolution of a branch alone"


def test_load_of_a_stock_network_leaves_the_slope(tiny_cfg: dict[str, Any]) -> None:
    model = VanillaDetectionModel(tiny_cfg, verbose=False)
    set_negative_slope(model, 0.5)
    model.load(DetectionModel("yolo11n.yaml", verbose=False), verbose=False)
    assert model.negative_slope == 0.5
    assert epsilons(model) == ({1e-6}, {1e-3})


@pytest.mark.slow
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_keep_slope_and_outputs(
    copied: Callable[[VanillaDetectionModel], VanillaDetectionModel], tiny_cfg: dict[str, Any]
) -> None:
    model = detector(tiny_cfg)
    set_negative_slope(model, 0.3)
    twin, images = copied(model), torch.rand(1, 3, 64, 64)
    assert twin.negative_slope == 0.3
    want = raw(model, images)
    assert all(torch.equal(got, want[key]) for key, got in raw(twin, images).items())


# ---------------------------------------------------------------------------------------------------------------------
# Being a guest in Ultralytics


def test_the_callers_dict_is_not_changed(tiny_cfg: dict[str, Any]) -> None:
    before = copy.deepcopy(tiny_cfg)
    model = VanillaDetectionModel(tiny_cfg, ch=1, nc=7, verbose=False)
    assert tiny_cfg == before
    assert model.yaml["nc"] == 7


def test_nothing_stays_behind_in_ultralytics(tiny_cfg: dict[str, Any], tmp_path: Any) -> None:
    before = dict(vars(ultralytics.nn.tasks))
    VanillaDetectionModel(tiny_cfg, verbose=False)
    broken = copy.deepcopy(tiny_cfg)
    broken["head"][0][2] = "NoSuchModule"
    with pytest.raises(ValueError, match="NoSuchModule"):
        VanillaDetectionModel(broken, verbose=False)
    assert dict(vars(ultralytics.nn.tasks)) == before
    with pytest.raises(ModelNameError, match="VanillaBackbone"):  # a stock network around it would train at slope 1
        DetectionModel(copy.deepcopy(tiny_cfg), verbose=False)


@pytest.mark.parametrize("channels", [1, 4])
def test_image_channels(channels: int, tiny_cfg: dict[str, Any]) -> None:
    model = detector(tiny_cfg, ch=channels)
    assert model.model[0].stem.pair.conv1.in_channels == channels
    assert raw(model, torch.rand(1, channels, 64, 64))["scores"].shape[1] == 4
    model.args = get_cfg()
    assert model.train().loss(batch(channels=channels))[0].isfinite().all()


def test_settings_travel_in_the_yaml(tiny_cfg: dict[str, Any]) -> None:
    tiny_cfg["deep_training"] = {"decay": 0.5, "decay_shape": "cosine"}
    model = VanillaDetectionModel(tiny_cfg, verbose=False)
    assert model.yaml["deep_training"] == tiny_cfg["deep_training"]
    again = VanillaDetectionModel(model.yaml, verbose=False)  # as resume and fine-tuning rebuild it
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_series_activations_begin_as_the_yaml_says(tiny_cfg: dict[str, Any]) -> None:
    centres = {}
    for init in ("noise", "identity"):
        torch.manual_seed(0)
        model = VanillaDetectionModel(tiny_cfg | {"series_init": init}, verbose=False)
        acts = [m for m in model.modules() if isinstance(m, SeriesActivation)]
        centres[init] = [m.conv.weight[:, 0, m.act_num, m.act_num].detach() for m in acts]
        assert model.yaml["series_init"] == init
    assert len(centres["noise"]) > 2
    for noise, identity in zip(centres["noise"], centres["identity"], strict=True):
        torch.testing.assert_close(identity, noise + 1)


def test_pairs_begin_as_the_yaml_says_and_the_rest_of_the_head_as_ultralytics(tiny_cfg: dict[str, Any]) -> None:
    weights = {}
    for init in ("noise", "fan_in"):
        torch.manual_seed(0)
        model = VanillaDetectionModel(tiny_cfg | {"pair_init": init}, verbose=False)
        weights[init] = model.state_dict()
        stem = next(m for m in model.modules() if isinstance(m, DeepPair)).conv1
        wanted = 0.02 if init == "noise" else stem.weight[0].numel() ** -0.5
        # 16 * 48 weights: the standard error of the deviation is 2.6 %
        assert stem.weight.std().item() == pytest.approx(wanted, rel=0.1)
    moved = {key for key, value in weights["noise"].items() if not torch.equal(value, weights["fan_in"][key])}
    assert len(moved) > 4
    assert all("pair.conv" in key for key in moved)


def test_augmented_prediction(tiny_cfg: dict[str, Any]) -> None:
    with torch.no_grad():
        detections, _ = detector(tiny_cfg)(torch.rand(1, 3, 64, 64), augment=True)
    assert detections.shape[1] == 4 + 4
