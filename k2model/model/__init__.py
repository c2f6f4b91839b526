"""The K2 transformer: architecture, attention, loss, how it is cut over workers, and its counts.

Counts are plain formulas and import at once; whatever needs torch is loaded when first named.
"""

from k2model import lazy_exports
from k2model.recipe.counts import count_parameters, training_flops

__all__ = ["count_parameters", "training_flops"]

__getattr__ = lazy_exports(
    __name__,
    {
        "K2Model": "transformer",
        "shifted_targets": "loss",
    },
)
