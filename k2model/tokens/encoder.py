"""Encoding many texts: cut into pieces that recur, each encoded once, ids put together by numpy.

Natural text says the same words again and again: of its pieces (see `k2model.tokens.tokenizer`) some 97 in a
hundred have been met before, so that the BPE itself runs on the rest alone. What is remembered is
bounded, and never shows in the ids.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from k2model.tokens.ragged import exclusive_sum, flat_positions
from k2model.tokens.tokenizer import K2Tokenizer

#: Pieces, and characters in them, that are remembered from call to call: some 150 MB at most.
REMEMBERED_PIECES, REMEMBERED_CHARACTERS = 500_000, 16_000_000
#: Characters handed to the tokenizer at once; an encoding takes some 100 bytes of memory per token.
CHARACTERS_PER_CALL = 2_000_000


class _Places(dict[str, int]):
    """Numbers pieces in the order in which they are met, and notes the unknown ones."""

    def __init__(self) -> None:
        self.unknown: list[str] = []

    def __missing__(self, piece: str) -> int:
        place = self[piece] = len(self)
        self.unknown.append(piece)
        return place


class Encoder:
    """`encode` gives the ids of `K2Tokenizer.encode`, faster the more texts it is given. Not for two threads."""

    def __init__(self, tokenizer: K2Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._forget()

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Ids of all texts, one after another, and how many each has [texts]. Raises what `encode_batch` does."""
        if len(self._places) > REMEMBERED_PIECES or self._characters > REMEMBERED_CHARACTERS:
            self._forget()
        cut, place = self.tokenizer.cut, self._places.__getitem__
        pieces = [cut(text) for text in texts]
        counts = np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))
        which = np.fromiter((place(p) for own in pieces for p in own), dtype=np.int32, count=int(counts.sum()))
        self._learn()
        starts, lengths = self._starts[which], self._lengths[which]
        sums = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        ends = np.cumsum(counts)
        return self._ids[flat_positions(starts, lengths)], sums[ends] - sums[ends - counts]

    def _forget(self) -> None:
        self._places = _Places()
        self._characters = 0
        self._ids = np.empty(0, dtype=np.uint32)
        self._lengths = np.empty(0, dtype=np.int64)
        self._starts = np.empty(0, dtype=np.int64)

    def _learn(self) -> None:
        """Encode the pieces that were not known."""
        unknown, self._places.unknown = self._places.unknown, []
        if not unknown:
            return
        ids, lengths = [self._ids], [self._lengths]
        for pieces in _calls(unknown):
            found = self.tokenizer.encode_batch(pieces)
            lengths.append(np.fromiter(map(len, found), dtype=np.int64, count=len(found)))
            flat = (i for own in found for i in own)
            ids.append(np.fromiter(flat, dtype=np.uint32, count=int(lengths[-1].sum())))
        self._characters += sum(map(len, unknown))
        self._ids, self._lengths = np.concatenate(ids), np.concatenate(lengths)
        self._starts = exclusive_sum(self._lengths)


def _calls(pieces: list[str]) -> list[list[str]]:
    """`pieces` in runs of about CHARACTERS_PER_CALL."""
    sizes = np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))
    run = np.cumsum(sizes) // CHARACTERS_PER_CALL
    borders = [0, *(np.flatnonzero(np.diff(run)) + 1).tolist(), len(pieces)]
    return [pieces[a:b] for a, b in itertools.pairwise(borders)]
