"""Weights whose joined pairs are split again, exactly, so that they can be trained deep once more ("deepening anew").

    python benchmarks/deepening.py WEIGHTS.safetensors PICTURES OUT.safetensors [--rotate] [--shift 2]

A convolution ``W`` becomes two, ``Q`` and ``W Q^-1``, with a batch normalisation between that is the identity on the
statistics of the pictures: at slope 1 the same function. ``Q`` is the identity or a random rotation. ``--shift`` moves
the maps between the two up by so many deviations, which the second bias takes back: a ReLU there changes little, as in
Net2DeeperNet (arXiv 1511.05641). ``vanillayolo train pretrained=OUT.safetensors decay=0.33`` then trains them deep.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from vanillayolo import VanillaYOLO
from vanillayolo.nn import set_negative_slope
from vanillayolo.nn.deep_training import deep_pairs
from vanillayolo.nn.layers import DeepPair
from vanillayolo.yolo.own_weights import load_own, read_weights, write_weights


def mixing(channels: int, rotate: bool) -> Tensor:
    """Return an invertible matrix: the identity, or a random rotation."""
    if not rotate:
        return torch.eye(channels)
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(channels, channels, generator=generator)).Q


def split(joined: DeepPair, like: DeepPair, rotate: bool) -> None:
    """Give ``like``, a pair of two convolutions, the function of ``joined``, with nothing between the two."""
    first, second, kernel = like.conv1, like.conv2, joined.conv1.weight
    q = mixing(first.out_channels, rotate).to(kernel)
    with torch.no_grad():
        if first.kernel_size == (1, 1):  # Q, then W Q^-1
            first.weight.copy_(q[:, :, None, None])
            second.weight.copy_((kernel[:, :, 0, 0] @ q.T)[:, :, None, None])
            second.bias.copy_(joined.conv1.bias)
            first.bias.zero_()
        else:  # the stem: Q W, then Q^-1
            first.weight.copy_(torch.einsum("om,mikl->oikl", q, kernel))
            first.bias.copy_(q @ joined.conv1.bias)
            second.weight.copy_(q.T[:, :, None, None])
            second.bias.zero_()
    like.norm2.load_state_dict(joined.norm2.state_dict())


def settle(pair: DeepPair, mean: Tensor, var: Tensor, shift: float) -> None:
    """Let the normalisation between be the identity on maps of these statistics, moved up by ``shift`` deviations."""
    norm, deviation = pair.norm1, (var + pair.norm1.eps).sqrt()
    up = (shift * deviation - mean).clamp(min=0) if shift else torch.zeros_like(mean)
    with torch.no_grad():
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        norm.weight.copy_(deviation)
        norm.bias.copy_(mean + up)
        pair.conv2.bias.sub_(pair.conv2.weight[:, :, 0, 0] @ up)


def pictures(folder: Path, imgsz: int = 160, most: int = 64) -> Tensor:
    """Return pictures of a folder as ``[pictures, 3, imgsz, imgsz]``."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))[:most]
    images = [cv2.resize(cv2.imread(str(p)), (imgsz, imgsz))[:, :, ::-1] for p in files]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="yolo11n-vanillanet")
    parser.add_argument("--rotate", action="store_true")
    parser.add_argument("--shift", type=float, default=0.0)
    given = parser.parse_args()
    _, card = read_weights(given.weights)
    joined, deep = (VanillaYOLO(given.model).model for _ in range(2))
    load_own(joined, given.weights)
    joined.names = deep.names = {int(k): v for k, v in card["names"].items()}
    deep.load_state_dict({k: v for k, v in joined.state_dict().items() if ".pair." not in k}, strict=False)
    pairs = dict(deep_pairs(deep))
    for name, pair in deep_pairs(joined):
        split(pair, pairs[name], given.rotate)
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for name, pair in pairs.items():

        def keep(_: nn.Module, __: tuple[Tensor], out: Tensor, name: str = name) -> None:
            found[name] = (out.mean((0, 2, 3)), out.var((0, 2, 3), unbiased=False))

        pair.conv1.register_forward_hook(keep)
    batch = pictures(given.pictures)
    with torch.inference_mode():
        joined.eval(), deep.eval()
        expected = joined(batch)[0]
        deep(batch)
    for name, pair in pairs.items():
        settle(pair, *(t.clone() for t in found[name]), given.shift)
        pair.conv1._forward_hooks.clear()
    with torch.inference_mode():
        for slope in (0.0, 1.0):
            set_negative_slope(deep, slope)
            difference = (deep(batch)[0] - expected).abs()
            print(f"slope {slope:g}: outputs differ by {difference.mean():.2g}, at most {difference.max():.2g}")
    write_weights(given.out, deep, {k: v for k, v in card.items() if k not in ("format", "names", "sha256")})


if __name__ == "__main__":
    main()
