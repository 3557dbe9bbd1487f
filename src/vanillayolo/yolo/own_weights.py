"""Weights of whole detectors, pretrained by ``vanillayolo pretrain``: float16 safetensors and a JSON card beside.

Of what is loaded everything is taken that fits, by name and shape, and said; the card holds the checksum of both.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vanillayolo.atomic import whole_file, write_whole
from vanillayolo.errors import CheckpointError, UsageError
from vanillayolo.nn import LoadReport
from vanillayolo.nn.plasticity import shorten_joined, shorten_stock
from vanillayolo.nn.reparameterize import join_pairs
from vanillayolo.nn.weights import read_tensors
from vanillayolo.valid_json import digest, json_text, read_json

from .checkpoints import check_finite
from .families import BACKBONES, COMPACT, Yaml
from .inference import checkpoint

FORMAT = "vanillayolo-pretrained-1"
#: The weights that come with the package, one file a letter of the family that a plain name stands for.
PACKAGED = Path(__file__).parents[1] / "weights"
FIRST = ("model.0.stem.pair.conv1.weight", "model.0.conv.weight")


def packaged_weights(cfg: Yaml) -> Path | None:
    """Return the file that comes with the package for a model's YAML, by letter; None where there is none.

    It is of the variant that a plain name stands for: one of other widths has little that it fits.
    """
    family, letter = cfg.get("family", {}), cfg.get("scale")
    if family.get("name") != "compact" or letter not in COMPACT:
        return None
    own, given = (BACKBONES.get(name) for name in (COMPACT[letter].variant, family.get("variant")))
    if given is None or own is None or (own.dims, own.strides) != (given.dims, given.strides):
        return None
    path = PACKAGED / f"yolo11{letter}-vanillanet.safetensors"
    return path if path.is_file() else None


def card_of(weights: str | Path) -> Path:
    """Return the place of the card of a weights file."""
    return Path(weights).with_suffix(".json")


def is_own(weights: str | Path) -> bool:
    """Return whether a file is of a whole detector: such a one has a card."""
    return Path(weights).suffix == ".safetensors" and card_of(weights).is_file()


def write_weights(path: Path, network: Any, said: Mapping[str, Any]) -> None:
    """Write a network's weights as float16, and the card, which ends with their checksum."""
    from safetensors.torch import save

    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    write_whole(path, save({k: v.detach().half().contiguous().clone() for k, v in state.items()}))
    card = {"format": FORMAT, **said, "names": {str(k): v for k, v in network.names.items()}}
    write_whole(card_of(path), json_text({**card, "sha256": digest(path, card)}))


def write_start(path: Path, network: Any) -> None:
    """Write a checkpoint of a stock network, its weights shortened: what Ultralytics and ``compare`` fine-tune from."""
    short = copy.deepcopy(network).float()
    shorten_stock(short)
    with whole_file(path) as made:
        torch.save(checkpoint(short, {}, {"task": "detect"}), made)


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the card of a weights file.

    Raises:
        CheckpointError: when one of them is damaged, or they do not belong together.
    """
    state = read_tensors(path)
    try:
        card = read_json(card_of(path))
        whole = card["format"] == FORMAT and digest(Path(path), card) == card["sha256"] and card["pictures"] >= 0
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise CheckpointError(
            f"{path}: it and its card {card_of(path).name} are not as they were written together; fetch both again."
        )
    return state, card


def in_joined_form(state: Mapping[str, Tensor]) -> bool:
    """Return whether the weights are of a network whose pairs are one convolution each."""
    pair = "model.0.stem.pair"
    return f"{pair}.conv1.weight" in state and f"{pair}.conv2.weight" not in state


def check_depth(state: Mapping[str, Tensor], decay: float | None, path: Path) -> None:
    """Raise UsageError where weights without pairs are to be trained deep."""
    if decay and in_joined_form(state):
        raise UsageError(f"decay={decay}: {path.name} has one convolution in the place of each pair; leave decay out.")


def can_start(model: Any, path: Path, deep: bool) -> bool:
    """Return whether a layer of the weights has a place in the network, and pairs where it is to be trained deep."""
    state, own = read_weights(path)[0], model.state_dict()
    fits = any(key in own and own[key].shape == value.shape for key, value in state.items())
    return fits and not (deep and in_joined_form(state))


def load_own(model: Any, path: str | Path) -> LoadReport:
    """Load what fits of a weights file into a detector, which takes the form that the weights are in, and can learn on.

    Images of other channels take the first ones of the file's three, one channel their sum.

    Raises:
        CheckpointError: when the file is damaged, or nothing of it fits.
    """
    state, _ = read_weights(path)
    report = LoadReport()
    if in_joined_form(state):
        report.form = "joined"
        join_pairs(model)
    own = model.state_dict()
    fitting: dict[str, Tensor] = {}
    for key, value in state.items():
        if key not in own:
            report.unexpected.append(key)
            continue
        if key in FIRST and value.shape != own[key].shape:
            value = _other_channels(value.float(), own[key])
        if value.shape == own[key].shape:
            fitting[key] = value.float()
        else:
            report.shape.append(f"{key}: {list(value.shape)}, {list(own[key].shape)}")
    report.loaded = list(fitting)
    named = {*fitting, *(entry.split(":")[0] for entry in report.shape)}
    report.missing = [k for k in own if k not in named and not k.endswith("num_batches_tracked")]
    if not fitting:
        raise CheckpointError(f"{path}: nothing of it fits {model.yaml_file} ({report}); give weights of its kind.")
    model.load_state_dict(fitting, strict=False)
    check_finite(model, str(path))
    shorten_joined(model)
    return report


def _other_channels(filters: Tensor, like: Tensor) -> Tensor:
    """Return first filters for images of other channels, where their number and size are the same."""
    if filters.dim() != like.dim() or filters.shape[0] != like.shape[0] or filters.shape[2:] != like.shape[2:]:
        return filters
    if like.shape[1] == 1:
        return filters.sum(1, keepdim=True)
    shared = min(filters.shape[1], like.shape[1])
    return torch.cat([filters[:, :shared], like[:, shared:]], 1)


def summary(path: str | Path, report: LoadReport) -> str:
    """Return what was loaded, and what was left out, in one line."""
    card = read_json(card_of(path))
    left = [*(entry.split(":")[0] for entry in report.shape), *report.missing]
    head = [key for key in left if ".cv3." in key]
    rest = [key for key in left if ".cv3." not in key]
    text = f"{Path(path).name} ({card['pictures']:,} generated pictures): {len(report.loaded)} tensors taken"
    if head:
        text += f", {len(head)} of the head's class branches anew (other classes)"
    if rest:
        text += f", {len(rest)} others anew ({', '.join(rest[:3])}{', ...' if len(rest) > 3 else ''})"
    if report.unexpected:
        text += f", {len(report.unexpected)} of the file have no place ({', '.join(report.unexpected[:3])})"
    return text
