"""From a trained checkpoint to the network that ships: merged, in stock classes, with the proof beside it."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from vanillayolo.atomic import whole_set, write_whole
from vanillayolo.errors import CheckpointError, MergeError, UsageError, one_line
from vanillayolo.nn import is_merged
from vanillayolo.places import check_file
from vanillayolo.valid_json import digest, json_text
from vanillayolo.values import checked, shown
from vanillayolo.yolo import VanillaModel
from vanillayolo.yolo.arguments import fitting_imgsz
from vanillayolo.yolo.inference import checkpoint, raw_outputs, read_image
from vanillayolo.yolo.merging import MergingMixin, student
from vanillayolo.yolo.opened import Opened, choose_branches, open_checkpoint
from vanillayolo.yolo.outputs import Outputs
from vanillayolo.yolo.pictures import channels_of, network_input
from vanillayolo.yolo.stock import build_stock, to_stock
from vanillayolo.yolo.tasks import ONE_TO_ONE, TASKS
from vanillayolo.yolo.yaml_check import check_yaml

from .description import FORMAT, check_description, check_weights_file
from .equality import Equality, LogitEquality
from .power import FAULTS, NO_BOX, OUTPUTS, REMEDY, Power, doubts, measure_power

#: float32 weights against float64: a dozen layers of rounding at 6e-8 each stay well below this.
TOLERANCE = 1e-4


@dataclass
class Collapsed:
    """What a collapse wrote.

    Attributes:
        checkpoint: the stock checkpoint.
        weights: the same weights without pickle; None where nothing was done.
        description: JSON from which, with ``weights``, the network is rebuilt.
        equality: the record against the float64 training form; None where nothing was done.
        parameters: before and after.
        power: the faults that the comparison would have seen; None where nothing was done.
    """

    checkpoint: Path
    weights: Path | None = None
    description: Path | None = None
    equality: Equality | LogitEquality | None = None
    parameters: tuple[int, int] = (0, 0)
    power: Power | None = None

    @property
    def doubts(self) -> list[str]:
        """Why the comparison proves nothing, one line each."""
        empty = isinstance(self.equality, Equality) and not self.equality.boxes
        return [*([NO_BOX] if empty else []), *doubts(self.power, FAULTS[0], OUTPUTS)]


def compare_networks(
    reference: nn.Module, other: nn.Module, images: list[Path], imgsz: int, task: str = "detect"
) -> Equality | LogitEquality:
    """Compare two networks of a task on images, each in its own precision."""
    equality: Equality | LogitEquality = Equality() if TASKS[task].finds_boxes else LogitEquality()
    for path in images:
        x = network_input(task, read_image(path, channels_of(other)), imgsz)
        a, b = (raw_outputs(m, x.to(next(m.parameters()).dtype)) for m in (reference, other))
        equality.add(a, b)
    return equality


def equality_power(network: nn.Module, images: list[Path], imgsz: int, task: str) -> Power:
    """Return the faults that :func:`compare_networks` would have seen on the image with the highest score."""
    inputs = [network_input(task, read_image(path, channels_of(network)), imgsz) for path in images]
    best = max(inputs, key=lambda x: float(raw_outputs(network, x).scores.max()))

    def judge(wanted: Outputs, changed: Outputs) -> bool:
        record = Equality() if TASKS[task].finds_boxes else LogitEquality()
        (record.add if isinstance(record, LogitEquality) else record.add_outputs)(wanted, changed)
        return not record.worst.relative <= TOLERANCE

    return measure_power(network, best, judge)


@checked
def collapse(
    model: Opened | VanillaModel | str | Path,
    path: str | Path | None = None,
    source: str | Path | None = None,
    data: str | None = None,
    imgsz: int | None = None,
    nms: bool | None = None,
) -> Collapsed:
    """Write ``NAME-collapsed.pt`` (stock classes only), ``.safetensors`` and ``.json`` of a trained network.

    Args:
        model: a trained detector or classifier, or its checkpoint.
        path: where the checkpoint goes; beside the one given, with ``-collapsed``, by default.
        source: image or folder for the equality record.
        data: data YAML (a classifier: folder) whose validation images serve instead; the training's own by default.
        imgsz: image size of the comparison, pixels; the training's own by default.
        nms: False keeps, of YOLO26's two sets of branches, the one that needs no suppression; else the other is kept.

    Raises:
        MergeError: when a slope is below 1, the network has no stock form, or the result is not equal.
        CheckpointError: when the file is missing or damaged.
    """
    opened = open_checkpoint(model, "collapse takes a checkpoint (.pt)")
    network, task, origin = student(opened.network), opened.task, opened.origin
    target = _target(path or origin.with_name(f"{origin.stem}-collapsed.pt"))
    if not getattr(network, "collapses", True):
        raise MergeError(f"{origin}: a backbone of timm's does not collapse; export it (vanillayolo export).")
    if is_merged(network) and not isinstance(network, MergingMixin):
        return _already_collapsed(origin, Path(path) if path else None)
    opened.check_whole()
    reference, merged = _two_forms(network, end2end=nms is False)
    stock = to_stock(merged)
    stock.args = {}  # the training's arguments hold paths of the machine it ran on
    size = imgsz or opened.imgsz or TASKS[task].imgsz
    size = fitting_imgsz(size) if TASKS[task].finds_boxes else size
    images, where = opened.images(opened.checked_data(data) if data else None, source)
    before, after = (sum(p.numel() for p in m.parameters()) for m in (network, merged))
    record = {"format": FORMAT, "parameters": {"training": before, "merged": after}}
    with whole_set(target) as stage:
        kept = {key: opened.train_args[key] for key in ("quantize",) if opened.train_args.get(key)}
        args = {"task": task, "imgsz": size, **kept}
        torch.save(checkpoint(stock, {"vanillayolo": record}, args), stage / target.name)
        reopened = torch.load(stage / target.name, map_location="cpu", weights_only=False)["model"]
        equality = compare_networks(reference, reopened.float().eval(), images, int(size), task)
        if not equality.worst.relative <= TOLERANCE:
            raise MergeError(f"{origin}: the merged network differs ({equality}); nothing written. Please report this.")
        power = equality_power(reopened, images, int(size), task)
        record |= {"equality": {**equality.to_dict(), "source": where, "imgsz": size, "power": asdict(power)}}
        _without_pickle(stock, record, task, stage / target.name)
    return Collapsed(target, *_beside(target), equality, (before, after), power)


def _two_forms(network: Any, end2end: bool) -> tuple[Any, Any]:
    """Return copies of a network with one set of branches: its training form in float64, and merged in float32."""
    forms = copy.deepcopy(network).double().eval(), copy.deepcopy(network).float().eval()
    for form in forms:
        choose_branches(form, end2end)
    return forms[0], forms[1].fuse(verbose=False)


def _target(path: str | Path) -> Path:
    """Return where a checkpoint goes, after asking whether it can."""
    if Path(path).suffix != ".pt":
        raise UsageError(f"path={shown(str(path))}: give a name that ends in .pt; .safetensors and .json go beside it.")
    check_file("path", path)
    return Path(path)


def _beside(target: Path) -> tuple[Path, Path]:
    """Return where the weights without pickle go, and their description."""
    return target.with_suffix(".safetensors"), target.with_suffix(".json")


def _without_pickle(stock: Any, record: dict[str, Any], task: str, target: Path) -> None:
    """Write, beside ``target``, the weights and the description from which :func:`load_collapsed` rebuilds."""
    channels = channels_of(stock)
    taken = {3: "RGB"}.get(channels, f"{channels} channels")
    words = {
        "input": f"float32 {taken} [batch, {channels}, height, width] in 0..1, {TASKS[task].taken}",
        "output": ONE_TO_ONE if getattr(stock, "end2end", False) else TASKS[task].gives,
    }
    description = {
        **record,
        "yaml": stock.yaml,
        "names": {int(k): str(v) for k, v in stock.names.items()},
        "stride": [float(s) for s in stock.stride],
        **words,
    }
    weights, text = _beside(target)
    weights.write_bytes(save({k: v.contiguous().clone() for k, v in stock.state_dict().items()}, {"format": "pt"}))
    description["sha256"] = digest(weights, description)
    text.write_text(json_text(description), encoding="utf-8")


def _already_collapsed(origin: Path, target: Path | None) -> Collapsed:
    """Copy a merged checkpoint as it is, or leave it where it is."""
    if target is None or target.resolve() == origin.resolve():
        return Collapsed(origin)
    return Collapsed(write_whole(target, origin.read_bytes()))


def load_collapsed(path: str | Path) -> nn.Module:
    """Rebuild a collapsed network from its ``.safetensors`` and ``.json`` files, without pickle.

    Args:
        path: either of the two files.

    Returns:
        A stock Ultralytics model in evaluation mode.

    Raises:
        CheckpointError: when one of them is missing or damaged, they do not belong together, or the description holds
            what is not in :mod:`vanillayolo.deploy.description`.
    """
    weights, text = _beside(Path(path))
    try:
        description = check_description(json.loads(text.read_text(encoding="utf-8")))
        names = {int(k): v for k, v in description["names"].items()}
        cfg = check_yaml(description["yaml"], str(text), stock=True)
        check_weights_file(weights, description)
        return build_stock(cfg, load_file(weights), names)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be rebuilt ({one_line(error)}).") from error


def summary(result: Collapsed) -> str:
    """Return what a collapse did, in three lines; where nothing is proven, in four."""
    if result.equality is None:
        return f"{result.checkpoint}: already collapsed, nothing changed"
    before, after = result.parameters
    doubt = f"not proven: {'; '.join(result.doubts)}; {REMEDY}\n" if result.doubts else ""
    return (
        f"{result.checkpoint}: {before:,} parameters merged to {after:,}\n{doubt}"
        f"{'compared with' if doubt else 'equal to'} the float64 training form on {result.equality}\n{result.power}"
    )
