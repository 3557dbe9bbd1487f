"""Joining in the middle of a training: network, average and optimizer change form together.

At slope 1 a pair is one linear map, so that its two convolutions can be trained on as one
(:func:`vanillayolo.nn.reparameterize.join_pairs`), at two thirds of the arithmetic or less. The paper's authors leave
this open: their pairs stay two to the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from vanillayolo.nn.deep_training import deep_pairs
from vanillayolo.nn.reparameterize import join_pairs


@dataclass
class Joining:
    """What joining changed in a network and its optimizer, kept while it may have to be undone.

    Attributes:
        network: in training.
        optimizer: of the network.
        pairs: the pairs as they were, by name.
        parameters: of the optimizer's groups, as they were.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    pairs: dict[str, nn.Module]
    parameters: list[list[nn.Parameter]]

    def undo(self) -> None:
        """Put the pairs back, ready to load a checkpoint of that form; what the optimizer remembered is gone."""
        for name, pair in self.pairs.items():
            self.network.set_submodule(name, pair)
        for group, parameters in zip(self.optimizer.param_groups, self.parameters, strict=True):
            group["params"] = parameters
        self.optimizer.state.clear()


def join_training(network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> Joining:
    """Join every pair of a network in training, of its average, and what the optimizer knows of them.

    Network and average are joined each from its own weights and statistics, so both stay the functions that they
    were. The new convolution takes the place of the pair's second one in the optimizer's groups, with that one's
    learning rate and weight decay, and starts without moments: those of the factors say nothing of the product's. All
    other parameters keep theirs.

    Args:
        network: at slope 1.
        average: the network's averaged copy, at slope 1.
        optimizer: of the network.

    Returns:
        The pairs joined, and how to undo it in the network and the optimizer.

    Raises:
        MergeError: unless every slope is 1; nothing is changed then.
    """
    before = [(name, pair) for name, pair in deep_pairs(network) if not pair.is_joined]
    parameters = [list(group["params"]) for group in optimizer.param_groups]
    join_pairs(network)
    join_pairs(average)
    becomes: dict[nn.Parameter, nn.Parameter | None] = {}
    for name, pair in before:
        becomes |= dict.fromkeys([*pair.conv1.parameters(), *pair.norm1.parameters()])
        new = dict(network.get_submodule(f"{name}.conv1").named_parameters())
        becomes |= {old: new[key] for key, old in pair.conv2.named_parameters()}
    for group in optimizer.param_groups:
        kept = (becomes.get(p, p) for p in group["params"])
        group["params"] = [p for p in kept if p is not None]
    for old in becomes:
        optimizer.state.pop(old, None)
    return Joining(network, optimizer, dict(before), parameters)
