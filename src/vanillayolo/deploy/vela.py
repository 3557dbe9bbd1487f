"""What Arm's compiler for Ethos-U says of an int8 LiteRT file: cycles, memory, and where its operators run."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vanillayolo.errors import UsageError

#: From so many operations on, one operator of the file counts as cut up. Weights and rows that do not fit the chip's
#: memory make a handful.
CUT_UP = 16


@dataclass(frozen=True)
class Layer:
    """What one operator of the file became.

    Attributes:
        name: path of the module that it comes from.
        kind: the compiler's word for the operation.
        where: ``NPU`` or ``CPU``.
        cycles: estimated; 0 on the CPU, for which there is no estimate.
        operations: how many operations of the NPU it became.
    """

    name: str
    kind: str
    where: str
    cycles: float
    operations: int

    @property
    def is_cut_up(self) -> bool:
        """Whether the compiler, which says nothing of it, has made very many operations of one."""
        return self.operations >= CUT_UP


@dataclass(frozen=True)
class Estimate:
    """The compiler's estimate of one image.

    Attributes:
        cycles: of the NPU, waiting for memory included.
        milliseconds: at the clock of ``system``.
        sram, dram, flash: memory used, KiB.
        system: the compiler's memory system, mode and clock, all its own defaults.
        layers: operators of the file, in order.
    """

    cycles: float
    milliseconds: float
    sram: float
    dram: float
    flash: float
    system: str
    layers: list[Layer]

    @property
    def on_cpu(self) -> list[Layer]:
        """Operators left to the CPU."""
        return [layer for layer in self.layers if layer.where != "NPU"]

    @property
    def cut_up(self) -> list[Layer]:
        """Operators cut into very many operations."""
        return [layer for layer in self.layers if layer.is_cut_up]

    def by_kind(self) -> dict[str, float]:
        """Return the cycles of each kind of operation, most first."""
        sums: dict[str, float] = {}
        for layer in self.layers:
            sums[layer.kind] = sums.get(layer.kind, 0.0) + layer.cycles
        return dict(sorted(sums.items(), key=lambda kind: -kind[1]))

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as plain data."""
        return asdict(self) | {"by_kind": self.by_kind()}


def module_path(name: str) -> str:
    """Return the module path in the name that litert-torch gives a tensor.

    ``a.Wrapper/b.Model_wrapped/c.Backbone_0/d.Stage_stem/e.Conv2d_pair;1`` becomes ``0.stem.pair``; another name stays.
    """
    parts = [re.fullmatch(r"[\w.]*\.[A-Za-z0-9]+_(\w+)", part) for part in name.split(";")[0].split("/")]
    return ".".join(part[1] for part in parts if part and part[1] != "wrapped") or name


def read_layers(path: Path) -> list[Layer]:
    """Read the compiler's table of operations and put those of one operator together."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    groups: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        groups.setdefault((row["Name"], row["NNG Operator"], row["Target"]), []).append(float(row["Op Cycles"]))
    return [Layer(module_path(n), kind, where, sum(c), len(c)) for (n, kind, where), c in groups.items()]


def estimate(file: Path, arguments: Sequence[str]) -> Estimate:
    """Compile an int8 LiteRT file and return the estimate.

    Args:
        file: the file.
        arguments: the compiler's, for the chip.

    Raises:
        UsageError: when the compiler refuses the file, in its words.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "ethosu.vela", str(file), "--output-dir", folder, "--verbose-performance"]
        done = subprocess.run([*words, *arguments], capture_output=True, text=True, check=False)
        summaries = list(Path(folder).glob("*_summary_*.csv"))
        if done.returncode or not summaries:
            said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
            raise UsageError(f"{file.stem}: Vela with {' '.join(arguments)} does not compile it: {said}")
        with summaries[0].open(encoding="utf-8", newline="") as opened:
            row = next(csv.DictReader(opened))
        layers = read_layers(next(Path(folder).glob("*_per-layer.csv")))
    return Estimate(
        cycles=float(row["cycles_total"]),
        milliseconds=1e3 * float(row["inference_time"]),
        sram=float(row["sram_memory_used"]),
        dram=float(row["dram_memory_used"]),
        flash=float(row["off_chip_flash_memory_used"]) + float(row["on_chip_flash_memory_used"]),
        system=f"{row['system_config']}, {row['memory_mode']}, {float(row['core_clock']) / 1e6:g} MHz",
        layers=layers,
    )
