"""The variants in timm's registry: ``timm.create_model("vanillanet_6")`` after ``import vanillayolo``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from .vanillanet import VanillaNet
from .variants import VARIANTS, Variant
from .weights import checkpoint_filter_fn

default_cfgs = generate_default_cfgs(
    {
        f"vanillanet_{name}": {
            "url": "",  # the authors' files are .pth of another layout: see vanillayolo.nn.load_official_weights
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": (10, 10) if variant.adaptive_pool else (7, 7),
            "crop_pct": 0.875,
            "interpolation": "bicubic",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "stem.pair.conv1",
            "classifier": ("head.pair.conv1", "head.pair.norm1", "head.pair.conv2"),
            "license": "mit",
            "origin_url": "https://github.com/huawei-noah/VanillaNet",
            "paper_ids": "arXiv:2305.12972",
        }
        for name, variant in VARIANTS.items()
    }
)


def _entrypoint(name: str, variant: Variant) -> Callable[..., VanillaNet]:
    """Return timm's entry point of one variant."""

    def create(pretrained: bool = False, **kwargs: Any) -> VanillaNet:
        model_args = {"dims": variant.dims, "strides": variant.strides, "adaptive_pool": variant.adaptive_pool}
        feature_cfg = {"out_indices": tuple(range(1, len(variant.dims))), "flatten_sequential": True}
        timm_args = {"feature_cfg": feature_cfg, "pretrained_filter_fn": checkpoint_filter_fn}
        return build_model_with_cfg(VanillaNet, name, pretrained, **timm_args, **{**model_args, **kwargs})

    create.__name__ = create.__qualname__ = name
    create.__module__ = __name__
    create.__doc__ = f"VanillaNet-{name.removeprefix('vanillanet_')} (arXiv 2305.12972)."
    return create


for _name, _variant in VARIANTS.items():
    globals()[f"vanillanet_{_name}"] = register_model(_entrypoint(f"vanillanet_{_name}", _variant))
