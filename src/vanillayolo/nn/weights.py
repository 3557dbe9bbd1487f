"""Weights from outside: the authors' checkpoints, in training and in merged form, and safetensors.

Key names of https://github.com/huawei-noah/VanillaNet (MIT), both as its training script saves them and after its
merge. Only tensors are read: no pickled object is ever run.
"""

from __future__ import annotations

import copy
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vanillayolo.atomic import write_whole
from vanillayolo.errors import CheckpointError, one_line
from vanillayolo.places import check_file
from vanillayolo.values import checked

from .reparameterize import join_pairs

#: (pattern of the authors' key, our key). The authors' series activation owns its weight, ours its convolution.
TRAINING_KEYS = [
    (r"stem1\.0\.", "stem.pair.conv1."),
    (r"stem1\.1\.", "stem.pair.norm1."),
    (r"stem2\.0\.", "stem.pair.conv2."),
    (r"stem2\.1\.", "stem.pair.norm2."),
    (r"stem2\.2\.weight", "stem.act.conv.weight"),
    (r"stem2\.2\.bn\.", "stem.act.norm."),
    (r"stages\.(\d+)\.conv1\.0\.", r"stages.\1.pair.conv1."),
    (r"stages\.(\d+)\.conv1\.1\.", r"stages.\1.pair.norm1."),
    (r"stages\.(\d+)\.conv2\.0\.", r"stages.\1.pair.conv2."),
    (r"stages\.(\d+)\.conv2\.1\.", r"stages.\1.pair.norm2."),
    (r"stages\.(\d+)\.act\.weight", r"stages.\1.act.conv.weight"),
    (r"stages\.(\d+)\.act\.bn\.", r"stages.\1.act.norm."),
    (r"cls1\.2\.", "head.pair.conv1."),
    (r"cls1\.3\.", "head.pair.norm1."),
    (r"cls2\.0\.", "head.pair.conv2."),
]
MERGED_KEYS = [
    (r"stem\.0\.", "stem.pair."),
    (r"stem\.1\.", "stem.act.1."),
    (r"stages\.(\d+)\.conv\.", r"stages.\1.pair."),
    (r"stages\.(\d+)\.act\.", r"stages.\1.act.1."),
    (r"cls\.2\.", "head.pair."),
]
CLASSIFIER = "head."
#: What a file may hold at most, packed and unpacked: the largest official one, in float64, is 1.5 GB with some 200
#: tensors.
MAX_BYTES = 4 * 1024**3
MAX_TENSORS = 20_000


@dataclass
class LoadReport:
    """What became of every key: names are the network's own, but for ``unexpected``, which are the file's.

    Attributes:
        loaded: keys copied.
        missing: keys of the network that the file has not.
        unexpected: keys of the file that the network has not.
        shape: keys of both with another shape, as ``key: file shape, network shape``.
        form: ``training``, ``joined`` or ``merged``, as in :class:`WeightsForm`.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    shape: list[str] = field(default_factory=list)
    form: str = "training"

    def __str__(self) -> str:
        """Return the report in one line."""
        counts = ", ".join(f"{len(getattr(self, n))} {n}" for n in ("loaded", "missing", "unexpected", "shape"))
        return f"weights in {self.form} form: {counts}"


def is_merged_form(state: Mapping[str, Tensor]) -> bool:
    """Return whether the authors' keys are those of a merged network."""
    return any(re.match(r"stem\.0\.", key) for key in state)


def form_of(ours: Mapping[str, Tensor]) -> str:
    """Return the form of a VanillaNet whose keys are ours: ``training``, ``joined`` or ``merged``."""
    if "stem.pair.weight" in ours:
        return "merged"
    return "joined" if "stem.pair.conv1.weight" in ours and "stem.pair.conv2.weight" not in ours else "training"


