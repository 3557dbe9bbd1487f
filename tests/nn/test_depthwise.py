"""The fast weight gradient of depthwise convolutions against torch's own in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from vanillayolo.nn.depthwise import PIECE, STRIP, depthwise_conv2d, strips, weight_gradient

few = settings(max_examples=25, deadline=None)
layouts = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def torchs(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=[k // 2 for k in weight.shape[2:]], groups=weight.shape[0])


def run(conv: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
    """Return the output and both gradients."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = conv(x, weight)
    y.backward(grad)
    assert x.grad is not None
    assert weight.grad is not None
    return [y.detach(), x.grad, weight.grad]


def sample(*shape: int, kernel: tuple[int, int] = (7, 7)) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    x, grad = torch.randn(2, *shape, generator=generator)
    return x, torch.randn(shape[1], 1, *kernel, generator=generator), grad


@given(taps=st.integers(0, 12).map(lambda n: 2 * n + 1))
@few
def test_strips_cover_every_column_once(taps: int) -> None:
    ranges = strips(taps)
    assert [i for start, stop in ranges for i in range(start, stop)] == list(range(taps))
    assert all(stop - start <= STRIP for start, stop in ranges)
    if taps >= STRIP:
        assert (taps // 2 - 1, taps // 2 + 2) in ranges  # the centred one needs no copy of the map


@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 40),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    rows=st.integers(0, 5),
    columns=st.integers(0, 5),
    last=st.booleans(),
)
@example(batch=1, channels=4, height=1, width=1, rows=3, columns=3, last=False)  # strips wholly beyond the map
@few
def test_gradients_are_torchs(
    assert_near: Callable[..., None],
    batch: int,
    channels: int,
    height: int,
    width: int,
    rows: int,
    columns: int,
    last: bool,
) -> None:
    x, weight, grad = sample(batch, channels, height, width, kernel=(2 * rows + 1, 2 * columns + 1))
    want = run(torchs, x.double(), weight.double(), grad.double())
    if last:
        x, grad = (t.contiguous(memory_format=torch.channels_last) for t in (x, grad))
    for got, expected, what in zip(run(depthwise_conv2d, x, weight, grad), want, ("y", "dx", "dw"), strict=True):
        assert_near(got.double(), expected, 1e-5, what)  # float32 sums against float64


@layouts
@pytest.mark.parametrize("kernel", [3, 7, 9])
def test_maps_of_many_pieces(
    assert_near: Callable[..., None], layout: torch.memory_format, kernel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one image at a time and 32 of the 80 channels, the last block smaller
    x, weight, grad = sample(3, 80, 24, 20, kernel=(kernel, kernel))
    want = run(torchs, x.double(), weight.double(), grad.double())[2]
    x, grad = (t.contiguous(memory_format=layout) for t in (x, grad))
    for piece in (24 * 20 * 33, 24 * 20 * 80 * 2, PIECE):
        monkeypatch.setattr("vanillayolo.nn.depthwise.PIECE", piece)
        got = weight_gradient(x, grad, (kernel, kernel))
        assert_near(got.double(), want, 1e-5, f"piece {piece}")
        assert torch.equal(got, weight_gradient(x, grad, (kernel, kernel)))  # bit for bit


@layouts
def test_bfloat16_sums_in_float32(assert_near: Callable[..., None], layout: torch.memory_format) -> None:
    x, _, grad = (t.bfloat16().contiguous(memory_format=layout) for t in sample(2, 16, 40, 40))
    want = torch.ops.aten.convolution_backward(
        *(t.double() for t in (grad, x)), torch.zeros(16, 1, 7, 7).double(), None, [1, 1], [3, 3], [1, 1], False,
        [0, 0], 16, [False, True, False],
    )[1]  # fmt: skip
    got = weight_gradient(x, grad, (7, 7))
    assert got.dtype == torch.float32
    assert_near(got.double(), want, 1e-5)  # products of bfloat16 are exact in float32


def test_float64_gradcheck() -> None:
    x, weight, _ = (t.double().requires_grad_() for t in sample(1, 2, 4, 5, kernel=(5, 5)))
    assert torch.autograd.gradcheck(depthwise_conv2d, (x, weight))


def test_autocast(assert_near: Callable[..., None]) -> None:
    x, weight, grad = sample(2, 16, 12, 12)
    want = run(torchs, x, weight, grad)
    with torch.autocast("cpu", torch.bfloat16):
        got = run(depthwise_conv2d, x, weight, grad.bfloat16())
    assert got[0].dtype == torch.bfloat16
    assert [t.dtype for t in got[1:]] == [torch.float32] * 2
    for ours, expected in zip(got, want, strict=True):
        assert_near(ours.float(), expected, 2e-2)  # 8 bits of mantissa, 49 products and as many roundings


def test_only_what_is_needed() -> None:
    x, weight, _ = sample(1, 4, 6, 6)
    frozen = weight.clone().requires_grad_(False)
    x.requires_grad_()
    depthwise_conv2d(x, frozen).sum().backward()
    assert x.grad is not None
    assert frozen.grad is None


def test_gradients_of_gradients_are_refused() -> None:
    x, weight, _ = (t.requires_grad_() for t in sample(1, 4, 6, 6))
    (gradient,) = torch.autograd.grad(depthwise_conv2d(x, weight).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


def test_tensors_without_data() -> None:
    y = run(depthwise_conv2d, *(t.to("meta") for t in sample(2, 8, 6, 6)))
    assert [t.device.type for t in y] == ["meta"] * 3
    with FakeTensorMode():
        x, weight, grad = torch.empty(2, 8, 6, 6), torch.empty(8, 1, 7, 7), torch.empty(2, 8, 6, 6)
        assert [t.shape for t in run(depthwise_conv2d, x, weight, grad)] == [x.shape, x.shape, weight.shape]


@pytest.mark.slow
def test_compiles_into_one_graph(assert_near: Callable[..., None]) -> None:
    x, weight, grad = sample(2, 8, 10, 10)
    compiled = torch.compile(depthwise_conv2d, backend="aot_eager", fullgraph=True)
    for got, want in zip(run(compiled, x, weight, grad), run(depthwise_conv2d, x, weight, grad), strict=True):
        assert_near(got, want, 1e-6)  # the same operators
