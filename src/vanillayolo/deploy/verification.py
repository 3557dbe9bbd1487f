"""What an exported file was found to compute: differences, boxes and mAP, and what of them is allowed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vanillayolo.atomic import write_whole
from vanillayolo.errors import VerificationError
from vanillayolo.prove import seal_of
from vanillayolo.valid_json import json_text

from .equality import Equality
from .operating import OperatingPoint
from .power import FAULTS, NO_BOX, OUTPUTS, REMEDY, Power, doubts


@dataclass(frozen=True)
class Tolerance:
    """What may differ.

    Attributes:
        raw: largest difference of an output, as a share of its largest magnitude; None: not asked.
        boxes: share of the boxes of each side that the other has to find too.
        iou: overlap from which a box is found.
        score: difference of its scores up to which it is.
        map: by how much mAP50-95 may be lower.
        reason: why.
        fault: the proof counts where this fault (:data:`vanillayolo.deploy.power.FAULTS`), or a smaller one,
        share: would be seen in so many of the layers.
    """

    raw: float | None
    boxes: float
    iou: float
    score: float
    map: float
    reason: str
    fault: str
    share: float


#: Share of the layers in which boxes alone have to show a layer at 0: those of one level of the head stand on a third.
BOXES_ALONE = 0.25
#: By precision of the file.
TOLERANCES = {
    "float32": Tolerance(
        1e-4,
        0.95,
        0.98,
        0.001,
        0.002,
        "the same sums in another order: some 60 layers of roundings of 6e-8; suppression decides near-ties by them",
        FAULTS[0],
        OUTPUTS,
    ),
    "float16": Tolerance(
        0.03,
        0.9,
        0.8,
        0.05,
        0.005,
        "11 bits: 5e-4 a rounding, and box sides are sums over 16 bins times the stride",
        FAULTS[2],
        OUTPUTS,
    ),
    "int8": Tolerance(
        None,
        0.75,
        0.7,
        0.25,
        0.01,
        "8 bits: single outputs move by design; boxes and mAP have to stay",
        FAULTS[2],
        BOXES_ALONE,
    ),
}
#: Differences below this are none: libraries approximate the sigmoid of a score to some 1e-7, however small the score.
ROUNDING = 1e-6


@dataclass
class MeanAveragePrecision:
    """mAP of the file and of PyTorch on the same squares.

    Attributes:
        data: data YAML.
        split: its split.
        imgsz: side of the squares, pixels.
        file: mAP50-95 and mAP50 of the file.
        reference: those of PyTorch.
    """

    data: str
    split: str
    imgsz: int
    file: tuple[float, float]
    reference: tuple[float, float]


@dataclass
class Verification:
    """What a file was found to compute.

    Attributes:
        file: its name.
        reference: name of the checkpoint.
        format: Ultralytics' word for its format.
        precision: ``float32``, ``float16`` or ``int8``.
        suppressed: whether suppression is inside the file: then it has final boxes only.
        source: where the images are from.
        conf: score from which boxes are compared.
        records: differences by size of the input (``640x640``, height first).
        map: with data only.
        note: what could not be compared, and why.
        said: what the file says of itself and is not so, one line each.
        power: the faults that this comparison would have seen; None where none was planted.
        operating: of an int8 file, how its scores lie; None where too few boxes say so.
        target: the chip that the file is for; empty for none.
        rewrites: exact changes of the network that went into it.
        proof: what ``vanillayolo prove`` checks again on another machine; empty where nothing was kept.
    """

    file: str
    reference: str
    format: str
    precision: str
    suppressed: bool
    source: str
    conf: float = 0.25
    records: dict[str, Equality] = field(default_factory=dict)
    map: MeanAveragePrecision | None = None
    note: str = ""
    said: list[str] = field(default_factory=list)
    power: Power | None = None
    operating: OperatingPoint | None = None
    target: str = ""
    rewrites: list[str] = field(default_factory=list)
    proof: dict[str, Any] = field(default_factory=dict)

    @property
    def tolerance(self) -> Tolerance:
        """What this file may differ by."""
        allowed = TOLERANCES[self.precision]
        return replace(allowed, fault=FAULTS[2], share=BOXES_ALONE) if self.suppressed else allowed

    @property
    def breaches(self) -> list[str]:
        """What is wrong of what the file says, then what is out of tolerance, worst output first, one line each."""
        allowed, found = self.tolerance, list(self.said)
        raw = [] if allowed.raw is None else list(self.records.items())
        worst = [
            (output, size)
            for size, record in raw
            for output in record.outputs
            if output.relative > (allowed.raw or 0) and output.absolute > ROUNDING
        ]
        for output, size in sorted(worst, key=lambda pair: -pair[0].relative):
            found.append(
                f"{output.name} at {size} differ by {output.absolute:.3g} "
                f"({output.relative:.2e} relative, allowed {allowed.raw:g})"
            )
        for size, record in self.records.items():
            missed = record.boxes - record.matched + record.extra
            if not math.isfinite(record.worst.relative):
                found.append(f"{record.worst.name} at {size} are not finite")
            if missed > (1 - allowed.boxes) * (record.boxes + record.matched + record.extra) + 1e-9:
                found.append(
                    f"boxes at {size}: {record.matched} of {record.boxes} found, {record.extra} too many "
                    f"(allowed: {allowed.boxes:.0%} the same)"
                )
            for value, said in ((record.masks, "masks at {} overlap by"), (record.points, "key points at {} agree to")):
                if value is not None and not value >= allowed.iou:
                    found.append(f"{said.format(size)} {value:.4f} (allowed: {allowed.iou:g})")
        if self.map and not self.map.reference[0] - self.map.file[0] <= allowed.map:  # NaN is a breach
            found.append(
                f"mAP50-95 {self.map.file[0]:.4f}, PyTorch {self.map.reference[0]:.4f} (allowed {allowed.map:g} less)"
            )
        return found

    @property
    def doubts(self) -> list[str]:
        """Why this comparison proves nothing although nothing is out of tolerance, one line each."""
        boxes = any(r.boxes + r.extra for r in self.records.values()) or bool(self.map and self.map.reference[0] > 0)
        return [*([] if boxes else [NO_BOX]), *doubts(self.power, self.tolerance.fault, self.tolerance.share)]

    @property
    def verified(self) -> bool:
        """Whether everything is within tolerance, and would not be in a wrong file."""
        return not self.breaches and not self.doubts

    @property
    def verdict(self) -> str:
        """``verified``, or in capitals that the file is wrong, or that nothing is proven; with the reasons."""
        if breaches := self.breaches:
            return "NOT VERIFIED: " + "; ".join(breaches)
        return f"not proven: {'; '.join(self.doubts)}; {REMEDY}" if self.doubts else "verified"

    def check(self, proven: bool = False) -> None:
        """Raise VerificationError, naming what is worst, unless everything is within tolerance.

        Args:
            proven: raise where nothing is proven too.
        """
        if breaches := self.breaches:
            raise VerificationError(f"{self.file}: not what {self.reference} computes: {'; '.join(breaches)}.")
        if proven and self.doubts:
            raise VerificationError(f"{self.file}: {self.verdict}.")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**asdict(self), "tolerance": asdict(self.tolerance), **self.judgement()}

    def judgement(self) -> dict[str, Any]:
        """Return the verdict in a word, and what it stands on."""
        word = "not verified" if self.breaches else "not proven" if self.doubts else "verified"
        return {"verdict": word, "breaches": self.breaches, "doubts": self.doubts}

    @staticmethod
    def record_of(path: Path) -> Path:
        """Return where the record of a file stands: ``NAME.verify.json`` beside it."""
        return path.with_name(f"{path.name}.verify.json")

    def save(self, path: Path) -> Path:
        """Write the record of a file and return its path; one that holds a proof is sealed."""
        record = json.loads(json_text(self.to_dict()))
        seal = {"seal": seal_of(record)} if self.proof else {}
        return write_whole(self.record_of(path), json_text(record | seal))

    def __str__(self) -> str:
        """Return a table."""
        allowed = self.tolerance
        rows = [("input", "output", "absolute", "relative", "allowed")]
        for size, record in self.records.items() if not self.suppressed else ():
            limit = "-" if allowed.raw is None else f"{allowed.raw:.0e}"
            rows += [(size, d.name, f"{d.absolute:.2e}", f"{d.relative:.2e}", limit) for d in record.outputs]
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = ["  " + "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
        lines = lines if len(rows) > 1 else []
        for size, record in self.records.items():
            lines.append(
                f"  boxes at {size} with a score of {self.conf:.3g}: {record.matched}/{record.boxes} found, "
                f"{'; '.join([f'{record.extra} more, in {record.images} images ({self.source})', *record.alike])}"
            )
        if self.map:
            lines.append(
                f"  mAP50-95 {self.map.file[0]:.4f}, PyTorch {self.map.reference[0]:.4f}; "
                f"mAP50 {self.map.file[1]:.4f}, PyTorch {self.map.reference[1]:.4f} "
                f"({Path(self.map.data).name}, {self.map.split}, squares of {self.map.imgsz} px)"
            )
        lines += [f"  {self.note}"] if self.note else []
        lines += [f"  {self.operating}"] if self.operating else []
        lines += [f"  {self.power}"] if self.power else []
        head = f"{self.file} ({self.format}, {self.precision}) against {self.reference}: {self.verdict}"
        return "\n".join([head, *lines])
