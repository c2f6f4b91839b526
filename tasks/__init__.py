"""Flyte tasks, one file a stage: a typed signature, its resources and one call into `k2model`."""

from tasks._terminal import tell_errors

tell_errors()  # before anything is loaded that a person may have to be told of
