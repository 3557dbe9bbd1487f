"""From a trained checkpoint to files that run anywhere, each with its numerical proof."""

from .collapse import Collapsed, collapse, load_collapsed
from .equality import Equality
from .export import Exported, export
from .verification import Verification
from .verify import verify

__all__ = ["Collapsed", "Equality", "Exported", "Verification", "collapse", "export", "load_collapsed", "verify"]
