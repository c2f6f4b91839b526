"""Packed rows as samples: what stands in one row of a phase, document by document."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from k2model.inspect.artifact import Holding, LookingError
from k2model.inspect.samples import Query, Sample, spans_of

if TYPE_CHECKING:
    from k2model.tokens import K2Tokenizer


def rows_of(holding: Holding, query: Query, decoder: "K2Tokenizer") -> Iterator[Sample]:
    """The rows of a phase that hold what `query` asks for, in training order or, with a seed, in any other.

    Raises LookingError for a source or domain that the phase does not have, and for reasons, which rows lack.
    """
    from k2model.tokens import PackedSequences

    sequences = PackedSequences(holding.folder())
    if query.reason:
        raise LookingError(f"{holding.name} are packed rows; reasons are those of a corpus: name corpus_valid")
    for wanted, known in ((query.source, sequences.sources), (query.domain, sequences.domains)):
        if wanted and wanted not in known:
            raise LookingError(f"{holding.name} has no '{wanted}'; there are {', '.join(sorted(set(known)))}")
    order = np.arange(len(sequences))
    if query.seed is not None:
        order = np.random.default_rng(query.seed).permutation(order)
    for row in order.tolist():
        values = {name: tensor[0].tolist() for name, tensor in sequences.batch(row, 1).items()}
        kinds = sorted({kind for kind in values["source"] if kind < len(sequences.sources)})
        names = [sequences.sources[kind] for kind in kinds]
        if query.source and query.source not in names:
            continue
        if query.domain and query.domain not in {sequences.domains[kind] for kind in kinds}:
            continue
        spans = tuple(spans_of(values["tokens"], values["loss_mask"], values["document"], decoder))
        if query.search and not any(query.search.lower() in span.text.lower() for span in spans):
            continue
        begins = {number: values["source"][i] for i, number in reversed(list(enumerate(values["document"])))}
        facts = {
            "row": row,
            "documents": [sequences.sources[begins[number]] for number in sorted(begins) if number >= 0],
            "tokens": sum(number >= 0 for number in values["document"]),
            "targets": sum(values["loss_mask"]),
            "padding": sum(number < 0 for number in values["document"]),
        }
        yield Sample(f"row {row}", facts, spans)
