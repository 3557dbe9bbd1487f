"""From a trained checkpoint to files that run anywhere, each with its numerical proof."""

from .collapse import Collapsed, collapse, load_collapsed
from .equality import Equality

__all__ = ["Collapsed", "Equality", "collapse", "load_collapsed"]
