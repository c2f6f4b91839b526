"""Writing token shards: each part of a corpus source becomes one file of ids and targets, as a stream.

A part is read, encoded and written batch by batch, so memory does not grow with it. What a part counts
sums over parts, and `counts.json` is made of the sums. Nothing is cut, shuffled or dropped here (that is
packing).
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from k2model.documents.counts import Counts
from k2model.documents.markup import EFFORTS, IM_START, SPECIAL_TOKENS
from k2model.documents.schema import DOCUMENT_SCHEMA
from k2model.documents.spans import FlatSpans
from k2model.documents.tables import as_stated, opened_table, selected
from k2model.errors import TokensError
from k2model.recipe.mixtures import BUCKETS, bucket_range
from k2model.tokens.encoder import Encoder
from k2model.tokens.ragged import exclusive_sum, flat_positions
from k2model.tokens.shards import COUNTS_FILE, SCHEMA, SPLITS
from k2model.tokens.tokenizer import K2Tokenizer

READ = selected(DOCUMENT_SCHEMA, "id", "source", "domain", "text", "spans", "duplicates")
DOCUMENTS_PER_READ = 1_024
#: Tokens of a record batch: readers map whole batches, so a part should have few of them.
TOKENS_PER_BATCH = 8_000_000
TOTALS = ("documents", "tokens", "targets", "bytes")


@dataclass(frozen=True)
class Encoded:
    """Documents as flat arrays: `tokens` and `loss_mask` [sum(lengths)], `lengths` [documents]."""

    tokens: NDArray[np.uint32]
    loss_mask: NDArray[np.bool_]
    lengths: NDArray[np.int64]


def tokenize_part(part: Path, tokenizer: K2Tokenizer | Encoder, target: Path) -> dict[str, int]:
    """Encode one file of documents into the shard `target`; what it counts, which sums over parts.

    Counts: `documents`, `tokens`, `targets`, `bytes`; documents by length as `lengths/<n>` with n the largest power
    of two that is not above it; `duplicates/<bucket>/documents` and `/tokens`; `efforts/<effort>`, the assistant's
    turns that are learned; and 1 at `source/<name>` and `domain/<name>`, which a file without documents does not have.

    Raises TokensError for a document without tokens or with an unknown special token, and for a file of several
    sources.
    """
    encoder = tokenizer if isinstance(tokenizer, Encoder) else Encoder(tokenizer)
    counts = Counts(dict.fromkeys(TOTALS, 0))
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        opened_table(part, READ) as file,
        pa.OSFile(str(target), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as writer,
    ):
        for batch in _gathered(_encoded(file, part, encoder, counts)):
            writer.write_batch(batch)
    _only(counts, "source", f"{part}: holds documents")
    _only(counts, "domain", f"{part}: holds documents")
    return dict(counts)


def write_counts(parts: Iterable[tuple[str, Mapping[str, int]]], vocabulary: Mapping[str, int], folder: Path) -> None:
    """`counts.json` of a tokens artifact: what parts counted, summed by split and source.

    `parts`: `<split>/<stem>/<part>` and its counts. `vocabulary`: `vocab_size`, `bos`, `pad`. Raises TokensError when
    parts of one source disagree about its name or domain, or when there is nothing to train on.
    """
    sums: defaultdict[str, Counts] = defaultdict(Counts)
    for name, counts in parts:
        sums[name.rpartition("/")[0]].update(counts)
    content: dict[str, Any] = dict(vocabulary) | {split: {} for split in SPLITS}
    for where, summed in sums.items():
        split, _, stem = where.partition("/")
        content[split][_only(summed, "source", f"{where}: its parts are") or stem] = _entry(where, summed)
    if not content["train"]:
        raise TokensError("the corpus has no train/<source>/<part>.parquet files; expected a corpus artifact")
    (folder / COUNTS_FILE).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def encode_documents(spans: FlatSpans, encoder: Encoder) -> Encoded:
    """What `K2Tokenizer.encode_segments` gives for each document, all at once.

    Raises TokensError for an unknown kind or special token.
    """
    _is_special(spans.kinds)
    spans = spans.encoded_together()
    tokens, lengths = _encode_texts(spans.texts, _is_special(spans.kinds), encoder)
    before = np.concatenate([[0], np.cumsum(lengths)])
    document_lengths = np.diff(before[spans.bounds])
    targets = np.repeat(spans.loss_mask, lengths)
    targets[exclusive_sum(document_lengths)[document_lengths > 0]] = False
    return Encoded(tokens, targets, document_lengths)


def learned_replies(spans: FlatSpans) -> dict[str, int]:
    """Reasoning effort -> turns of the assistant that are learned, without those of which there are none.

    Such a turn is what begins `<|im_start|>assistant` and an effort's tag, with targets behind it. A tag elsewhere
    (reasoning outside of chat) says nothing of what a chat may ask for.
    """
    special = np.flatnonzero(_is_special(spans.kinds))
    names = spans.texts.take(pa.array(special))
    loss_mask = np.append(spans.loss_mask, False)
    learned = loss_mask[special[1:] + 1] & pc.equal(names[:-1], IM_START).to_numpy(zero_copy_only=False)
    tags = pa.array([opening for opening, _ in EFFORTS.values()])
    which = pc.index_in(names[1:], value_set=tags).fill_null(len(tags)).to_numpy()
    numbers = np.bincount(which[learned], minlength=len(tags) + 1)
    return {effort: int(number) for effort, number in zip(EFFORTS, numbers, strict=False) if number}


def _encode_texts(
    texts: pa.StringArray, special: NDArray[np.bool_], encoder: Encoder
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Ids of the spans in order, and how many each has. Special tokens have one."""
    plain, text_lengths = encoder.encode(texts.filter(pa.array(~special)).to_pylist())
    lengths = np.ones(len(texts), dtype=np.int64)
    lengths[~special] = text_lengths
    starts = exclusive_sum(lengths)
    tokens = np.empty(int(lengths.sum()), dtype=np.uint32)
    tokens[starts[special]] = _special_ids(texts.filter(pa.array(special)), encoder.tokenizer)
    tokens[flat_positions(starts[~special], text_lengths)] = plain
    return tokens, lengths


