"""Reading token shards: all parts of a source as one run of documents, mapped into memory.

A part is an uncompressed Arrow file of one or more record batches; a document lies in one of them. Nothing is copied
when a part is opened. Writing is `k2model.tokens.shard_writer`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from k2model.artifacts import ArtifactRef, Store, read_json, read_json_file
from k2model.documents.schema import source_file
from k2model.documents.tables import required
from k2model.errors import TokensError
from k2model.tokens.ragged import copied_runs, exclusive_sum, flat_positions, sorted_stably

SPLITS = ("train", "heldout")
COUNTS_FILE = "counts.json"
SCHEMA = required(
    id=pa.string(),
    tokens=pa.list_(pa.field("item", pa.uint32(), nullable=False)),
    loss_mask=pa.list_(pa.field("item", pa.bool_(), nullable=False)),
    duplicates=pa.int32(),
)


@dataclass(frozen=True)
class Batch:
    """A record batch in the file's own memory: `tokens` [n], and targets as bits, the first at bit `first`."""

    ids: pa.Array
    lengths: NDArray[np.int64]
    duplicates: NDArray[np.int32]
    tokens: NDArray[np.uint32]
    bits: NDArray[np.uint8]
    first: int


def padding(tokens: int, pad: int) -> Batch:
    """A document of `tokens` times `pad`, none of them a target."""
    lengths, ids = np.array([tokens]), np.full(tokens, pad, dtype=np.uint32)
    bits = np.zeros(-(-tokens // 8), dtype=np.uint8)
    return Batch(pa.array([""]), lengths, np.ones(1, dtype=np.int32), ids, bits, 0)


class TokenShard:
    """Parts as one: `ids`, `lengths`, `duplicates`, `targets` [documents], whose tokens lie in `batches`."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises TokensError when a part is missing or is no token shard."""
        self.paths = tuple(paths)
        self.batches = [batch for path in self.paths for batch in _batches(path)]
        self.lengths: NDArray[np.int64] = _joined([batch.lengths for batch in self.batches], np.int64)
        self.duplicates: NDArray[np.int32] = _joined([batch.duplicates for batch in self.batches], np.int32)
        self._starts = _joined([exclusive_sum(batch.lengths) for batch in self.batches], np.int64)
        self._ends = np.cumsum([len(batch.lengths) for batch in self.batches])

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def ids(self) -> list[str]:
        return [name for batch in self.batches for name in batch.ids.to_pylist()]

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """How many tokens of each document are targets, [documents]."""
        return _joined([_targets(batch) for batch in self.batches], np.int64)

    def document(self, index: int) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Tokens and targets of one document, each [length]; `index` from 0 over all parts."""
        documents = np.array([index])
        return read_runs(self.batches, *self.locate(documents, np.zeros_like(documents)), self.lengths[documents])

    def locate(
        self, documents: NDArray[np.int64], starts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The batch of each document, and where in it the document's token `starts` is."""
        return np.searchsorted(self._ends, documents, side="right"), self._starts[documents] + starts


def open_shard(folder: Path, split: str, source: str) -> TokenShard:
    """All parts of `source` in a tokens folder; `split` is `train` or `heldout`. Raises TokensError without any."""
    place = Path(folder) / split / source_file(source)
    paths = sorted(place.glob("*.arrow"))
    if not paths:
        raise TokensError(f"{place}: no such token shard (<part>.arrow); run the tokenize step for this corpus")
    return TokenShard(paths)


def read_runs(
    batches: Sequence[Batch], which: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Tokens and targets of runs of `lengths` tokens, each from the position `starts` of `batches[which]` on, one run
    after another: [sum(lengths)] each. Reads only what it gives.
    """
    touched, which = np.unique(which, return_inverse=True)
    own = [batches[number] for number in touched]
    tokens = copied_runs([batch.tokens for batch in own], which, starts, lengths)
    return tokens, _loss_mask(own, which, starts, lengths)


class SourceCounts(TypedDict):
    """Of one source and split in `counts.json`, what others read of it."""

    domain: str
    documents: int
    tokens: int
    targets: int
    lengths: NotRequired[dict[str, int]]


class TokenCounts(TypedDict):
    """What others read of `counts.json`; see `read_counts`."""

    train: dict[str, SourceCounts]
    heldout: dict[str, SourceCounts]


def read_counts(folder: Path) -> dict[str, Any]:
    """`counts.json`: `vocab_size`, the ids `bos` and `pad`, and for each split and source what there is of it.

    `documents`, `tokens`, `targets`, `bytes`, `domain`; `lengths`: documents by the largest power of two not above
    their tokens; `duplicates`: documents and tokens for each of K2's buckets that has any; `efforts`, of a
    source with chats: the assistant's turns that are learned, by reasoning effort.
    """
    path = Path(folder) / COUNTS_FILE
    if not path.is_file():
        raise TokensError(f"{path}: no such file; expected the folder of a tokens artifact")
    return cast(dict[str, Any], read_json_file(TokenCounts, Path(folder), COUNTS_FILE))


def counts_of(store: Store, tokens: ArtifactRef) -> TokenCounts:
    """`counts.json` of an artifact, verified. Raises the store's errors."""
    return read_json(TokenCounts, store, tokens, COUNTS_FILE)


def _batches(path: Path) -> list[Batch]:
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
    except (OSError, pa.ArrowInvalid) as error:
        raise TokensError(f"{path}: no such token shard ({error}); run the tokenize step for this corpus") from error
    if not reader.schema.equals(SCHEMA):
        raise TokensError(
            f"{path}: has the columns {_told(reader.schema)}; expected {_told(SCHEMA)}. Delete the tokens and run "
            "again: the step that makes them will be done again"
        )
    batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
    return [_batch(batch) for batch in batches if batch.num_rows]


def _told(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type}{'' if field.nullable else ' not null'})" for field in schema)


def _batch(batch: pa.RecordBatch) -> Batch:
    loss_mask = batch["loss_mask"].flatten()
    return Batch(
        batch["id"],
        np.diff(batch["tokens"].offsets.to_numpy()).astype(np.int64),
        batch["duplicates"].to_numpy(),
        batch["tokens"].flatten().to_numpy(),
        np.frombuffer(loss_mask.buffers()[1], dtype=np.uint8),
        loss_mask.offset,
    )


def _loss_mask(
    batches: Sequence[Batch], which: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """The targets that `read_runs` gives. The bytes which hold a run's bits are made flags, and the run cut out."""
    bits = starts + np.array([batch.first for batch in batches])[which]
    first, octets = bits >> 3, (bits + lengths + 7 >> 3) - (bits >> 3)
    order = sorted_stably(which)
    owned = np.split(order, np.cumsum(np.bincount(which, minlength=len(batches)))[:-1])
    found = [batch.bits[flat_positions(first[own], octets[own])] for batch, own in zip(batches, owned, strict=True)]
    flags = np.unpackbits(np.concatenate(found), bitorder="little").view(np.bool_)
    begins = np.empty_like(bits)
    begins[order] = 8 * exclusive_sum(octets[order])
    return copied_runs([flags], np.zeros_like(which), begins + (bits & 7), lengths)


def _targets(batch: Batch) -> NDArray[np.int64]:
    """Targets of each document of one batch."""
    flags = np.unpackbits(batch.bits, bitorder="little")[batch.first : batch.first + len(batch.tokens)]
    sums = np.concatenate([[0], np.cumsum(flags, dtype=np.int64)])
    ends = np.cumsum(batch.lengths)
    return sums[ends] - sums[ends - batch.lengths]


def _joined(arrays: list[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=dtype)
