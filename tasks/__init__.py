"""Flyte tasks, one file a stage: a typed signature, its resources and one call into `k2model`."""

from tasks._temporary import own_temporary_folder
from tasks._terminal import is_command, tell_errors

if is_command():
    tell_errors()  # before anything is loaded that a person may have to be told of
    own_temporary_folder()
