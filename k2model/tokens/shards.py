"""Token shards: every document of a corpus as ids and targets, one Arrow IPC file per source and split.

Uncompressed Arrow, so that a shard is read by mapping it into memory. Equal texts are encoded once and
ids are put together by numpy; nothing is cut, shuffled or dropped here (that is packing).
"""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from k2model.tokens.errors import TokensError
from k2model.tokens.ragged import exclusive_sum, flat_positions
from k2model.tokens.tokenizer import K2Tokenizer

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
DOCUMENTS_PER_BATCH = 65_536
#: Text handed to the tokenizer at once; an encoding takes some 100 bytes of memory per token.
BYTES_PER_CALL = 2_000_000


@dataclass(frozen=True)
class Encoded:
    """Documents as flat arrays: `tokens` and `loss` [sum(lengths)], `lengths` [documents]."""

    tokens: NDArray[np.uint32]
    loss: NDArray[np.bool_]
    lengths: NDArray[np.int64]


class TokenShard:
    """One shard, memory-mapped: `ids`, `lengths`, `starts` and `duplicates` [documents], flat `tokens` and `loss`."""

    def __init__(self, path: Path) -> None:
        """Raises TokensError when `path` is missing or is no token shard."""
        if not path.is_file():
            raise TokensError(f"{path}: no such token shard; run the tokenize step for this corpus")
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        if table.schema.names != SCHEMA.names:
            raise TokensError(f"{path}: columns {table.schema.names}, expected {SCHEMA.names}")
        self.path = path
        self._ids = table["id"]
        self.lengths: NDArray[np.int64] = pc.list_value_length(table["tokens"]).to_numpy().astype(np.int64)
        self.starts: NDArray[np.int64] = exclusive_sum(self.lengths)
        self.tokens: NDArray[np.uint32] = _flat(table["tokens"], np.uint32)
        self.loss: NDArray[np.bool_] = _flat(table["loss"], np.bool_)
        self.duplicates: NDArray[np.int32] = table["duplicates"].to_numpy()

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def ids(self) -> list[str]:
        return self._ids.to_pylist()

    @property
    def targets(self) -> NDArray[np.int64]:
        """How many tokens of each document are targets, [documents]."""
        sums = np.concatenate([[0], np.cumsum(self.loss, dtype=np.int64)])
        return sums[self.starts + self.lengths] - sums[self.starts]

    def document(self, index: int) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Tokens and targets of one document, each [length]."""
        span = slice(int(self.starts[index]), int(self.starts[index] + self.lengths[index]))
        return self.tokens[span], self.loss[span]

    def gather(
        self, documents: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Tokens and targets of `lengths` tokens of each of `documents` from its token `starts` on, flat."""
        positions = flat_positions(self.starts[documents] + starts, lengths)
        return self.tokens[positions], self.loss[positions]


def open_shard(folder: Path, split: str, source: str) -> TokenShard:
    """The shard of `source` in a tokens folder; `split` is `train` or `heldout`."""
    return TokenShard(Path(folder) / split / source.replace("/", "-") / "00000.arrow")


def read_counts(folder: Path) -> dict[str, Any]:
    """`counts.json`: `vocab_size`, `pad`, and per split and source documents, tokens, targets, bytes, domain."""
    path = Path(folder) / COUNTS_FILE
    if not path.is_file():
        raise TokensError(f"{path}: no such file; expected the folder of a tokens artifact")
    return json.loads(path.read_text(encoding="utf-8"))


def tokenize_folder(corpus: Path, tokenizer: K2Tokenizer, folder: Path) -> dict[str, float]:
    """Encode the corpus in `corpus` into shards and `counts.json` in `folder`; returns totals."""
    counts: dict[str, Any] = {"vocab_size": tokenizer.vocab_size, "pad": tokenizer.pad}
    for split in SPLITS:
        (folder / split).mkdir(parents=True)
        paths = sorted((corpus / split).glob("*/*.parquet"))
        counts[split] = dict(_write_shard(path, tokenizer, _shard_path(folder / split, path)) for path in paths)
    if not counts["train"]:
        raise TokensError(f"{corpus}/train: no <source>/<part>.parquet files; expected the folder of a corpus artifact")
    (folder / COUNTS_FILE).write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sources = counts["train"].values()
    return {name: float(sum(s[name] for s in sources)) for name in ("documents", "tokens", "targets", "bytes")}


def _shard_path(folder: Path, part: Path) -> Path:
    """Where the tokens of corpus file `<source>/<part>.parquet` go."""
    path = folder / part.parent.name / f"{part.stem}.arrow"
    path.parent.mkdir(exist_ok=True)
    return path