def _special_ids(names: pa.StringArray, tokenizer: K2Tokenizer) -> NDArray[np.uint32]:
    which = pc.index_in(names, value_set=pa.array(SPECIAL_TOKENS))
    if which.null_count:
        tokenizer.special(names.filter(pc.is_null(which))[0].as_py())
    ids = np.array([tokenizer.special(name) for name in SPECIAL_TOKENS], dtype=np.uint32)
    return ids[which.to_numpy()]


def _encoded(
    file: pq.ParquetFile, part: Path, encoder: Encoder, counts: Counts
) -> Iterator[tuple[pa.Array, Encoded, pa.Array]]:
    """Ids, encoded documents and duplicates, a few documents at a time; adds to `counts`."""
    for read in file.iter_batches(DOCUMENTS_PER_READ, columns=READ.names):
        batch = as_stated(read, READ, part)
        spans = FlatSpans.of(batch)
        encoded = encode_documents(spans, encoder)
        empty = np.flatnonzero(encoded.lengths == 0)
        if len(empty):
            name = batch["id"][int(empty[0])].as_py()
            raise TokensError(f"{part}: document '{name}' has no tokens; empty documents belong in quarantine")
        _count(batch, spans, encoded, counts)
        yield batch["id"], encoded, batch["duplicates"]


def _count(batch: pa.RecordBatch, spans: FlatSpans, encoded: Encoded, counts: Counts) -> None:
    octets = pc.sum(pc.binary_length(spans.texts.filter(pc.not_equal(spans.kinds, "special")))).as_py() or 0
    numbers = (len(batch), len(encoded.tokens), int(encoded.loss_mask.sum()), octets)
    counts.update(dict(zip(TOTALS, numbers, strict=True)))
    powers = np.bincount(np.log2(encoded.lengths).astype(np.int64)).tolist()
    counts.add("lengths", {str(2**power): number for power, number in enumerate(powers) if number})
    duplicates = batch["duplicates"].to_numpy()
    for bucket in BUCKETS:
        low, high = bucket_range(bucket)
        inside = (duplicates >= low) & (duplicates <= high)
        if inside.any():
            own = {"documents": int(inside.sum()), "tokens": int(encoded.lengths[inside].sum())}
            counts.add(f"duplicates/{bucket}", own)
    counts.add("efforts", learned_replies(spans))
    for kind in ("source", "domain"):
        for name in pc.unique(batch[kind]).to_pylist():
            counts[f"{kind}/{name}"] = 1


def _gathered(batches: Iterable[tuple[pa.Array, Encoded, pa.Array]]) -> Iterator[pa.RecordBatch]:
    """Record batches of at least TOKENS_PER_BATCH tokens, but for the last."""
    held: list[tuple[pa.Array, Encoded, pa.Array]] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += len(batch[1].tokens)
        if size >= TOKENS_PER_BATCH:
            yield _record_batch(held)
            held, size = [], 0
    if held:
        yield _record_batch(held)


def _record_batch(held: list[tuple[pa.Array, Encoded, pa.Array]]) -> pa.RecordBatch:
    lengths, tokens, loss_mask = (
        np.concatenate([getattr(encoded, name) for _, encoded, _ in held])
        for name in ("lengths", "tokens", "loss_mask")
    )
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    columns = [
        pa.concat_arrays([ids for ids, _, _ in held]),
        pa.ListArray.from_arrays(offsets, pa.array(tokens), type=SCHEMA.field("tokens").type),
        pa.ListArray.from_arrays(offsets, pa.array(loss_mask), type=SCHEMA.field("loss_mask").type),
        pa.concat_arrays([duplicates for _, _, duplicates in held]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _entry(where: str, counts: Counts) -> dict[str, Any]:
    """What `counts.json` says of a source."""
    found = {bucket: counts.below(f"duplicates/{bucket}") for bucket in BUCKETS}
    efforts = counts.below("efforts")
    entry = {name: counts[name] for name in TOTALS} | {
        "domain": _only(counts, "domain", f"{where}: its parts are"),
        "lengths": counts.below("lengths"),
        "duplicates": {bucket: counted for bucket, counted in found.items() if counted},
    }
    return entry | ({"efforts": efforts} if efforts else {})


def _only(counts: Counts, kind: str, whose: str) -> str:
    """The one source or domain that is counted, "" when there are no documents. Raises TokensError for several."""
    names = list(counts.below(kind))
    if len(names) > 1:
        raise TokensError(f"{whose} of {kind}s {', '.join(names)}, expected one of each")
    return names[0] if names else ""


def _is_special(kinds: pa.Array) -> NDArray[np.bool_]:
    unknown = set(pc.unique(kinds).to_pylist()) - {"text", "frame", "special"}
    if unknown:
        raise TokensError(f"spans have kinds {sorted(unknown)}; expected 'text', 'frame' or 'special'")
    return pc.equal(kinds, "special").to_numpy(zero_copy_only=False)
