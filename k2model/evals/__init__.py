"""Evaluation: what is asked of a model, what came of each item, and scores with their intervals.

A `Measure` is a task with its items (`measures`), a `Subject` a model that can be asked (`references`), and a cell the
scores of one on the other, an artifact (`cells`). `scores_step` is the step of a phase, which makes the cells it lacks
and gathers them; `matrix` shows those of all checkpoints. Loads torch when a name is first used.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "scores_step": "step",
        "generate": "generation",
        "mean_interval": "statistics",
        "wilson": "statistics",
    },
)
