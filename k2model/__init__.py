"""The K2 lifecycle library: everything the pipeline does, free of any orchestrator.

Sub-packages follow the life of a model: recipe, artifacts, corpus, tokens, model, training, evals,
registry, reporting, release. A later stage may import an earlier one, never the other way round.
"""
