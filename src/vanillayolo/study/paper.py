"""The paper's ablations as data: ImageNet top-1 accuracy in per cent, VanillaNet-6 unless said otherwise.

Paper: arXiv 2305.12972, tables 1 to 3. The figures are from memory of these tables and were not checked again against
the text, which every rendering of them says.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "arXiv 2305.12972, ImageNet-1k, VanillaNet-6; recalled, not checked again"


@dataclass(frozen=True)
class PaperTable:
    """One of the paper's tables.

    Attributes:
        title: what is varied.
        table: the paper's number of it.
        top1: top-1 accuracy in per cent by configuration (a key of ``vanillayolo.study.ablate.CONFIGS``).
    """

    title: str
    table: int
    top1: dict[str, float]


PAPER = (
    PaperTable(
        "series number n",
        1,
        {"n0": 60.53, "n1": 74.53, "n2": 75.62, "n3": 76.36, "n4": 76.43},
    ),
    PaperTable(
        "deep training and series activation",
        2,
        {"shallow-n0": 59.58, "n0": 60.53, "shallow-n3": 75.23, "n3": 76.36},
    ),
    PaperTable(
        "shortcut",
        3,
        {"n3": 76.36, "n3-shortcut-before": 75.92, "n3-shortcut-after": 75.72},
    ),
)
