"""Listening to layers while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import nn

K = TypeVar("K")


@contextmanager
def listening(layers: Iterable[tuple[K, nn.Module]], note: Callable[[K, tuple[Any, ...], Any], None]) -> Iterator[None]:
    """Call ``note`` after each run of a layer meanwhile.

    Args:
        layers: what to call each layer, and the layer.
        note: takes that, the layer's inputs and its output.
    """

    def hook(key: K) -> Callable[..., None]:
        return lambda _, inputs, output: note(key, inputs, output)

    handles = [layer.register_forward_hook(hook(key)) for key, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
