"""From a trained checkpoint to files that run anywhere, each with its numerical proof."""

from .collapse import Collapsed, collapse, load_collapsed
from .equality import Equality
from .export import Exported, export
from .verify import Verification, verify

__all__ = ["Collapsed", "Equality", "Exported", "Verification", "collapse", "export", "load_collapsed", "verify"]
