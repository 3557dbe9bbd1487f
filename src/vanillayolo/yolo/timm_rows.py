"""Any timm backbone under YOLO11's neck, for comparison: ``yolo11n-timm-resnet50``."""

from __future__ import annotations

import functools
from typing import Any

import timm
import torch

from vanillayolo.errors import ModelNameError, closest, one_line

from .modules import TimmBackbone

#: Networks with windows or positions take one image size unless told otherwise, each in the words of its own
#: constructor; the first that is accepted stands in the model's YAML.
ANY_SIZE: tuple[dict[str, Any], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True}, {})
PROBES = ((64, 96), (160, 160))  # height and width, pixels


@functools.cache
def timm_backbone(name: str) -> tuple[dict[str, Any], list[int]]:
    """Return the arguments of a ``TimmBackbone`` row and the channels of its three maps.

    The network is built and run once to know them, which leaves torch's random numbers as they were.

    Raises:
        ModelNameError: for a name that timm does not know, a network without maps of stride 8, 16 and 32, or one that
            takes images of one size only.
    """
    if not timm.is_model(name):
        hint = closest(name, timm.list_models(), otherwise="timm.list_models() names all.")
        raise ModelNameError(f"timm has no network {name!r}: {hint}")
    with torch.random.fork_rng(devices=[]):
        for arguments in ANY_SIZE:
            settings = {"name": name, **arguments}
            try:
                backbone = TimmBackbone(settings).eval()
            except TypeError as error:
                if arguments and next(iter(arguments)) in str(error):
                    continue
                raise ModelNameError(f"timm network {name!r} gives no maps of features ({error}).") from None
            except (RuntimeError, NotImplementedError, AttributeError, AssertionError, IndexError) as error:
                raise ModelNameError(f"timm network {name!r} gives no maps of features ({error}).") from None
            check_sizes(backbone, name)
            return settings, backbone.out_channels
    raise AssertionError("the last of ANY_SIZE is accepted or raises")


@torch.inference_mode()
def check_sizes(backbone: TimmBackbone, name: str) -> None:
    """Raise ModelNameError unless images of any size (multiples of 32) give maps of the strides promised."""
    for height, width in PROBES:
        try:
            maps = backbone(torch.zeros(1, 3, height, width))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ModelNameError(
                f"timm network {name!r} does not take images of any size ({one_line(error, 100)})."
            ) from None
        for m, channels, stride in zip(maps, backbone.out_channels, backbone.out_strides, strict=True):
            if m.shape[1:] != (channels, height // stride, width // stride):
                raise ModelNameError(
                    f"timm network {name!r} gives maps of {list(m.shape[1:])} where a detector needs "
                    f"{[channels, height // stride, width // stride]}."
                )
