"""Which documents of a shard a phase can draw, where it skips those that are longer than a row."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from k2model.recipe.schema import LongDocuments, PhaseConfig
from k2model.tokens.errors import MixtureError
from k2model.tokens.mixture import in_bucket
from k2model.tokens.packing import Ints
from k2model.tokens.shards import Batch, TokenShard


class FittingDocuments:
    """The documents of a shard that `phase` can draw: all of them, or those that fit a row.

    Raises MixtureError when there are documents, but none that fits.
    """

    def __init__(self, name: str, shard: TokenShard, phase: PhaseConfig) -> None:
        self.shard = shard
        fits = shard.lengths <= phase.sequence_length
        if phase.long_documents is LongDocuments.SPLIT:
            fits[:] = True
        self.fitting, self.skipped = np.flatnonzero(fits), np.flatnonzero(~fits)
        if len(self.skipped) and not len(self.fitting):
            raise MixtureError(
                f"phases.{phase.name}.mixture.{name}: all {len(fits):,} documents are longer than a row of "
                f"{phase.sequence_length:,} tokens and would be skipped; set phases.{phase.name}.long_documents=split, "
                "raise its sequence_length, or leave the source out"
            )

    @cached_property
    def lengths(self) -> Ints:
        return self.shard.lengths[self.fitting]

    @cached_property
    def duplicates(self) -> NDArray[np.int32]:
        return self.shard.duplicates[self.fitting]

    @cached_property
    def targets(self) -> Ints:
        return self.shard.targets[self.fitting]

    def skipped_of(self, bucket: str) -> int:
        """How many documents of a bucket of duplicates ("" = all) do not fit."""
        skipped = in_bucket(self.shard.duplicates[self.skipped], bucket)
        return len(self.skipped if skipped is None else skipped)

    @property
    def batches(self) -> Sequence[Batch]:
        return self.shard.batches

    def locate(self, documents: Ints, starts: Ints) -> tuple[Ints, Ints]:
        return self.shard.locate(self.fitting[documents], starts)
