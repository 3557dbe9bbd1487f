"""Opening an exported file, feeding it, and what it says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vanillayolo.errors import CheckpointError, UsageError, VerificationError, one_line
from vanillayolo.values import shown
from vanillayolo.yolo.arguments import check_imgsz, fitting_imgsz
from vanillayolo.yolo.files import ExportedFile
from vanillayolo.yolo.outputs import Outputs

from .formats import check_packages, format_of


def open_file(path: Path) -> ExportedFile:
    """Open an exported file for running.

    Raises:
        UsageError: for a checkpoint, or when its library is not installed.
        CheckpointError: when the file is damaged.
    """
    format = format_of(path)
    check_packages(format, run_only=True)
    try:
        return ExportedFile(path)
    except Exception as error:  # each library raises types of its own for a damaged file
        raise CheckpointError(f"{path}: cannot be opened as {format} ({one_line(error)}); export it again.") from error


def input_sizes(file: ExportedFile, imgsz: Any, name: str) -> list[tuple[int, int]]:
    """Return the sizes to compare at: the file's own; another, not square, where it takes any."""
    if imgsz is not None:
        check_imgsz(imgsz)
        imgsz = fitting_imgsz(imgsz) if file.dynamic else imgsz
        size = (imgsz, imgsz) if isinstance(imgsz, int) else (imgsz[0], imgsz[-1])
        if file.imgsz is not None and not file.dynamic and size != file.imgsz:
            raise UsageError(f"imgsz={imgsz}: {name} was made for {file.imgsz[0]}x{file.imgsz[1]} pixels only.")
    elif file.imgsz is None:
        raise UsageError(f"{name} does not say its size; give imgsz=.")
    else:
        size = file.imgsz
    if not file.dynamic:
        return [size]
    return [size, (max(32, size[0] * 3 // 4 // 32 * 32), max(32, size[1] // 2 // 32 * 32))]


def wrongly_said(file: ExportedFile, network: Any, task: str) -> list[str]:
    """Return what a file says to those who run it and its checkpoint does not, three lines at most."""
    right = facts(task, int(max(network.stride)), network.names)
    said = facts(*(file.metadata.get(key) for key in ("task", "stride", "names")))
    told = {key.split()[0] for key in said}  # another's file may say less
    wrong = [key for key in {**right, **said} if key.split()[0] in told and said.get(key) != right.get(key)]
    return [f"it says {key} {shown(said.get(key))}, not {shown(right.get(key))}" for key in wrong[:3]]


def facts(task: Any, stride: Any, names: Any) -> dict[str, Any]:
    """Return what of these is known, the names of classes one by one, whether they come as a list or a mapping."""
    classes = names.items() if isinstance(names, dict) else enumerate(names or ())
    known = {"task": task, "stride": stride, **{f"class {number}": str(name) for number, name in classes}}
    return {key: value for key, value in known.items() if value is not None}


def same_shapes(expected: Outputs, found: list[Tensor], name: str) -> Outputs:
    """Return what a file gives under the names that its reference's outputs have.

    Raises:
        VerificationError: when it gives others.
    """
    wanted, got = ([list(x.shape) for x in tensors] for tensors in ((expected.raw, *expected.maps), found))
    if wanted != got:
        texts = [", ".join(map(str, shapes)) for shapes in (got, wanted)]
        raise VerificationError(f"{name}: output {texts[0]}, not {texts[1]} as its reference has.")
    return expected.like(found)


def batches(inputs: list[Tensor], size: int) -> list[Tensor]:
    """Return inputs ``[1, ...]`` in batches of a size, in their order; the last is filled up with the first ones."""
    rows = [inputs[i % len(inputs)] for i in range(-(-len(inputs) // size) * size)]
    return [torch.cat(rows[i : i + size]) for i in range(0, len(rows), size)]
