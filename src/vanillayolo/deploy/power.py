"""What a comparison would have seen: faults planted in the reference, judged as the file is judged.

A network whose signal dies on the way gives the same outputs whatever stands in its layers. So a comparison is worth
what it would have noticed, and that is measured: a layer of the reference is changed, its outputs are compared with the
unchanged ones on one of the comparison's images, with the same tolerances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vanillayolo.nn.hooks import listening
from vanillayolo.yolo.outputs import Outputs, raw_outputs

#: Faults of one layer, from the smallest: its weights 1 % larger, its heaviest channel 0, all of it 0.
FAULTS = ("1 % of a layer's weights", "a channel of a layer at 0", "a layer at 0")
#: Multiply-adds that planting may take, some ten seconds on two cores: every layer of the letter n at 640 px.
BUDGET = 4e11

#: Share of the layers that outputs have to show. Scores of a level of the head that finds nothing are 0, whatever its
#: branch computes: two such levels are a sixth of the layers of yolo11n-vanillanet.
OUTPUTS = 0.75
NO_BOX = "no box was found, so boxes prove nothing"
REMEDY = "train the network, or give source= or data= with objects that it finds"

#: Says whether outputs of the reference, unchanged and changed, would be told apart.
Judge = Callable[[Outputs, Outputs], bool]


@dataclass
class Power:
    """The faults that a comparison would have seen.

    Attributes:
        layers: in how many layers faults were planted.
        seen: by fault, in how many of them it is the smallest that would be seen.
        blind: layers in which none would.
        classes_swapped: whether two classes that change places would be seen; None where there are not two.
    """

    layers: int = 0
    seen: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0))
    blind: list[str] = field(default_factory=list)
    classes_swapped: bool | None = None

    def share(self, fault: str) -> float:
        """Return the share of layers in which this fault, or a smaller one, would be seen."""
        counted = sum(self.seen[name] for name in FAULTS[: FAULTS.index(fault) + 1])
        return counted / self.layers if self.layers else 0.0

    def __str__(self) -> str:
        """Return the measurement in one line."""
        parts = [f"{name} in {count}" for name, count in self.seen.items() if count]
        unseen = f"nothing in {len(self.blind)} ({', '.join(self.blind[:3])}{', ...' if len(self.blind) > 3 else ''})"
        parts += [unseen] if self.blind else []
        swapped = {None: "", True: "; two classes swapped: seen", False: "; two classes swapped: not seen"}
        return f"smallest fault seen, of {self.layers} layers: {', '.join(parts)}{swapped[self.classes_swapped]}"


def doubts(power: Power | None, fault: str, share: float) -> list[str]:
    """Return why a comparison of this power proves nothing; empty where enough layers show the fault."""
    if power is None or power.share(fault) >= share:
        return []
    seen = round(power.share(fault) * power.layers)
    return [f"in {power.layers - seen} of {power.layers} layers {fault} would not be seen"]


def convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the convolutions with weights that are learnt, by name."""
    return {
        name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d) and not name.endswith(".dfl.conv")
    }


@contextmanager
def planted(layer: nn.Conv2d, fault: str) -> Iterator[None]:
    """Change a layer meanwhile."""
    kept = {name: tensor.detach().clone() for name, tensor in layer.named_parameters()}
    heaviest = int(layer.weight.detach().flatten(1).norm(dim=1).argmax())
    with torch.no_grad():
        for tensor in layer.parameters():
            if fault == FAULTS[0]:
                tensor.mul_(1.01 if tensor is layer.weight else 1.0)
            elif fault == FAULTS[1]:
                tensor[heaviest] = 0.0
            else:
                tensor.zero_()
        try:
            yield
        finally:
            for name, tensor in layer.named_parameters():
                tensor.copy_(kept[name])


def row_outputs(network: nn.Module, x: Tensor) -> list[Any]:
    """Return what each row of Ultralytics' list of modules gives for an input."""
    outputs: list[Any] = []
    with listening(enumerate(rows_of(network)), lambda _, __, out: outputs.append(out)):
        raw_outputs(network, x)
    return outputs


def rows_of(network: Any) -> list[nn.Module]:
    """Return the rows of a network, in the order in which they run."""
    return list(network.model)


@contextmanager
def kept_rows(network: nn.Module, outputs: list[Any]) -> Iterator[None]:
    """Let the first rows give outputs that are known, meanwhile, without computing them again."""
    rows = rows_of(network)[: len(outputs)]
    for row, output in zip(rows, outputs, strict=True):
        row.forward = lambda *_, output=output: output
    try:
        yield
    finally:
        for row in rows:
            del row.forward


def multiply_adds(network: nn.Module, x: Tensor) -> float:
    """Return the multiply-adds of a network's convolutions for one input."""
    total = 0.0

    def count(layer: nn.Conv2d, _: Any, out: Tensor) -> None:
        nonlocal total
        total += out[0, 0].numel() * layer.weight.numel()

    with listening(((layer, layer) for layer in convolutions(network).values()), count):
        raw_outputs(network, x)
    return total


def measure_power(network: nn.Module, x: Tensor, judge: Judge) -> Power:
    """Plant faults in a merged network, one after the other, and count those that a comparison would see.

    In each layer the faults are tried from the smallest on until one is seen. A network so large that this would take
    more than :data:`BUDGET` has faults planted in evenly spaced layers.

    Args:
        network: the reference; it is left as it was.
        x: one input of the comparison, ``[1, channels, height, width]``.
        judge: the comparison.
    """
    wanted = raw_outputs(network, x)
    layers = list(convolutions(network).items())
    most = max(8, min(len(layers), int(BUDGET / (2 * multiply_adds(network, x)))))
    chosen = [layers[i] for i in sorted({round(i) for i in torch.linspace(0, len(layers) - 1, most).tolist()})]
    power = Power(len(chosen))
    outputs = row_outputs(network, x)
    for name, layer in chosen:
        before = outputs[: int(name.split(".")[1])]  # model.18.cv2...: what stands before its row stays as it is
        for fault in FAULTS:
            with planted(layer, fault), kept_rows(network, before):
                changed = raw_outputs(network, x)
            if judge(wanted, changed):
                power.seen[fault] += 1
                break
        else:
            power.blind.append(name)
    if wanted.scores.shape[1] > 1:
        power.classes_swapped = judge(wanted, wanted.with_classes_swapped())
    return power
