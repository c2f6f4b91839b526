"""Evaluation of a phase's model on held-out items and documents.

`scores_step` is the step. A score is measured by free generation that is verified (`questions`), by
likelihood (`next_line`, `losses`) or by teacher forcing (`retrieval`); `groups` says which phase has
which. Loads torch when a name is first used.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "scores_step": "step",
        "generate": "generation",
        "mean_interval": "scores",
        "wilson": "scores",
    },
)
