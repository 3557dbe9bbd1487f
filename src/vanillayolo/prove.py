"""Check the record of an exported file again where the file is to run, with numpy and its runtime alone.

``NAME.verify.json`` holds what this takes: the file's SHA-256, its contract, and what it gave, where it was compared
with PyTorch, for pictures that numpy draws. ``python -m vanillayolo.prove best.onnx`` needs no other package.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UsageError, VerificationError, one_line
from .runners import Runtime, open_runtime

#: Version of the keys of a proof and of what they mean; a higher one is refused.
PROOF = 1
AGAIN = "'vanillayolo verify model=FILE reference=CHECKPOINT.pt' writes one, and so does exporting again"


def digest_of(path: Path) -> str:
    """Return the SHA-256, in hexadecimal, of a file, or of all files of a folder one after the other."""
    content = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        content.update(file.read_bytes())
    return content.hexdigest()


def seal_of(record: dict[str, Any]) -> str:
    """Return the SHA-256 of all that a record says but this (``seal``)."""
    said = {key: value for key, value in record.items() if key != "seal"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def drawn(seed: int, shape: Sequence[int]) -> np.ndarray:
    """Return pictures ``[batch, channels, height, width]`` of 0 to 1: twelve discs and boxes on a slope each.

    They are the same everywhere: the bits of PCG64 are those of every version of numpy, and colours are rounded.
    """
    batch, channels, height, width = shape
    bits = np.random.PCG64(seed).random_raw(batch * (12 * (5 + channels) + 2 * channels))
    numbers = iter(((bits >> np.uint64(11)) * 2.0**-53).tolist())
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    pictures = np.empty((batch, channels, height, width))
    for picture in pictures:
        for channel in picture:
            channel[:] = next(numbers) * (1 - x) + next(numbers) * x
        for _ in range(12):
            across = abs(x - next(numbers)) / (0.03 + next(numbers) / 4)
            down = abs(y - next(numbers)) / (0.03 + next(numbers) / 4)
            inside = across**2 + down**2 < 1 if next(numbers) < 0.5 else np.maximum(across, down) < 1
            for channel in picture:
                channel[inside] = next(numbers)
    return (np.rint(pictures * 255) / 255).astype(np.float32)


def outputs_of(name: str, file: Runtime, contract: dict[str, Any], pictures: np.ndarray) -> list[np.ndarray]:
    """Return what a file gives for pictures, in its layout, and as integers where it takes those.

    Raises:
        VerificationError: where it does not run.
    """
    said = contract["input"]
    x = pictures.transpose(0, 2, 3, 1) if said["layout"] == "NHWC" else pictures
    if "scale" in said:
        x = np.clip(np.rint(x / np.float32(said["scale"])) + said["zero_point"], -128, 127)
    try:
        return [np.asarray(y) for y in file.run(np.ascontiguousarray(x, said["type"]))]
    except Exception as error:  # each library raises types of its own
        raise VerificationError(f"{name}: does not run here ({one_line(error)}).") from error


def objects_of(output: np.ndarray) -> np.ndarray:
    """Return the objects of an output ``[images, n, box, score ...]`` with a score, surest first, image in front."""
    images = np.repeat(np.arange(len(output)), output.shape[1])[:, None]
    rows = np.hstack([images, output.reshape(-1, output.shape[2])])
    return rows[np.argsort(-rows[:, 5], kind="stable")][: int((rows[:, 5] > 0).sum())]


def compare(said: dict[str, Any], output: np.ndarray) -> tuple[bool, str]:
    """Return whether a part of an output is as its record says, and its difference in words."""
    allowed = np.array(said["allowed"].split(), float)
    if "same" in said:  # objects: rounding decides their order and, of nearly equal ones, the choice
        found, wanted = objects_of(output), np.array([row.split() for row in said["is"]], float)
        near = (abs(wanted[:, None] - found[None]) <= allowed).all(2).any(1)
        alone = int((~near).sum()) + abs(len(found) - said["count"])
        return alone <= (1 - said["same"]) * 2 * said["count"], f"{alone} of {said['count']} are others"
    differ = abs(output.ravel()[np.array(said["at"].split(), int)].astype(float) - np.array(said["is"].split(), float))
    differ[~np.isfinite(differ)] = np.inf
    worst = int((differ / allowed).argmax())
    return bool(differ[worst] <= allowed[worst]), f"differ by {differ[worst]:.2g} (allowed {allowed[worst]:.2g})"


def compare_outputs(name: str, file: Runtime, proof: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return what a file gives for the pictures of a proof, a line a part, and those lines that are a breach.

    Raises:
        VerificationError: where it does not run, or gives other shapes.
    """
    lines, wrong = [], []
    for probe in proof["probes"]:
        outputs = outputs_of(name, file, proof["contract"], drawn(probe["seed"], probe["shape"]))
        shapes = [list(x.shape) for x in outputs]
        if shapes != probe["gives"]:
            raise VerificationError(f"{name}: gives {shapes} here, {probe['gives']} where it was verified.")
        for said in probe["parts"]:
            good, words = compare(said, outputs[said["output"]])
            lines.append(f"{said['name']} at {'x'.join(map(str, probe['shape'][2:]))} {words}")
            wrong += [] if good else lines[-1:]
    return lines, wrong


