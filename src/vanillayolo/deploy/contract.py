"""``NAME.contract.json`` beside every exported file: what a program that runs it without this package has to know."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vanillayolo.atomic import write_whole
from vanillayolo.environment import __version__
from vanillayolo.prove import digest_of
from vanillayolo.valid_json import json_text, read_json
from vanillayolo.yolo.files import CONTRACT, ExportedFile, Suppression, contract_file, metadata_of
from vanillayolo.yolo.tasks import TASKS

from .formats import FORMATS, PIXELS, Format
from .verification import Verification

PICTURE = {"colour": "RGB", "divide_by": 255, "interpolation": "bilinear"}
#: How a picture becomes an input: of a classifier, of all others.
CROP: dict[str, Any] = {"fit": "resize the shorter side, crop the centre", **PICTURE}
LETTERBOX: dict[str, Any] = {"fit": "letterbox", "margin": 114, "centred": True, **PICTURE}
CENTRED = ["centre x", "centre y", "width", "height"]
#: What an object has behind its box and scores, by task.
MORE = {
    "segment": ["coefficients of the mask's prototypes, which are the second output"],
    "pose": ["x, y and, where key_points ends in 3, visibility of each key point"],
    "obb": ["angle in radians"],
}
#: How int8 maps become boxes and scores.
DECODE = {
    "number": "scale * (integer - zero_point)",
    "boxes": "channels: left, top, right, bottom, each of so many bins; the mean of 0 .. bins - 1, weighted by the "
    "softmax of a side's bins, times stride is its distance from the cell's centre, (column + 0.5, row + 0.5) * stride",
    "scores": "1 / (1 + exp(-number))",
}


def contract_of(path: Path, name: str, format: str, task: str, proof: Verification | None = None) -> dict[str, Any]:
    """Return what a file takes and gives, as what it says of itself has it; sides that are not fixed are None.

    Args:
        path: the file, as Ultralytics' exporter or a writer of ours made it.
        name: its name when it stands in its place.
        format: its format.
        task: what it is for.
        proof: what it was found to compute.
    """
    said, row = metadata_of(path) or ExportedFile(path).metadata, FORMATS[format]  # MNN alone opens its own
    dynamic = bool(said.get("dynamic"))
    batch, height, width = (None, None, None) if dynamic else (int(said.get("batch", 1)), *said["imgsz"])
    channels, names = int(said.get("channels", 3)), {int(key): str(value) for key, value in said["names"].items()}
    last = "decode" in said and format == "litert"  # of our own writer
    maps = json.loads(said["maps"]) if isinstance(said.get("maps"), str) else said.get("maps")  # ONNX keeps texts alone
    shape = [batch, height, width, channels] if last else [batch, channels, height, width]
    given = {"name": row.input, "shape": shape, "layout": "NHWC" if last else "NCHW", "type": "float32"}
    contract: dict[str, Any] = {
        "contract": CONTRACT,
        "vanillayolo": __version__,
        "file": name,
        "sha256": digest_of(path),
        "format": format,
        "task": task,
        "input": {**given, "range": [0, 1], "stride": int(said["stride"]), **said.get("input", {})},
        "preprocessing": LETTERBOX if TASKS[task].finds_boxes else CROP,
        "outputs": maps or _outputs(said, row, task),
        "names": names,
    }
    if "kpt_shape" in said:
        contract["key_points"] = list(said["kpt_shape"])  # their number, and 2 or 3 for x, y and visibility
    if said.get("decode") == "outside":
        contract["decode"] = {"bins": int(said["bins"]), **DECODE}
        if not last:
            del contract["decode"]["number"]  # floats
    if TASKS[task].finds_boxes:
        inside = bool(said.get("end2end"))
        own = said.get("args") or {} if inside else {}
        values = {k: v if own.get(k) is None else own[k] for k, v in asdict(Suppression()).items()}
        if inside and not own.get("nms"):  # one-to-one branches: nothing is suppressed
            values |= {"iou": None, "agnostic_nms": None}
        if proof and proof.operating and not inside:
            values["conf"] = proof.operating.conf
        contract["suppression"] = {"inside": inside, **values}
    return contract


def _outputs(said: dict[str, Any], row: Format, task: str) -> list[dict[str, Any]]:
    """Return what the outputs of a file with decode hold; those after the first are numbered on."""
    first: dict[str, Any] = {"axes": ["image", "class"], "holds": ["probability"]}
    more = MORE.get(task, [])
    if said.get("end2end"):
        box = CENTRED if task == "obb" else ["x1", "y1", "x2", "y2"]
        holds = [*box, "score", "class", *more]
        first = {"axes": ["image", "box", "value"], "holds": holds, "unit": PIXELS}
    elif TASKS[task].finds_boxes:
        holds = [*CENTRED, "score of each class", *more]
        first = {"axes": ["image", "value", "anchor"], "holds": holds, "unit": row.unit}
    outputs: list[dict[str, Any]] = [{"name": row.output, "type": "float32", **first}]
    for number, name in enumerate(TASKS[task].maps, start=1):
        own = row.output and row.output.replace("0", str(number))
        axes = ["image", "number", "row", "column"]
        outputs.append({"name": own, "type": "float32", "axes": axes, "holds": [name]})
    return outputs


def write_contract(path: Path, contract: dict[str, Any]) -> Path:
    """Write the contract of a file and return its path."""
    return write_whole(contract_file(path), json_text(contract))


def known_contract(path: Path, format: str, task: str) -> dict[str, Any] | None:
    """Return the contract beside a file where it is the file's own, else what the file itself tells, if enough."""
    try:
        said: dict[str, Any] = read_json(contract_file(path))
        if said["sha256"] == digest_of(path) and said["contract"] == CONTRACT:
            return said
    except (OSError, ValueError, LookupError, TypeError):
        pass
    try:
        return contract_of(path, path.name, format, task)
    except LookupError:  # of another exporter
        return None