def translate_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' state dict under our names; names that are already ours, or unknown, stay."""
    table = MERGED_KEYS if is_merged_form(state) else TRAINING_KEYS
    renamed = {}
    for key, value in state.items():
        for pattern, ours in table:
            new, found = re.subn(rf"^{pattern}", ours, key)
            if found:
                key = new
                break
        renamed[key] = value
    return renamed


def checkpoint_filter_fn(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Prepare weights for timm's own loading: the authors' names translated, a classifier of another size left out.

    timm leaves out the weights and biases of such a classifier itself, but not its running statistics.
    """
    own = model.state_dict()
    return {
        key: value
        for key, value in translate_keys(state).items()
        if not (key.startswith(CLASSIFIER) and "running_" in key and key in own and own[key].shape != value.shape)
    }


def check_bytes(path: Path, size: int, when: str = "") -> None:
    """Raise CheckpointError for a file of more bytes than are read."""
    if size > MAX_BYTES:
        raise CheckpointError(
            f"{path}: {size:,} bytes{when}, at most {MAX_BYTES:,} are read; give weights of a VanillaNet."
        )


def unpacked_size(path: Path) -> int:
    """Return what a zip archive unpacks to, bytes; torch writes them uncompressed, but reads those that are not."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return 0  # no archive, or a damaged one: for the reader to tell


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a file of tensors: safetensors, or a torch file (only tensors are taken, nothing in it is run).

    Raises:
        CheckpointError: when the file is missing, damaged, far too large or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file; give a .pth, .pt or .safetensors file.")
    check_bytes(path, path.stat().st_size)
    check_bytes(path, unpacked_size(path), " when unpacked")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file surfaces as any of a dozen error types
        raise CheckpointError(
            f"{path}: not a readable weights file ({one_line(error, 120)}); fetch or save it again."
        ) from error
    for key in ("model_ema", "model", "state_dict"):  # the authors save their averaged weights under the first
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    entries = state.items() if isinstance(state, Mapping) else ()  # a torch file may hold anything
    tensors = {str(k).removeprefix("module."): v for k, v in entries if isinstance(v, Tensor)}
    if odd := next((k for k, v in tensors.items() if v.layout != torch.strided or v.is_meta), None):
        raise CheckpointError(f"{path}: {odd[:80]} is sparse or has no values; save it as a dense tensor.")
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors; give VanillaNet weights (keys like stages.0.conv1.0.weight).")
    if len(tensors) > MAX_TENSORS:
        raise CheckpointError(
            f"{path}: {len(tensors):,} tensors, at most {MAX_TENSORS:,}; give weights of a VanillaNet."
        )
    # A tensor that repeats one number by a stride of 0 is small until it is copied.
    check_bytes(path, sum(value.numel() * value.element_size() for value in tensors.values()), " when unpacked")
    return tensors


@dataclass(frozen=True)
class WeightsForm:
    """What the weights themselves say of their network.

    Attributes:
        form: ``training``, ``joined`` (one convolution in place of each pair, to be trained on) or ``merged``.
        dims: widths of the stem and of every stage.
        act_num: the paper's n, from the kernel of the series activations.
        num_classes: classes of the classifier; 0 without one.
    """

    form: str
    dims: tuple[int, ...]
    act_num: int
    num_classes: int


def describe_weights(state: Mapping[str, Tensor]) -> WeightsForm:
    """Return what the weights of a VanillaNet, under the authors' key names or ours, say of their network.

    Raises:
        CheckpointError: when they are of another network.
    """
    ours = translate_keys(state)
    form = form_of(ours)
    act, pair = {
        "training": ("act.conv.weight", "pair.conv2.weight"),
        "joined": ("act.conv.weight", "pair.conv1.weight"),
        "merged": ("act.1.weight", "pair.weight"),
    }[form]
    blocks = ["stem", *(f"stages.{i}" for i in range(len(ours)) if f"stages.{i}.{act}" in ours)]
    if any(f"{block}.{act}" not in ours or ours[f"{block}.{act}"].dim() != 4 for block in blocks):
        first = next(iter(state), "none")
        raise CheckpointError(
            f"not the weights of a VanillaNet (first key: {first}); give a file whose keys are like stem1.0.weight or "
            "stem.0.weight"
        )
    head = ours.get(f"{CLASSIFIER}{pair}")
    return WeightsForm(
        form=form,
        dims=tuple(int(ours[f"{block}.{act}"].shape[0]) for block in blocks),
        act_num=(int(ours[f"stem.{act}"].shape[-1]) - 1) // 2,
        num_classes=0 if head is None else int(head.shape[0]),
    )


@checked
def convert_weights(source: str | Path, target: str | Path | None = None) -> tuple[Path, WeightsForm]:
    """Write a weights file as safetensors, under our key names; return its path and what it holds.

    Args:
        source: the authors' file (or one of ours).
        target: ``SOURCE.safetensors`` where not given.

    Raises:
        CheckpointError: when the source is no VanillaNet, or the target exists or has another suffix.
    """
    from safetensors.torch import save

    source = Path(source)
    target = source.with_suffix(".safetensors") if target is None else Path(target)
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target}: give a name that ends in .safetensors.")
    if target.exists():
        raise CheckpointError(f"{target}: exists; give another name (path=...) or remove it.")
    check_file("path", target)
    state = read_tensors(source)
    try:
        form = describe_weights(state)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from None
    tensors = {key: value.detach().contiguous().clone() for key, value in translate_keys(state).items()}
    metadata = {"format": "pt", "form": form.form, "act_num": str(form.act_num), "num_classes": str(form.num_classes)}
    return write_whole(target, save(tensors, metadata)), form


