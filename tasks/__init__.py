"""Flyte tasks, one file a stage: a typed signature, its resources and one call into `k2model`."""