def compare_tensors(contract: dict[str, Any], file: Runtime) -> list[str]:
    """Return what names and shapes of a file's tensors are and its contract says otherwise."""
    wrong = []
    for word, said, own in (("input", [contract["input"]], file.inputs), ("output", contract["outputs"], file.outputs)):
        wrong += [f"it has {len(own)} {word}s, its contract {len(said)}"] if own and len(own) != len(said) else []
        for tensor, wanted in zip(own, said, strict=False):
            for key, value in zip(("name", "shape"), tensor, strict=True):
                if None not in (value, wanted.get(key)) and value != wanted[key]:
                    wrong.append(f"the {key} of an {word} is {value}, its contract says {wanted[key]}")
    return wrong


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a file, and what it says that can be checked again (``proof``).

    Raises:
        UsageError: without a record, or with nothing in it to check again.
        VerificationError: for one that was changed, or that says that its file is wrong.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file; give an exported file or folder, beside its record.")
    name = f"{path.name}.verify.json"
    try:
        record: dict[str, Any] = json.loads(path.with_name(name).read_text(encoding="utf-8"))
        verdict, proof, seal = record["verdict"], record.get("proof"), record.get("seal")
    except FileNotFoundError as error:
        raise UsageError(f"{path.name}: no record {name} beside it; {AGAIN}.") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise VerificationError(f"{name}: not a record ({one_line(error)}); {AGAIN}.") from error
    if seal != (seal_of(record) if proof else None):
        raise VerificationError(f"{name}: was changed after it was written; {AGAIN}.")
    if verdict == "not verified":
        raise VerificationError(f"{path.name}: its record says NOT VERIFIED: {'; '.join(record['breaches'])}.")
    if not proof:
        raise UsageError(f"{name}: holds nothing to check again; {AGAIN}.")
    if proof["version"] > PROOF or "reason" in proof:
        reason = proof.get("reason", "written by a later vanillayolo; take that one")
        raise UsageError(f"{name}: {reason}.")
    return record


def check_contract(path: Path, beside: Path, contract: dict[str, Any]) -> None:
    """Raise VerificationError where the file, or the contract beside it, is not the one of its record."""
    if digest_of(path) != contract["sha256"]:
        raise VerificationError(f"{path.name}: not the file that was verified (its SHA-256 is another); {AGAIN}.")
    try:
        said = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else contract
        other = [key for key in contract if said[key] != contract[key]]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise VerificationError(f"{beside}: not its file's contract ({one_line(error)}); remove it.") from error
    if other:
        raise VerificationError(f"{beside}: was changed: its {', '.join(other)} differs from the record's; remove it.")


def prove(model: str | Path) -> str:
    """Check the record of an exported file again; return what was found, in lines.

    Raises:
        UsageError: without a file, a record or a runtime.
        VerificationError: when something is not as the record says.
    """
    path = Path(model)
    record = read_record(path)
    proof, contract = record["proof"], record["proof"]["contract"]
    beside = path.with_name(f"{path.name}.contract.json")
    if (path / "contract.json").is_file():  # a page
        path, beside = path / contract["file"], path / "contract.json"
    check_contract(path, beside, contract)
    file, here = open_runtime(path, contract["format"])
    lines, wrong = compare_outputs(path.name, file, proof)
    if wrong := [*compare_tensors(contract, file), *wrong]:
        raise VerificationError(f"{path.name}: NOT PROVEN with {here}: {'; '.join(wrong)}.")
    if record["doubts"]:
        raise VerificationError(f"{path.name}: as its record says, not proven: {'; '.join(record['doubts'])}.")
    head = f"{path.name}: proven with {here}; verified against {record['reference']} with {proof['on']}"
    return "\n  ".join([head, "file, record and contract belong together", *lines, f"allowed: {proof['why']}"])


def file_of(words: Sequence[str]) -> str:
    """Return the file that the words after the command name.

    Raises:
        UsageError: unless it is one.
    """
    if len(words) != 1:
        raise UsageError("prove: give one exported file: prove best.onnx")
    return words[0].removeprefix("model=")


def main() -> int:
    """Run the command line; return 0, 1 for a failed proof, 2 for a user's mistake, in one line."""
    try:
        print(prove(file_of(sys.argv[1:])))
    except (UsageError, VerificationError) as error:
        print(f"prove: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