def load_official_weights(net: nn.Module, source: str | Path | Mapping[str, Tensor], strict: bool = True) -> LoadReport:
    """Load the authors' weights, or ours, into a VanillaNet of the same form (which joined weights join first).

    The classifier is loaded where it fits and left alone where it does not (another number of classes, or none).

    Args:
        net: a VanillaNet; built with ``merged=True`` for merged weights.
        source: a file or a state dict, under the authors' key names or ours.
        strict: refuse, before anything is copied, when a key outside the classifier is missing, unexpected or of
            another shape.

    Raises:
        CheckpointError: when nothing fits, or, if strict, not everything does.
    """
    state = dict(source) if isinstance(source, Mapping) else read_tensors(source)
    theirs = translate_keys(state)
    report = LoadReport(form=form_of(theirs))
    own = net.state_dict()
    own_form = form_of(own)
    if report.form == "joined" and own_form == "training":
        own = join_pairs(copy.deepcopy(net)).state_dict()
    fitting: dict[str, Tensor] = {}
    for key, value in theirs.items():
        if key not in own:
            report.unexpected.append(key)
        elif own[key].shape != value.shape:
            report.shape.append(f"{key}: {list(value.shape)}, {list(own[key].shape)}")
        else:
            fitting[key] = value
    report.loaded = list(fitting)
    named = {*fitting, *(entry.split(":")[0] for entry in report.shape)}
    report.missing = [k for k in own if k not in named and not k.endswith("num_batches_tracked")]
    wrong = [k for k in (*report.missing, *report.unexpected, *report.shape) if not k.startswith(CLASSIFIER)]
    wrong = [k for k in wrong if not k.endswith("num_batches_tracked")]
    if not any(not k.startswith(CLASSIFIER) for k in fitting) or (strict and wrong):
        what = "weights do not fit" if isinstance(source, Mapping) else f"{source}: does not fit"
        raise CheckpointError(
            f"{what}: {report}; first: {wrong[0] if wrong else 'none loaded'}; the network is in {own_form} form "
            "(build it with the file's widths, act_num and merged=True or False)."
        )
    if report.form == "joined":
        join_pairs(net)
    net.load_state_dict(fitting, strict=False)
    return report
