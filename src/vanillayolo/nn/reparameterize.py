"""The exact merge of whole networks: each deep pair and series activation becomes what its ``fuse()`` returns.

Paper: arXiv 2305.12972, section 3.1, equations 2 to 4.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import nn

from vanillayolo.errors import MergeError

from .deep_training import deep_pairs
from .folding import as_conv, compose, fold
from .layers import DeepPair, SeriesActivation


def join_pair(pair: DeepPair) -> DeepPair:
    """Return a deep pair of slope 1 as one convolution that trains on: ``conv1``, with the pair's ``norm2`` after it.

    In evaluation mode it is the same function. In training it differs from the pair in one thing: the scale of the
    channels between the convolutions is that of the running statistics of ``norm1``, no longer the batch's; their
    mean is taken away by ``norm2`` either way.

    Raises:
        MergeError: when the slope is not exactly 1.
    """
    if pair.negative_slope != 1.0:
        raise MergeError(f"slope {pair.negative_slope:g} between the convolutions; only slope 1 joins them exactly.")
    joined = copy.copy(pair)
    joined._modules = dict(pair._modules)
    if isinstance(pair.conv2, nn.Conv2d):
        weight_bias = compose(fold(pair.conv1, pair.norm1), fold(pair.conv2, nn.Identity()))
        joined.conv1, joined.norm1, joined.conv2 = as_conv(pair.conv1, weight_bias), nn.Identity(), nn.Identity()
    return joined.train(pair.training)


def join_pairs(model: nn.Module) -> nn.Module:
    """Make every deep pair, in place, the one convolution that it is at slope 1, to be trained on; return the model.

    The parameters of the first convolution are new ones, those of both old convolutions and of the normalisation
    between them are gone: an optimizer that holds them has to be told.

    Raises:
        MergeError: unless every slope is exactly 1; nothing is changed then.
    """
    check_mergeable(model)
    return replace_modules(model, {DeepPair: join_pair})


def fold_pair(pair: DeepPair) -> DeepPair:
    """Return the pair with both BN folded, the same function at any slope."""
    folded = copy.copy(pair)
    folded._modules = dict(pair._modules)
    if not isinstance(pair.conv2, nn.Conv2d):
        folded.conv1, folded.norm2 = as_conv(pair.conv1, fold(pair.conv1, pair.norm2)), nn.Identity()  # joined
        return folded.train(pair.training)
    folded.conv1, folded.norm1 = as_conv(pair.conv1, fold(pair.conv1, pair.norm1)), nn.Identity()
    folded.conv2, folded.norm2 = as_conv(pair.conv2, fold(pair.conv2, pair.norm2)), nn.Identity()
    return folded.train(pair.training)


Table = dict[type[nn.Module], Callable[..., nn.Module]]

MERGE: Table = {DeepPair: DeepPair.fuse, SeriesActivation: SeriesActivation.fuse}
FOLD: Table = {DeepPair: fold_pair, SeriesActivation: SeriesActivation.fuse}


def replace_modules(model: nn.Module, table: Table) -> nn.Module:
    """Replace, in place and in order, every descendant whose class is in ``table``; return the model."""
    for name, child in model.named_children():
        make = table.get(type(child))
        if make is None:
            replace_modules(child, table)
        else:
            model._modules[name] = make(child)
    return model


def check_mergeable(model: nn.Module) -> None:
    """Raise MergeError, naming the pair and the remedy, unless every slope is exactly 1."""
    for name, pair in deep_pairs(model):
        if pair.negative_slope != 1.0:
            raise MergeError(
                f"{name} has slope {pair.negative_slope:g}: only slope 1 merges without changing the network. "
                "Train on until the slope is 1 (resume, or a smaller decay), or use the unmerged network."
            )


def reparameterize(model: nn.Module) -> nn.Module:
    """Return a new network of the same function in evaluation mode, every pair and activation merged.

    Merging a merged network gives an equal copy. Modules that are not VanillaNet's are copied as they are.

    Raises:
        MergeError: unless every slope is exactly 1; nothing is changed then.
    """
    check_mergeable(model)
    model = copy.deepcopy(model)
    make = MERGE.get(type(model))
    return make(model) if make is not None else replace_modules(model, MERGE)


def is_joined(model: nn.Module) -> bool:
    """Return whether there are pairs that have become one convolution to be trained on."""
    return any(pair.is_joined for _, pair in deep_pairs(model))


def is_merged(model: nn.Module) -> bool:
    """Return whether nothing is left to merge."""
    return not any(isinstance(m, (DeepPair, SeriesActivation)) for m in model.modules())
