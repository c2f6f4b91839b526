"""Checkpoints: which part of the state a worker writes, the files, what is read of them, which of them stay.

When to save and on which thread is left to `k2model.training.saver`, the engine's tensors to `state`.
"""

from k2model.training.checkpoint.folder import (
    CHECKPOINTS,
    FINAL,
    Checkpoint,
    Progress,
    describe_checkpoint,
    discard_after,
    is_kept_for_good,
    keep_for_good_only,
    list_checkpoints,
    load_model_state,
    newest_checkpoint,
    prune,
    publish,
    read_checkpoint,
    remove_checkpoint,
    shard_name,
    step_folder,
    write_file,
)
from k2model.training.checkpoint.shard import ALL, MODEL, OPTIMIZER, Columns, Piece, Place, ShardImage, share
from k2model.training.checkpoint.tensors import InMemory, NamedTensors, StoredTensors

__all__ = [
    "ALL",
    "CHECKPOINTS",
    "FINAL",
    "MODEL",
    "OPTIMIZER",
    "Checkpoint",
    "Columns",
    "InMemory",
    "NamedTensors",
    "Piece",
    "Place",
    "Progress",
    "ShardImage",
    "StoredTensors",
    "describe_checkpoint",
    "discard_after",
    "is_kept_for_good",
    "keep_for_good_only",
    "list_checkpoints",
    "load_model_state",
    "newest_checkpoint",
    "prune",
    "publish",
    "read_checkpoint",
    "remove_checkpoint",
    "shard_name",
    "share",
    "step_folder",
    "write_file",
]
