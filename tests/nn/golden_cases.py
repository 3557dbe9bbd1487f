"""The golden cases: what the authors' own code computed, with randomised batch normalisation, at small widths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vanillayolo.nn import VanillaNet, load_official_weights


@dataclass
class Golden:
    """One case: its network's arguments and every tensor of its file."""

    settings: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors below ``prefix``, without it."""
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}

    def build(self, **kwargs: Any) -> VanillaNet:
        """Return the case's network, freshly initialised."""
        settings = {k: self.settings[k] for k in ("dims", "strides", "act_num", "num_classes")}
        return VanillaNet(**{**settings, "adaptive_pool": "ada_pool" in self.settings, **kwargs})

    def network(self, slope: float = 1.0) -> VanillaNet:
        """Return the case's network in training form with the authors' weights, in evaluation mode."""
        net = self.build(negative_slope=slope)
        load_official_weights(net, self.part("train_form."))
        return net.eval()
