"""Reading token shards: all parts of a source as one run of documents, mapped into memory.

A part is an uncompressed Arrow file of one or more record batches; nothing is copied when it is opened.
Flat positions count the tokens of all parts, one after another. Writing is `k2model.tokens.shard_writer`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from k2model.corpus.documents import source_file
from k2model.tokens.errors import TokensError
from k2model.tokens.ragged import exclusive_sum, flat_positions

SPLITS = ("train", "heldout")
COUNTS_FILE = "counts.json"
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("tokens", pa.list_(pa.field("item", pa.uint32(), nullable=False)), nullable=False),
        pa.field("loss", pa.list_(pa.field("item", pa.bool_(), nullable=False)), nullable=False),
        pa.field("duplicates", pa.int32(), nullable=False),
    ]
)


@dataclass(frozen=True)
class _Batch:
    """A record batch in the file's own memory: `tokens` [n], and targets as bits, the first at bit `first`."""

    ids: pa.Array
    lengths: NDArray[np.int64]
    duplicates: NDArray[np.int32]
    tokens: NDArray[np.uint32]
    bits: NDArray[np.uint8]
    first: int

    def loss(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the tokens at `positions` of this batch are targets."""
        at = positions + self.first
        return (self.bits[at >> 3] >> (at & 7).astype(np.uint8) & 1).astype(np.bool_)


class TokenShard:
    """Parts as one: `ids`, `lengths`, `starts`, `duplicates`, `targets` [documents]; tokens by document or position."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises TokensError when a part is missing or is no token shard."""
        self.paths = tuple(paths)
        self._batches = [batch for path in self.paths for batch in _batches(path)]
        self.lengths: NDArray[np.int64] = _joined([batch.lengths for batch in self._batches], np.int64)
        self.starts: NDArray[np.int64] = exclusive_sum(self.lengths)
        self.duplicates: NDArray[np.int32] = _joined([batch.duplicates for batch in self._batches], np.int32)
        sizes = np.array([len(batch.tokens) for batch in self._batches], dtype=np.int64)
        self._begins, self._ends = exclusive_sum(sizes), np.cumsum(sizes)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def ids(self) -> list[str]:
        return [name for batch in self._batches for name in batch.ids.to_pylist()]

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """How many tokens of each document are targets, [documents]."""
        return _joined([_targets(batch) for batch in self._batches], np.int64)

    def document(self, index: int) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Tokens and targets of one document, each [length]; `index` from 0 over all parts."""
        return self.span(self.starts[[index]], self.lengths[[index]])

    def gather(
        self, documents: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Tokens and targets of `lengths` tokens of each of `documents` from its token `starts` on, flat."""
        return self.span(self.starts[documents] + starts, lengths)

    def span(
        self, starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Tokens, and which are targets, of ranges of flat positions, one range after another: [sum(lengths)] each.

        Reads only the batches that the ranges touch. Raises TokensError for a range that leaves the shard.
        """
        size = int(self._ends[-1]) if len(self._ends) else 0
        if len(starts) and (int(starts.min()) < 0 or int((starts + lengths).max()) > size or int(lengths.min()) < 0):
            raise TokensError(f"{self._where}: a range of tokens leaves the shard; it holds positions 0..{size - 1}")
        tokens = np.empty(int(lengths.sum()), dtype=np.uint32)
        loss = np.empty(len(tokens), dtype=np.bool_)
        into = exclusive_sum(lengths)
        for begin, end, batch in zip(self._begins, self._ends, self._batches, strict=True):
            mine = np.flatnonzero((starts < end) & (starts + lengths > begin) & (lengths > 0))
            if not len(mine):
                continue
            low = np.maximum(starts[mine], begin)  # a range may begin or end in another batch
            count = np.minimum(starts[mine] + lengths[mine], end) - low
            origin = flat_positions(low - begin, count)
            to = flat_positions(into[mine] + low - starts[mine], count)
            tokens[to], loss[to] = batch.tokens[origin], batch.loss(origin)
        return tokens, loss

    @property
    def _where(self) -> str:
        return str(self.paths[0].parent) if self.paths else "a shard without parts"


def open_shard(folder: Path, split: str, source: str) -> TokenShard:
    """All parts of `source` in a tokens folder; `split` is `train` or `heldout`. Raises TokensError without any."""
    place = Path(folder) / split / source_file(source)
    paths = sorted(place.glob("*.arrow"))
    if not paths:
        raise TokensError(f"{place}: no such token shard (<part>.arrow); run the tokenize step for this corpus")
    return TokenShard(paths)


def read_counts(folder: Path) -> dict[str, Any]:
    """`counts.json`: `vocab_size`, the ids `bos` and `pad`, and for each split and source what there is of it.

    `documents`, `tokens`, `targets`, `bytes`, `domain`; `lengths`: documents by the largest power of two not above
    their tokens; `duplicates`: documents and tokens for each of K2's buckets that has any.
    """
    path = Path(folder) / COUNTS_FILE
    if not path.is_file():
        raise TokensError(f"{path}: no such file; expected the folder of a tokens artifact")
    return json.loads(path.read_text(encoding="utf-8"))


def _batches(path: Path) -> list[_Batch]:
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
    except (OSError, pa.ArrowInvalid) as error:
        raise TokensError(f"{path}: no such token shard ({error}); run the tokenize step for this corpus") from error
    if reader.schema.names != SCHEMA.names:
        raise TokensError(f"{path}: columns {reader.schema.names}, expected {SCHEMA.names}")
    batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
    return [_batch(batch) for batch in batches if batch.num_rows]


def _batch(batch: pa.RecordBatch) -> _Batch:
    loss = batch["loss"].flatten()
    return _Batch(
        batch["id"],
        np.diff(batch["tokens"].offsets.to_numpy()).astype(np.int64),
        batch["duplicates"].to_numpy(),
        batch["tokens"].flatten().to_numpy(),
        np.frombuffer(loss.buffers()[1], dtype=np.uint8),
        loss.offset,
    )


def _targets(batch: _Batch) -> NDArray[np.int64]:
    """Targets of each document of one batch."""
    flags = np.unpackbits(batch.bits, bitorder="little")[batch.first : batch.first + len(batch.tokens)]
    sums = np.concatenate([[0], np.cumsum(flags, dtype=np.int64)])
    ends = np.cumsum(batch.lengths)
    return sums[ends] - sums[ends - batch.lengths]


def _joined(arrays: list[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=dtype)
