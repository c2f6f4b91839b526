"""Packing a phase: from token shards and a mixture to blocks of rows and `composition.json`.

Lengths are planned for the whole phase at once (some 200 bytes a document); tokens pass through block by block
(`k2model.tokens.assembly`), so a phase may be larger than the machine's memory. Documents longer than a row are split
over rows or, where a phase says so, skipped and counted.
"""

import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from k2model.documents.markup import EFFORTS
from k2model.errors import MixtureError, TokensError
from k2model.recipe.schema import LongDocuments, Packing, PhaseConfig
from k2model.tokens import mixture
from k2model.tokens.assembly import Assembler
from k2model.tokens.mixture import in_bucket
from k2model.tokens.packing import Ints, Layout, Pieces, best_fit, concatenate
from k2model.tokens.ragged import exclusive_sum
from k2model.tokens.rows import BLOCK_TOKENS, BLOCKS_PER_PART, COMPOSITION_FILE, NO_SOURCE, RowsIndex, write_rows
from k2model.tokens.shards import TokenShard, open_shard, read_counts


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
        self.lengths, self.duplicates = shard.lengths[self.fitting], shard.duplicates[self.fitting]
        self.batches = shard.batches
        if len(self.skipped) and not len(self.fitting):
            raise MixtureError(
                f"phases.{phase.name}.mixture.{name}: all {len(fits):,} documents are longer than a row of "
                f"{phase.sequence_length:,} tokens and would be skipped; set phases.{phase.name}.long_documents=split, "
                "raise its sequence_length, or leave the source out"
            )

    @cached_property
    def targets(self) -> Ints:
        return self.shard.targets[self.fitting]

    def skipped_of(self, bucket: str) -> int:
        """How many documents of a bucket of duplicates ("" = all) do not fit."""
        skipped = in_bucket(self.shard.duplicates[self.skipped], bucket)
        return len(self.skipped if skipped is None else skipped)

    def locate(self, documents: Ints, starts: Ints) -> tuple[Ints, Ints]:
        return self.shard.locate(self.fitting[documents], starts)


ATTEMPTS = 8
TOO_MANY = 0.02  # of the rows
SURPLUS = 1.003  # tokens drawn for each wanted: too few rows are no use, a few too many are left out


