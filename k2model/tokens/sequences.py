"""Packing a phase: from token shards and a mixture to `sequences.arrow` and `composition.json`.

The phase is put together in memory (some 20 bytes per token), which is plenty for the laptop's phases;
phases beyond a machine's memory would be packed part by part, which is not done here.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from k2model.recipe.schema import Packing, PhaseConfig
from k2model.tokens import mixture
from k2model.tokens.errors import MixtureError, TokensError
from k2model.tokens.packing import Ints, Layout, Pieces, best_fit, concatenate
from k2model.tokens.ragged import flat_positions
from k2model.tokens.shards import TokenShard, open_shard, read_counts

SEQUENCES_FILE = "sequences.arrow"
COMPOSITION_FILE = "composition.json"
NO_SOURCE = 255  # of padding; also the largest number of sources a phase can have
ATTEMPTS = 8


@dataclass(frozen=True)
class PackedRows:
    """What `sequences.arrow` holds, each array [rows, T]."""

    tokens: NDArray[np.uint32]
    loss: NDArray[np.bool_]
    document: NDArray[np.int32]
    source: NDArray[np.uint8]


def pack_folder(tokens: Path, phase: PhaseConfig, folder: Path, max_epochs: float) -> dict[str, float]:
    """Pack `phase` from the tokens artifact in `tokens` into `folder`; returns the stats of the artifact.

    Raises MixtureError when the mixture cannot be drawn, TokensError when ids exceed the vocabulary.
    """
    counts = read_counts(tokens)
    names = mixture.drawn_sources(phase, counts["train"])
    shards = {name: open_shard(tokens, "train", name) for name in names}
    sources = mixture.sources_for(phase, counts, shards, max_epochs)
    if len(sources) > NO_SOURCE:
        raise MixtureError(f"phases.{phase.name}.mixture: {len(sources)} entries, at most {NO_SOURCE} are supported")
    layout = lay_out(sources, phase)
    rows = _assemble(layout, [shards[source.source] for source in sources], phase.sequence_length, counts["pad"])
    if int(rows.tokens.max()) >= counts["vocab_size"]:
        raise TokensError(f"{tokens}: holds token {rows.tokens.max()}, the vocabulary ends at {counts['vocab_size']}")
    _write(rows, folder / SEQUENCES_FILE, {source.name: source.domain for source in sources}, counts["vocab_size"])
    composition = _composition(layout, rows, sources, phase)
    (folder / COMPOSITION_FILE).write_text(json.dumps(composition, indent=1) + "\n", encoding="utf-8")
    return {name: float(composition[name]) for name in ("tokens", "targets", "documents", "padding")}


def lay_out(sources: list[mixture.Source], phase: PhaseConfig) -> Layout:
    """Exactly `steps * global_batch` rows in training order.

    How many tokens make that many rows is known only after packing, so the draw is repeated with all
    sources scaled alike until at most 1% of the rows are too many; the least full of those are left out.
    """
    wanted = phase.steps * phase.global_batch
    best: Layout | None = None
    scale = 1.0
    for _ in range(ATTEMPTS):
        layout = _draw_and_place(sources, phase, scale)
        if layout.rows >= wanted and (best is None or layout.rows < best.rows):
            best = layout
        if wanted <= layout.rows <= wanted * 1.01:
            break
        # A little more than proportional: too few rows are no use, a few too many are left out.
        scale *= wanted / max(layout.rows, 1) * 1.003
    while best is None or best.rows < wanted:
        scale *= 1.05
        best = _draw_and_place(sources, phase, scale)
    return _choose_rows(best, wanted, phase)


def _draw_and_place(sources: list[mixture.Source], phase: PhaseConfig, scale: float) -> Layout:
    drawn = [mixture.draw(source, source.share * phase.tokens * scale, phase.seed) for source in sources]
    index = np.repeat(np.arange(len(sources)), [len(documents) for documents in drawn])
    document = np.concatenate(drawn)
    length = np.concatenate([source.lengths[d] for source, d in zip(sources, drawn, strict=True)])
    pieces = Pieces(index, document, np.zeros_like(length), length)
    pieces = pieces.take(mixture.generator(phase.seed, "documents").permutation(len(pieces)))
    if phase.packing is Packing.CONCATENATE:
        return concatenate(pieces, phase.sequence_length)
    natural = np.array([source.natural for source in sources])
    return best_fit(pieces, natural[pieces.source], phase.sequence_length)


def _choose_rows(layout: Layout, wanted: int, phase: PhaseConfig) -> Layout:
    """Keep `wanted` rows: a stream keeps its order, packed rows lose the least full ones and are shuffled."""
    if phase.packing is Packing.CONCATENATE:
        kept = np.arange(wanted)
    else:
        filled = np.bincount(layout.row, weights=layout.pieces.length, minlength=layout.rows)
        fullest = np.sort(np.argsort(-filled, kind="stable")[:wanted])
        kept = mixture.generator(phase.seed, "rows").permutation(fullest)
    position = np.full(int(layout.row.max()) + 1, -1)
    position[kept] = np.arange(wanted)
    row = position[layout.row]
    inside = np.flatnonzero(row >= 0)
    inside = inside[np.argsort(row[inside], kind="stable")]
    return Layout(layout.pieces.take(inside), row[inside], layout.column[inside], wanted)


def _assemble(layout: Layout, shards: list[TokenShard], length: int, pad: int) -> PackedRows:
    size = layout.rows * length
    tokens = np.full(size, pad, dtype=np.uint32)
    loss = np.zeros(size, dtype=np.bool_)
    document = np.full(size, -1, dtype=np.int32)
    source = np.full(size, NO_SOURCE, dtype=np.uint8)
    pieces, begin = layout.pieces, layout.row * length + layout.column
    for index, shard in enumerate(shards):
        mine = np.flatnonzero(pieces.source == index)
        to = flat_positions(begin[mine], pieces.length[mine])
        starts = shard.starts[pieces.document[mine]] + pieces.start[mine]
        tokens[to], loss[to] = shard.gather(starts, pieces.length[mine])
        source[to] = index
    # Nothing in its row tells what the first token of a piece will be, also where a document was cut.
    loss[begin] = False
    first_of_row = np.searchsorted(layout.row, layout.row)
    within_row = (np.arange(len(pieces)) - first_of_row).astype(np.int32)
    document[flat_positions(begin, pieces.length)] = np.repeat(within_row, pieces.length)
    shape = (layout.rows, length)
    return PackedRows(tokens.reshape(shape), loss.reshape(shape), document.reshape(shape), source.reshape(shape))


def _write(rows: PackedRows, path: Path, domains: dict[str, str], vocab_size: int) -> None:
    """One record batch of fixed-size lists; the metadata holds what a reader must know before any row.

    `domains`: the domain of each source, in the order of their indices.
    """
    columns = {
        name: pa.FixedSizeListArray.from_arrays(
            pa.array(values.reshape(-1)),
            type=pa.list_(pa.field("item", pa.from_numpy_dtype(values.dtype), nullable=False), values.shape[1]),
        )
        for name, values in vars(rows).items()
    }
    digest = hashlib.sha256()
    for name, values in vars(rows).items():
        digest.update(f"{name} {values.shape} {values.dtype.str}\0".encode())
        digest.update(np.ascontiguousarray(values).data)
    metadata = {
        "sources": json.dumps(list(domains)),
        "domains": json.dumps(list(domains.values())),
        "vocab_size": str(vocab_size),
        "fingerprint": digest.hexdigest(),
    }
    schema = pa.schema([pa.field(n, c.type, nullable=False) for n, c in columns.items()], metadata=metadata)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(list(columns.values()), schema=schema))


def _composition(layout: Layout, rows: PackedRows, sources: list[mixture.Source], phase: PhaseConfig) -> dict[str, Any]:
    """What the rows really hold, against what the mixture wanted. Ratios are of documents or of positions."""
    pieces = layout.pieces
    tokens = np.bincount(rows.source.reshape(-1), minlength=NO_SOURCE + 1)[: len(sources)]
    targets = np.bincount(rows.source[rows.loss], minlength=NO_SOURCE + 1)[: len(sources)]
    begins = pieces.start == 0
    whole_length = np.zeros(len(pieces), dtype=np.int64)
    for index, source in enumerate(sources):
        mine = pieces.source == index
        whole_length[mine] = source.lengths[pieces.document[mine]]
    too_long = begins & (whole_length > phase.sequence_length)
    cut = begins & ~too_long & (pieces.length < whole_length)

    def per_source(mask: NDArray[np.bool_]) -> Ints:
        return np.bincount(pieces.source[mask], minlength=len(sources))

    documents, long_ones, cut_ones = per_source(begins), per_source(too_long), per_source(cut)
    total = int(tokens.sum())
    short = int(pieces.length[whole_length <= phase.mixing.short_tokens].sum())
    return {
        "sequence_length": phase.sequence_length,
        "rows": layout.rows,
        "packing": phase.packing.value,
        "tokens": total,
        "targets": int(targets.sum()),
        "documents": int(documents.sum()),
        "padding": 1 - total / rows.tokens.size,
        "split": int(long_ones.sum()) / max(int(documents.sum()), 1),
        "truncated": int(cut_ones.sum()) / max(int(documents.sum()), 1),
        "short_context": mixture.short_context(phase, sources, short / total),
        "sources": {
            source.name: {
                "domain": source.domain,
                "share_wanted": source.share,
                "share": int(tokens[i]) / total,
                "tokens": int(tokens[i]),
                "targets": int(targets[i]),
                "documents": int(documents[i]),
                "documents_split": int(long_ones[i]),
                "documents_truncated": int(cut_ones[i]),
                "epochs": int(tokens[i]) / source.tokens,
            }
            for i, source in enumerate(sources)
        },
    }
