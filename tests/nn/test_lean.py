"""Lean training is the textbook's training: gradients, statistics and loss, with a fraction of what is kept."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_cases import Golden
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vanillayolo.errors import UsageError
from vanillayolo.nn import Stage, make_stage, randomize_batchnorm, set_lean, set_negative_slope
from vanillayolo.nn.layers import HalvingMaxPool2d
from vanillayolo.nn.lean import is_standard
from vanillayolo.nn.reparameterize import join_pairs

few = settings(max_examples=20, deadline=None)


def stage(
    cin: int = 6,
    cout: int = 9,
    stride: int = 2,
    n: int = 3,
    slope: float | None = 0.3,
    ada: bool = False,
    first: bool = False,
) -> Any:
    """Return a stage in training with random weights, some of the normalisations' negative, in float64.

    A slope of None: joined.
    """
    generator = torch.Generator().manual_seed(0)
    block = randomize_batchnorm(make_stage(cin, cout, stride, n, adaptive_pool=ada, pool_first=first)).double()
    with torch.no_grad():
        for m in block.modules():
            if isinstance(m, nn.Conv2d):
                m.weight.copy_(torch.randn(m.weight.shape, generator=generator) * m.weight[0].numel() ** -0.5)
                if m.bias is not None:
                    m.bias.copy_(torch.randn(m.bias.shape, generator=generator) * 0.1)
            elif isinstance(m, nn.BatchNorm2d):
                m.weight[::3] *= -1
    set_negative_slope(block, 1.0 if slope is None else slope)
    set_lean(block, "auto")
    return (join_pairs(block) if slope is None else block).train()


def image(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def step(block: nn.Module, x: Tensor, times: int = 1) -> dict[str, Tensor]:
    """Return output, gradients and state after training on ``x``."""
    x = x.detach().requires_grad_()
    weight = torch.randn(1, generator=torch.Generator().manual_seed(2)).to(x)
    for _ in range(times):
        y = block(x)
        (y * torch.linspace(-1, 1, y.numel()).to(y).view_as(y) + weight * y.square()).sum().backward()
    assert x.grad is not None
    grads = {f"grad {k}": p.grad for k, p in block.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "grad x": x.grad, **grads, **block.state_dict()}


def check(block: Any, x: Tensor, share: float, times: int = 1) -> None:
    """Assert that training ``block`` is, lean or not, the same in float64.

    What a later normalisation takes away again (biases before it; at slope 1 the first normalisation's bias) has
    gradient 0 and rounding noise of the size of the others, so all gradients are held to the largest one's scale.
    """
    plain = copy.deepcopy(block)
    set_lean(plain, "off")
    want, got = step(plain, x, times), step(block, x, times)
    assert got.keys() == want.keys()
    scale = {kind: max(float(v.abs().max()) for k, v in want.items() if (k[:4] == "grad") == kind) for kind in (0, 1)}
    for key, value in want.items():
        assert float((got[key] - value).abs().max()) <= share * scale[key[:4] == "grad"], key


@given(
    cin=st.integers(1, 8),
    cout=st.integers(1, 9),
    stride=st.sampled_from([1, 2]),
    n=st.integers(0, 4),
    slope=st.sampled_from([0.0, 0.25, 1.0, None]),
    height=st.integers(4, 11),
    width=st.integers(4, 11),
    ada=st.booleans(),
    first=st.booleans(),
    last=st.booleans(),
)
@few
def test_a_stage_trains_as_the_plain_one(
    cin: int,
    cout: int,
    stride: int,
    n: int,
    slope: float | None,
    height: int,
    width: int,
    ada: bool,
    first: bool,
    last: bool,
) -> None:
    x = image(2, cin, height, width)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    # float64: rounding alone, times the condition of three normalisations over few pixels
    check(stage(cin, cout, stride, n, slope, ada, first), x, 1e-8)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, None])
def test_float32_is_as_precise_as_the_plain_one(layout: torch.memory_format, slope: float | None) -> None:
    x = image(4, 6, 24, 24)
    exact = step(stage(slope=slope), x)
    x = x.float().contiguous(memory_format=layout)
    plain = stage(slope=slope).float()
    set_lean(plain, "off")

    def error(result: dict[str, Tensor], keys: Callable[[str], bool]) -> float:
        pairs = [(result[k].double().flatten(), v.flatten()) for k, v in exact.items() if keys(k)]
        got, want = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
        return float((got - want).norm() / want.norm())

    lean = step(stage(slope=slope).float(), x)
    for keys in (lambda k: k.startswith("grad"), lambda k: "running" in k, lambda k: k == "y"):
        assert error(lean, keys) < 1e-5
        # other orders of summation; over so few sums either may have luck
        assert error(lean, keys) < 10 * error(step(copy.deepcopy(plain), x), keys)


@pytest.mark.parametrize("stem", [False, True])
def test_a_joined_stage_is_one_node(stem: bool) -> None:
    block = stage(slope=None)
    if stem:
        block.pair.conv1 = nn.Conv2d(6, 9, 4, 4).double()
    assert is_standard(block)
    assert type(block(image(2, 6, 8, 8)).grad_fn).__name__ == "_LeanStageBackward"
    check(block, image(2, 6, 16, 12), 1e-8)


def test_golden_networks_train_as_the_plain_ones(golden: Golden) -> None:
    for slope in (0.0, 0.5, 1.0):
        net = golden.network(slope).double().train()
        x = golden.tensors["input"].double()
        check(net, x, 1e-8)  # float64, condition of a whole network


def test_steps_add_up() -> None:
    check(stage(), image(2, 6, 8, 8), 1e-8, times=3)  # gradients accumulate, statistics move three times


@pytest.mark.parametrize("momentum", [0.03, 0.5, None])
def test_statistics_move_once(momentum: float | None) -> None:
    block = stage()
    for m in block.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = momentum
    check(block, image(2, 6, 8, 8), 1e-8, times=2)
    assert int(block.act.norm.num_batches_tracked) == 2


def frozen_norms(block: Stage) -> None:
    for m in block.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()


def frozen_first(block: Any) -> None:
    block.pair.norm1.eval()
    block.pair.conv1.requires_grad_(False)
    block.act.conv.requires_grad_(False)


def frozen_but_norms(block: Stage) -> None:
    for m in block.modules():
        if isinstance(m, nn.Conv2d):
            m.requires_grad_(False)


@pytest.mark.parametrize("slope", [0.3, None])
@pytest.mark.parametrize("change", [frozen_norms, frozen_first, frozen_but_norms])
def test_parts_may_be_frozen(change: Callable[[Any], None], slope: float | None) -> None:
    block = stage(slope=slope)
    change(block)
    check(block, image(2, 6, 8, 8), 1e-8)


def test_retained_graphs_run_again() -> None:
    block, x = stage(), image(2, 6, 8, 8)
    loss = block(x).square().sum()
    loss.backward(retain_graph=True)
    first = block.pair.conv1.weight.grad.clone()
    loss.backward()
    assert torch.equal(block.pair.conv1.weight.grad, 2 * first)  # the second computation gives the same bits


def test_hooks_are_called_and_change_nothing() -> None:
    for name in ("pair.conv1", "pair", "act.norm", "pool", "act.conv"):
        block, calls = stage(), []
        block.get_submodule(name).register_forward_hook(lambda *_, c=calls: c.append(1))
        assert not is_standard(block)
        check(block, image(2, 6, 8, 8), 1e-8)
        assert calls == [1, 1], name  # once in the plain copy, once in the lean one
    block = stage()
    block.register_forward_hook(lambda *_: None)
    assert is_standard(block)  # hooks on the stage itself are heard anyway


def test_other_layers_are_run_as_they_are() -> None:
    block = stage()
    block.pair.norm1 = nn.SyncBatchNorm(6)
    assert not is_standard(block)
    block = stage()
    nn.utils.parametrizations.weight_norm(block.pair.conv1)
    assert not is_standard(block)
    step(block, image(2, 6, 8, 8))


def test_checkpoint_where_the_operators_do_not_reach() -> None:
    # a subclass of Tensor takes torch's own checkpoint
    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.as_subclass(nn.Parameter)) if set_apart else self.inner(x)

    set_apart = True
    check(Wrapped(stage()), image(2, 6, 8, 8), 1e-8, times=2)


def test_tensors_without_data() -> None:
    block = stage(4, 8).float().to("meta")
    y = block(torch.empty(2, 4, 8, 8, device="meta", requires_grad=True))
    y.sum().backward()
    assert y.shape == (2, 8, 4, 4)
    assert block.pair.conv1.weight.grad.shape == (4, 4, 1, 1)
    with FakeTensorMode():
        block = make_stage(4, 8, 2, 3).train()
        set_lean(block, "auto")
        assert block(torch.empty(2, 4, 8, 8)).shape == (2, 8, 4, 4)


def test_autocast() -> None:
    x = image(4, 6, 16, 16, dtype=torch.float32)

    def run(net: nn.Module, bfloat16: bool = True) -> dict[str, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            y = net(x.contiguous(memory_format=torch.channels_last))
        assert y.dtype == (torch.bfloat16 if bfloat16 else torch.float32)
        (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()  # outside of autocast, as is usual
        return {k: p.grad for k, p in net.named_parameters() if p.grad is not None}

    plain = stage().float()
    set_lean(plain, "off")
    exact, want, got = run(stage().float(), False), run(plain), run(stage().float())
    assert all(torch.equal(v, got[k]) for k, v in run(stage().float()).items())  # reproducible bit for bit
    for key, value in got.items():
        assert value.dtype == torch.float32
        if not key.endswith(("conv1.bias", "conv2.bias")):
            # bfloat16 has 8 bits; both round, at other places: no further from the truth than torch's autograd
            error, usual = (float((g[key] - exact[key]).norm() / exact[key].norm()) for g in (got, want))
            assert error < max(2 * usual, 0.02), key


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda block: pickle.loads(pickle.dumps(block))])
def test_copies_keep_the_mode(copied: Callable[[Any], Any]) -> None:
    block = stage()
    assert copied(block).lean == "auto"
    set_lean(block, "max")
    assert copied(block).lean == "max"
    assert not any("lean" in key for key in block.state_dict())


def test_evaluation_is_untouched() -> None:
    block, x = stage().eval(), image(2, 6, 8, 8)
    assert torch.equal(block(x), block.plain(x))
    before = block.act.norm.running_mean.clone()
    with torch.no_grad():
        block.train()(x)  # no gradient wanted: as ever
    assert not torch.equal(block.act.norm.running_mean, before)


@pytest.mark.slow
def test_compiled() -> None:
    block, x = stage(), image(2, 6, 8, 8)
    want = step(copy.deepcopy(block), x)
    got = step(torch.compile(block, backend="eager"), x)
    got = {key.replace("_orig_mod.", ""): value for key, value in got.items()}
    assert all(torch.equal(got[key], value) for key, value in want.items())


def test_several_processes(tmp_path: Path) -> None:
    # one process stands for many: DistributedDataParallel hooks every parameter's gradient
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        block, x = stage(), image(2, 6, 8, 8)
        want = step(copy.deepcopy(block), x, times=2)
        got = step(nn.parallel.DistributedDataParallel(block), x, times=2)
    finally:
        torch.distributed.destroy_process_group()
    got = {key.replace("module.", ""): value for key, value in got.items()}
    assert all(torch.equal(got[key], value) for key, value in want.items())


TWO_PROCESSES = """
import sys, torch
from torch import nn
from vanillayolo.nn import make_stage, randomize_batchnorm, set_lean, set_negative_slope
rank, store, mode, out = int(sys.argv[1]), *sys.argv[2:]
torch.set_num_threads(1)
torch.manual_seed(0)
block = randomize_batchnorm(make_stage(4, 6, 2, 1)).double().train()
set_negative_slope(block, 0.3)
set_lean(block, mode)
x = torch.randn(2, 4, 4, 8, 8, dtype=torch.float64)  # two steps of four images, two for each process
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
model = nn.parallel.DistributedDataParallel(block, find_unused_parameters=True)  # as Ultralytics wraps it
for images in x:
    model(images[2 * rank : 2 * rank + 2]).square().sum().backward()
if rank == 0:
    torch.save([p.grad for p in block.parameters()], out)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_agree_on_the_gradients(tmp_path: Path) -> None:
    gradients = {}
    for mode in ("off", "auto"):
        out = tmp_path / f"{mode}.pt"
        words = [sys.executable, "-c", TWO_PROCESSES]
        ranks = [subprocess.Popen([*words, str(r), str(tmp_path / f"store-{mode}"), mode, str(out)]) for r in (0, 1)]
        assert [process.wait(timeout=200) for process in ranks] == [0, 0]
        gradients[mode] = torch.load(out)
    scale = max(float(g.abs().max()) for g in gradients["off"])
    for got, want in zip(gradients["auto"], gradients["off"], strict=True):
        assert float((got - want).abs().max()) <= 1e-8 * scale  # float64; biases before a normalisation: noise or 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler, g++")
def test_compiled_by_inductor(assert_near: Callable[..., None]) -> None:
    x = image(2, 6, 12, 12, dtype=torch.float32)
    net = nn.Sequential(nn.Conv2d(6, 6, 1), stage().float(), nn.Conv2d(9, 4, 1), nn.ReLU()).train()
    want = step(copy.deepcopy(net), x)
    got = {key.replace("_orig_mod.", ""): value for key, value in step(torch.compile(net), x).items()}
    for key, value in want.items():
        if not key.endswith(("conv1.bias", "conv2.bias")):  # 0 but for rounding
            assert_near(got[key], value, 1e-4, key)


def test_one_value_per_channel_is_refused_as_by_torch() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        stage()(image(1, 6, 1, 1))


def test_gradients_of_gradients_are_refused() -> None:
    x = image(2, 6, 8, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(stage()(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


def test_modes() -> None:
    block = stage()
    with pytest.raises(UsageError, match="off, auto, max"):
        set_lean(block, "lots")
    assert isinstance(stage(ada=True).pool, HalvingMaxPool2d)


# ---------------------------------------------------------------------------------------------------------------------
# The detector


@pytest.fixture
def detectors(tiny_cfg: dict[str, Any]) -> Callable[[str], tuple[Any, Any]]:
    """``detectors(mode)``: a detector in that mode and the textbook's, of the same weights, in float32."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    from textbook import textbook_model
    from ultralytics.utils import DEFAULT_CFG

    from vanillayolo.yolo import VanillaDetectionModel

    def make(mode: str) -> tuple[Any, Any]:
        torch.manual_seed(0)
        model: Any = VanillaDetectionModel(tiny_cfg, verbose=False).train()
        model.args, model.bfloat16 = DEFAULT_CFG, False
        for name, p in model.model[0].named_parameters():
            if "conv" in name and p.dim() == 4:
                p.data.normal_(0, p[0].numel() ** -0.5)
        randomize_batchnorm(model.model[0])
        set_negative_slope(model, 0.4)
        set_lean(model, mode)
        return model, textbook_model(model).train()

    return make


def trained(model: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    model.zero_grad()
    loss, _ = model.loss(batch)
    loss.sum().backward()
    grads = {f"grad {k}": p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **grads, **model.state_dict()}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["off", "auto", "max"])
def test_detector_trains_as_the_textbooks(detectors: Any, assert_near: Callable[..., None], mode: str) -> None:
    from vanillayolo.yolo.memory import sample_batch

    ours, textbook = (m.double() for m in detectors(mode))
    batch = sample_batch(96, 2, boxes=2)
    batch["img"] = batch["img"].double()
    got, want = trained(ours, batch), trained(textbook, batch)
    assert got.keys() == want.keys()
    largest = max(float(v.abs().max()) for k, v in want.items() if k.startswith("grad"))
    for key, value in want.items():
        if value.is_floating_point() and float((got[key] - value).abs().max()) > 1e-9 * largest:
            assert_near(got[key], value, 1e-5, key)  # the loss itself computes in float32
    assert all(torch.equal(got[k], v) for k, v in want.items() if not v.is_floating_point())


def test_bfloat16_is_a_choice_and_leaves_float32_behind(detectors: Any, assert_near: Callable[..., None]) -> None:
    from vanillayolo.yolo.memory import sample_batch

    batch = sample_batch(96, 2)
    want = trained(detectors("auto")[0], batch)
    model = detectors("auto")[0]
    model.bfloat16 = True
    got = trained(model, batch)
    assert_near(got["loss"], want["loss"], 0.05)  # 8 bits of mantissa
    assert not torch.equal(got["loss"], want["loss"])
    assert all(v.dtype == want[k].dtype for k, v in got.items())
    model.double()
    trained(model, {**batch, "img": batch["img"].double()})  # other types are left alone


@pytest.mark.slow
def test_what_is_kept(detectors: Any) -> None:
    from vanillayolo.yolo.memory import activation_bytes, sample_batch, saved_bytes

    kept = {}
    for mode in ("off", "auto", "max"):
        model, textbook = detectors(mode)
        batch = sample_batch(160, 2)
        kept[mode] = saved_bytes(model, lambda m=model, b=batch: m.loss(b))
        # the prediction extrapolates from small images; allocations are exact but for a few constants
        assert activation_bytes(model, 160, 2) == pytest.approx(kept[mode], rel=0.02)
        assert activation_bytes(model, 150, 2) == activation_bytes(model, 160, 2)
        if mode == "off":
            assert saved_bytes(textbook, lambda t=textbook, b=batch: t.loss(b)) >= kept["off"]
    assert kept["max"] < kept["auto"] < kept["off"]


@pytest.mark.slow
def test_the_published_model_keeps_less_than_200_mb_per_image() -> None:
    from vanillayolo.yolo import VanillaDetectionModel
    from vanillayolo.yolo.memory import activation_bytes

    model: Any = VanillaDetectionModel("yolo11n-vanillanet-5-paper", verbose=False)
    assert activation_bytes(model, 640, 2) / 2e6 < 120  # as it comes, in float32
    model.bfloat16 = True
    assert activation_bytes(model, 640, 2) / 2e6 < 70
    set_lean(model, "auto")
    assert activation_bytes(model, 640, 2) / 2e6 < 200
