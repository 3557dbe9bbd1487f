"""The rows of the paper's table 1: widths and strides of VanillaNet-5 to -13."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One row of the paper's table: widths of the stem and of each stage, strides of the stages.

    ``act_num`` and ``pool_first`` are arguments of :class:`VanillaNet`, the paper's own unless a row says another.
    """

    dims: tuple[int, ...]
    strides: tuple[int, ...]
    adaptive_pool: bool = False
    act_num: int | tuple[int, ...] = 3
    pool_first: bool = False

    def scaled(self, width: float) -> tuple[int, ...]:
        """Return the widths times ``width``, each a multiple of 8 and at least 8."""
        return tuple(max(8, round(d * width / 8) * 8) for d in self.dims)


def _deep(depth: int, unit: int = 512, adaptive_pool: bool = False) -> Variant:
    """Return variant 8 to 13: ``depth`` stages of 4 units between the two halvings."""
    dims = (unit, unit, 2 * unit, *(4 * unit,) * depth, 8 * unit, 8 * unit)
    return Variant(dims, (1, 2, 2, *(1,) * (depth - 1), 2, 1), adaptive_pool)


VARIANTS: dict[str, Variant] = {
    "5": Variant((512, 1024, 2048, 4096), (2, 2, 2)),
    "6": Variant((512, 1024, 2048, 4096, 4096), (2, 2, 2, 1)),
    "7": _deep(1),
    "8": _deep(2),
    "9": _deep(3),
    "10": _deep(4),
    "11": _deep(5),
    "12": _deep(6),
    "13": _deep(7),
    "13_x1_5": _deep(7, unit=768),
    "13_x1_5_ada_pool": _deep(7, unit=768, adaptive_pool=True),
}
