"""The network and its mathematics: one idea of the VanillaNet paper per file. Needs torch and timm only."""

from . import timm_registry as timm_registry
from .deep_training import DeepTraining, get_negative_slope, set_negative_slope
from .layers import DeepPair, SeriesActivation, randomize_batchnorm
from .lean import LEAN_MODES, set_lean
from .reparameterize import is_merged, reparameterize
from .vanillanet import Stage, VanillaNet, make_stage, vanillanet_variant
from .variants import VARIANTS, Variant
from .weights import LoadReport, WeightsForm, convert_weights, describe_weights, load_official_weights

__all__ = [
    "LEAN_MODES",
    "VARIANTS",
    "DeepPair",
    "DeepTraining",
    "LoadReport",
    "SeriesActivation",
    "Stage",
    "VanillaNet",
    "Variant",
    "WeightsForm",
    "convert_weights",
    "describe_weights",
    "get_negative_slope",
    "is_merged",
    "load_official_weights",
    "make_stage",
    "randomize_batchnorm",
    "reparameterize",
    "set_lean",
    "set_negative_slope",
    "vanillanet_variant",
]