def pack_folder(
    tokens: Path,
    phase: PhaseConfig,
    folder: Path,
    max_epochs: float,
    *,
    block_tokens: int = BLOCK_TOKENS,
    blocks_per_part: int = BLOCKS_PER_PART,
) -> dict[str, float]:
    """Pack `phase` from the tokens artifact in `tokens` into `folder`; returns the stats of the artifact.

    Raises MixtureError when the mixture cannot be drawn, TokensError when ids exceed the vocabulary.
    """
    counts = read_counts(tokens)
    sources, shards, layout = planned_rows(tokens, phase, max_epochs)
    assembler = Assembler(layout, shards, phase.sequence_length, counts["pad"])
    index = RowsIndex(
        rows=layout.rows,
        sequence_length=phase.sequence_length,
        rows_per_block=max(1, block_tokens // phase.sequence_length),
        blocks_per_part=blocks_per_part,
        sources=[source.name for source in sources],
        domains=[source.domain for source in sources],
        vocab_size=counts["vocab_size"],
        pad=counts["pad"],
    )
    write_rows(folder, assembler.blocks(index.rows_per_block), index)
    if assembler.largest >= counts["vocab_size"]:
        raise TokensError(f"{tokens}: holds token {assembler.largest}, the vocabulary ends at {counts['vocab_size']}")
    buckets = {entry.name: entry.bucket for entry in phase.mixture}
    skipped = [shard.skipped_of(buckets[source.name]) for source, shard in zip(sources, shards, strict=True)]
    composition = _composition(layout, assembler.targets, sources, skipped, phase, counts["train"])
    (folder / COMPOSITION_FILE).write_text(json.dumps(composition, indent=1) + "\n", encoding="utf-8")
    return {name: float(composition[name]) for name in ("tokens", "targets", "documents", "padding")}


def planned_rows(
    tokens: Path, phase: PhaseConfig, max_epochs: float
) -> tuple[list[mixture.Source], list[FittingDocuments], Layout]:
    """The entries of a phase's mixture, the documents of each, and where their pieces lie in the phase's rows: a
    function of the phase and the documents' lengths, so that nothing need be kept of it.

    Raises MixtureError when the mixture cannot be drawn.
    """
    counts = read_counts(tokens)
    names = mixture.drawn_sources(phase, counts["train"])
    documents = {name: FittingDocuments(name, open_shard(tokens, "train", name), phase) for name in names}
    sources = mixture.sources_for(phase, counts, documents, max_epochs)
    if len(sources) > NO_SOURCE:
        raise MixtureError(f"phases.{phase.name}.mixture: {len(sources)} entries, at most {NO_SOURCE} are supported")
    return sources, [documents[source.source] for source in sources], lay_out(sources, phase)


def lay_out(sources: list[mixture.Source], phase: PhaseConfig) -> Layout:
    """Exactly `steps * global_batch` rows in training order.

    How many tokens make that many rows is known only after packing, so the draw is repeated with all
    sources scaled alike until at most `TOO_MANY` of the rows are too many. The least full are left out, those with
    documents of entries that are taken whole last.
    """
    wanted = phase.steps * phase.global_batch
    best: Layout | None = None
    scale = SURPLUS
    for _ in range(ATTEMPTS):
        placed = _draw_and_place(sources, phase, scale)
        if placed.rows >= wanted and (best is None or placed.rows < best.rows):
            best = placed
        if wanted <= placed.rows <= wanted * (1 + TOO_MANY):
            break
        scale *= SURPLUS * wanted / max(placed.rows, 1)
    while best is None or best.rows < wanted:
        scale *= 1.05
        best = _draw_and_place(sources, phase, scale)
    if phase.packing is Packing.CONCATENATE:
        return best.chosen(np.arange(wanted))  # a stream keeps its order
    whole = np.array([source.least > 0 for source in sources])  # entries of which every document is to be seen
    fullest = best.fullest(wanted, whole[best.pieces.source])
    return best.chosen(mixture.generator(phase.seed, "rows").permutation(fullest))


def _draw_and_place(sources: list[mixture.Source], phase: PhaseConfig, scale: float) -> Layout:
    drawn = [mixture.draw(source, source.share * phase.tokens * scale, phase.seed) for source in sources]
    counts = [len(documents) for documents in drawn]
    index, document = np.repeat(np.arange(len(sources)), counts), np.concatenate(drawn)
    length = np.concatenate([source.lengths[d] for source, d in zip(sources, drawn, strict=True)])
    order = mixture.generator(phase.seed, "documents").permutation(len(document))
    pieces = Pieces(index, document, np.zeros_like(document), length).take(order)
    if phase.packing is Packing.CONCATENATE:
        return concatenate(pieces, phase.sequence_length)
    natural = np.array([source.natural for source in sources])
    return best_fit(pieces, natural[pieces.source], phase.sequence_length)


def _composition(
    layout: Layout,
    targets: Ints,
    sources: list[mixture.Source],
    skipped: list[int],
    phase: PhaseConfig,
    counts: Mapping[str, Any],
) -> dict[str, Any]:
    """What the rows really hold, against what the mixture wanted. Ratios are of documents or of positions; `efforts`
    are the assistant's turns that are learned, as they lie in the documents of the sources on average."""
    pieces = layout.pieces
    begins = pieces.start == 0
    first = exclusive_sum(np.array([len(source.lengths) for source in sources]))
    whole_length = np.concatenate([source.lengths for source in sources])[first[pieces.source] + pieces.document]
    too_long = begins & (whole_length > phase.sequence_length)
    cut = begins & ~too_long & (pieces.length < whole_length)

    def per_source(mask: NDArray[np.bool_]) -> Ints:
        return np.bincount(pieces.source[mask], minlength=len(sources))

    tokens = np.bincount(pieces.source, pieces.length, len(sources)).astype(np.int64)
    documents, long_ones, cut_ones = per_source(begins), per_source(too_long), per_source(cut)
    total, all_documents = int(tokens.sum()), max(int(documents.sum()), 1)
    available = sum(len(source.drawable(source.lengths)) for source in sources) + sum(skipped)
    replies: dict[str, float] = dict.fromkeys(EFFORTS, 0.0)
    for source, drawn in zip(sources, documents.tolist(), strict=True):
        for effort, number in counts[source.source].get("efforts", {}).items():
            replies[effort] += number * drawn / counts[source.source]["documents"]
    short = int(pieces.length[whole_length <= phase.mixing.short_tokens].sum())
    return {
        "sequence_length": phase.sequence_length,
        "rows": layout.rows,
        "packing": phase.packing.value,
        "long_documents": phase.long_documents.value,
        "tokens": total,
        "targets": int(targets.sum()),
        "documents": int(documents.sum()),
        "padding": 1 - total / (layout.rows * phase.sequence_length),
        "split": int(long_ones.sum()) / all_documents,
        "truncated": int(cut_ones.sum()) / all_documents,
        "skipped": sum(skipped) / max(available, 1),
        "efforts": {effort: math.ceil(number) for effort, number in replies.items() if number},
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
                "documents_skipped": skipped[i],
                "epochs": int(tokens[i]) / source.tokens,
            }
            for i, source in enumerate(sources)
        },
    }