def encode_documents(segments: pa.ListArray, tokenizer: K2Tokenizer) -> Encoded:
    """What `K2Tokenizer.encode_segments` gives for each document, all at once.

    `segments` is a column of `DOCUMENT_SCHEMA`. Raises TokensError for an unknown kind or special token.
    """
    values = segments.flatten()
    special = _is_special(pc.struct_field(values, "kind"))
    loss = pc.struct_field(values, "loss").to_numpy(zero_copy_only=False)
    texts = pc.struct_field(values, "text")
    per_document = pc.list_value_length(segments).to_numpy().astype(np.int64)
    document = np.repeat(np.arange(len(per_document)), per_document)

    joins = np.zeros(len(texts), dtype=bool)  # whether a text continues the one before it
    joins[1:] = ~special[1:] & ~special[:-1] & (loss[1:] == loss[:-1]) & (document[1:] == document[:-1])
    if joins.any():
        first = np.flatnonzero(~joins)
        offsets = pa.array([*first.tolist(), len(texts)], pa.int32())
        texts = pc.binary_join(pa.ListArray.from_arrays(offsets, texts), "")
        special, loss, document = special[first], loss[first], document[first]

    which, flat, lengths = _encode_distinct(texts, special, tokenizer)
    starts, counts = exclusive_sum(lengths)[which], lengths[which]
    document_lengths = np.bincount(document, weights=counts, minlength=len(per_document)).astype(np.int64)
    targets = np.repeat(loss, counts)
    targets[exclusive_sum(document_lengths)[document_lengths > 0]] = False
    return Encoded(flat[flat_positions(starts, counts)], targets, document_lengths)


def _encode_distinct(
    texts: pa.StringArray, special: NDArray[np.bool_], tokenizer: K2Tokenizer
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.int64]]:
    """Encode each distinct text once: an index per segment, and what it points at, flat ids and their lengths.

    A string may occur both as text and as the name of a special token, so each has two places.
    """
    coded = texts.dictionary_encode()
    distinct = coded.dictionary.to_pylist()
    which = coded.indices.to_numpy().astype(np.int64) + special * len(distinct)
    ids: list[list[int]] = [[] for _ in range(2 * len(distinct))]
    pending: list[int] = []
    size = 0
    for position in np.unique(which).tolist():
        if position >= len(distinct):
            ids[position] = [tokenizer.special(distinct[position - len(distinct)])]
            continue
        pending.append(position)
        size += len(distinct[position])
        if size >= BYTES_PER_CALL:
            _encode_into(ids, pending, distinct, tokenizer)
            pending, size = [], 0
    _encode_into(ids, pending, distinct, tokenizer)
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    flat = np.fromiter(itertools.chain.from_iterable(ids), dtype=np.uint32, count=int(lengths.sum()))
    return which, flat, lengths


def _encode_into(ids: list[list[int]], positions: list[int], distinct: list[str], tokenizer: K2Tokenizer) -> None:
    for position, piece in zip(positions, tokenizer.encode_batch([distinct[p] for p in positions]), strict=True):
        ids[position] = piece


def _write_shard(path: Path, tokenizer: K2Tokenizer, target: Path) -> tuple[str, dict[str, Any]]:
    """Encode one Parquet file; returns the source's name and its counts."""
    names: set[str] = set()
    domains: set[str] = set()
    counts = {"documents": 0, "tokens": 0, "targets": 0, "bytes": 0}
    columns = ["id", "source", "domain", "segments", "duplicates"]
    with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for batch in pq.ParquetFile(path).iter_batches(DOCUMENTS_PER_BATCH, columns=columns):
            encoded = encode_documents(batch["segments"], tokenizer)
            empty = np.flatnonzero(encoded.lengths == 0)
            if len(empty):
                name = batch["id"][int(empty[0])].as_py()
                raise TokensError(f"{path}: document '{name}' has no tokens; empty documents belong in quarantine")
            writer.write_batch(_record_batch(batch["id"], encoded, batch["duplicates"]))
            names |= set(pc.unique(batch["source"]).to_pylist())
            domains |= set(pc.unique(batch["domain"]).to_pylist())
            counts["documents"] += len(batch)
            counts["tokens"] += len(encoded.tokens)
            counts["targets"] += int(encoded.loss.sum())
            counts["bytes"] += _text_bytes(batch["segments"])
    if len(names) > 1 or len(domains) > 1:
        raise TokensError(f"{path}: holds sources {sorted(names)} of domains {sorted(domains)}, expected one of each")
    name = names.pop() if names else path.parent.name
    return name, {**counts, "domain": domains.pop() if domains else ""}


def _record_batch(ids: pa.Array, encoded: Encoded, duplicates: pa.Array) -> pa.RecordBatch:
    offsets = pa.array(np.concatenate([[0], np.cumsum(encoded.lengths)]), pa.int32())
    tokens = pa.ListArray.from_arrays(offsets, pa.array(encoded.tokens), type=SCHEMA.field("tokens").type)
    loss = pa.ListArray.from_arrays(offsets, pa.array(encoded.loss), type=SCHEMA.field("loss").type)
    return pa.RecordBatch.from_arrays([ids, tokens, loss, duplicates], schema=SCHEMA)


def _is_special(kinds: pa.Array) -> NDArray[np.bool_]:
    unknown = set(pc.unique(kinds).to_pylist()) - {"text", "special"}
    if unknown:
        raise TokensError(f"segments have kinds {sorted(unknown)}; expected 'text' or 'special'")
    return pc.equal(kinds, "special").to_numpy(zero_copy_only=False)


def _text_bytes(segments: pa.ListArray) -> int:
    values = segments.flatten()
    is_text = pc.equal(pc.struct_field(values, "kind"), "text")
    lengths = pc.binary_length(pc.filter(pc.struct_field(values, "text"), is_text))
    return pc.sum(lengths).as_py() or 0


def _flat(column: pa.ChunkedArray, dtype: Any) -> NDArray[Any]:
    """All values of a list column; a view of the file when the shard is one batch of fixed-width values."""
    parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    if not parts:
        return np.empty(0, dtype=dtype)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
