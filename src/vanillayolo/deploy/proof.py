"""What ``vanillayolo prove`` checks again: what a verified file gives for pictures that numpy draws from a seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vanillayolo.prove import PROOF, drawn, objects_of, outputs_of
from vanillayolo.runners import RUNTIMES, open_runtime

from .verification import ROUNDING, Verification

#: Rows whose peaks are kept, and places that are drawn, of each part of an output; objects that are kept, at most.
PEAKS, PLACES, OBJECTS = 100, 64, 32
#: Seeds that are tried for a picture to which the file answers; more where it finds no object in any.
SEEDS, MORE_SEEDS = 8, 64
#: By precision: what may differ, as a share of the largest magnitude of a row, and why.
SHARES = {
    "float32": (1e-4, "1e-4 of a row's largest magnitude: the same sums in another order"),
    "float16": (0.03, "0.03 of a row's largest magnitude: 11 bits, 5e-4 a rounding"),
    "int8": (0.1, "0.1 of a row's largest magnitude: 8 bits, where other kernels were seen to move it by 0.03"),
}


def add_proof(result: Verification, path: Path, contract: dict[str, Any] | None) -> None:
    """Let the record of a file that is not wrong hold what proves it on another machine, or why nothing does.

    Args:
        result: the record.
        path: the file.
        contract: what it takes and gives; None where it does not say.
    """
    if result.breaches:
        return
    result.proof = {"version": PROOF}
    if contract is None or result.format not in RUNTIMES:
        lacks = (
            "a file that does not say its classes, stride and size is" if contract is None else f"{result.format} is"
        )
        result.proof["reason"] = f"{lacks} compared by 'vanillayolo verify' alone"
        return
    file, here = open_runtime(path, result.format)
    said = contract["input"]
    batch, channels = said["shape"][0] or 2, said["shape"][3 if said["layout"] == "NHWC" else 1]
    shapes = [[batch, channels, *map(int, size.split("x"))] for size in result.records]

    def gives(seed: int, shape: list[int]) -> list[np.ndarray]:
        return outputs_of(result.file, file, contract, drawn(seed, shape))

    answers = {seed: liveliness(contract, gives(seed, shapes[0])) for seed in range(SEEDS)}
    for seed in range(SEEDS, MORE_SEEDS):
        if any(answers.values()):
            break
        answers[seed] = liveliness(contract, gives(seed, shapes[0]))
    seed = max(answers, key=lambda seed: answers[seed])
    if not answers[seed]:
        result.proof["reason"] = (
            "the file finds nothing in pictures that numpy draws; 'vanillayolo verify' takes real ones"
        )
        return
    share, why = SHARES[result.precision]
    probes = []
    for shape in shapes:
        outputs = gives(seed, shape)
        kept = [part for i, x in enumerate(outputs) for part in parts_of(contract, i, x, share, result.tolerance.boxes)]
        probes.append({"seed": seed, "shape": shape, "gives": [list(x.shape) for x in outputs], "parts": kept})
    result.proof |= {"on": here, "why": why, "contract": contract, "probes": probes}


def rows_of(contract: dict[str, Any], number: int, output: np.ndarray) -> dict[str, np.ndarray]:
    """Return the places ``[rows, values]``, in the flat output, of its parts by name."""
    said = contract["outputs"][number]
    holds, last = said["holds"], isinstance(said["holds"], str)  # maps of integers have their channels last
    places = np.moveaxis(np.arange(output.size).reshape(output.shape), -1 if last else 1, 0)
    rows = places.reshape(len(places), -1)
    if last:
        return {f"{holds} of stride {said['stride']}": rows}
    if said["axes"] != ["image", "value", "anchor"]:
        return {holds[0]: rows}
    end = 4 + len(contract["names"])
    found = {"boxes": rows[:4], "scores": rows[4:end], " and ".join(holds[5:]): rows[end:]}
    return {name: part for name, part in found.items() if len(part)}


def has_objects(contract: dict[str, Any], number: int) -> bool:
    """Return whether an output is the objects that the file chose."""
    return contract["outputs"][number].get("axes") == ["image", "box", "value"]


def liveliness(contract: dict[str, Any], outputs: list[np.ndarray]) -> float:
    """Return how much a file answers: the squares of its scores; of probabilities, how far it is from being sure."""
    total = 0.0
    for number, output in enumerate(outputs):
        if has_objects(contract, number):
            total += float((objects_of(output)[:, 5] ** 2).sum())
            continue
        for name, rows in rows_of(contract, number, output).items():
            scores = output.ravel()[rows].astype(np.float64)
            if scale := contract["outputs"][number].get("scale"):
                scores = 1 / (1 + np.exp(-scale * (scores - contract["outputs"][number]["zero_point"])))
            if name.startswith(("scores", "probability")):
                total += float((scores**2).sum() if name[0] == "s" else 1 / (scores**2).sum())
    return total


def parts_of(
    contract: dict[str, Any], number: int, output: np.ndarray, share: float, same: float
) -> Iterator[dict[str, Any]]:
    """Yield what a record keeps of an output: of each part its rows' peaks and some places; or the surest objects.

    Args:
        contract: of its file.
        number: which output.
        output: what the file gave.
        share: what may differ, as a share of the largest magnitude of a row, and of a tenth of its part's at least.
        same: share of objects that have to be the same.
    """
    if has_objects(contract, number):
        found = objects_of(output)
        kept, scale = found[:OBJECTS], abs(found).max(0)
        allowed = share * np.array([0, *[scale[1:5].max()] * 4, 1, 0, *[scale[7:].max(initial=0)] * len(scale[7:])])
        said = {"is": [numbers(row) for row in kept], "allowed": numbers(np.maximum(allowed, ROUNDING), 2)}
        yield {"name": "objects", "output": number, "count": len(found), "same": same, **said}
        return
    step = 1.0 if np.issubdtype(output.dtype, np.integer) else ROUNDING
    for name, rows in rows_of(contract, number, output).items():
        values = output.ravel()[rows].astype(np.float64)
        heights = abs(values).max(1)
        allowed = np.maximum(share * np.maximum(heights, heights.max() / 10), step)
        peaks = (np.arange(len(rows)) * rows.shape[1] + abs(values).argmax(1))[np.argsort(-heights, kind="stable")]
        some = (np.random.PCG64(rows.size).random_raw(PLACES) % np.uint64(rows.size)).astype(np.int64)
        at = np.unique(np.concatenate([peaks[:PEAKS], some]))
        said = {"is": numbers(values.ravel()[at]), "allowed": numbers(allowed[at // rows.shape[1]], 2)}
        yield {"name": name, "output": number, "at": " ".join(map(str, rows.ravel()[at])), **said}


def numbers(values: Iterable[float], digits: int = 9) -> str:
    """Return numbers in one text, which is one line of a JSON file; nine digits are all that float32 has."""
    return " ".join(f"{float(value):.{digits}g}" for value in values)
