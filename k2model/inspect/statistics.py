"""What a corpus, token shards or packed rows are made of: lengths and composition in numbers, and texts to compare.

Statistics are one pass over the columns that count, a group of rows at a time. Lengths of a corpus are bytes of text,
those of token shards and rows are tokens. Of texts, which tokenizers are compared on, no more is read than is asked
for.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from k2model.documents.spans import segments_of
from k2model.inspect.artifact import ArtifactView, LookingError, TableFile, stem

BY = ("domain", "source", "licence")


@dataclass(frozen=True)
class Bar:
    """Documents of `low` to `high` units, both included, and their units in all."""

    low: int
    high: int
    documents: int
    amount: int


@dataclass(frozen=True)
class Statistics:
    """`unit`: "tokens" or "bytes". `by`: documents and units for each value of a column."""

    name: str
    unit: str
    documents: int
    amount: int
    lengths: tuple[Bar, ...]
    by: dict[str, dict[str, tuple[int, int]]]

    def record(self) -> dict[str, Any]:
        return asdict(self)


def statistics_of(view: ArtifactView, split: str = "train") -> Statistics:
    """Lengths in powers of two, and what there is by domain, source and licence, as far as the files say it.

    Raises LookingError for files without documents.
    """
    documents: Counter[int] = Counter()
    amounts: Counter[int] = Counter()
    by: dict[str, dict[str, tuple[int, int]]] = {}
    unit = ""
    for counted, lengths, labels in _measured(view, split):
        unit = counted
        power = np.where(lengths > 0, np.frexp(lengths)[1], 0)
        for exponent in np.unique(power).tolist():
            documents[exponent] += int((power == exponent).sum())
            amounts[exponent] += int(lengths[power == exponent].sum())
        for name, column in labels.items():
            _add(by.setdefault(name, {}), column, lengths)
    bars = [
        Bar(1 << (e - 1) if e else 0, (1 << e) - 1, documents[e], amounts[e])
        for e in range(min(documents, default=0), max(documents, default=-1) + 1)
    ]
    largest_first = {n: dict(sorted(by[n].items(), key=lambda item: (-item[1][1], item[0]))) for n in BY if n in by}
    return Statistics(view.name, unit, documents.total(), amounts.total(), tuple(bars), largest_first)


Labels = dict[str, pa.Array]


def _measured(view: ArtifactView, split: str) -> Iterator[tuple[str, NDArray[np.int64], Labels]]:
    """Unit, lengths and labels of the documents, some at a time."""
    if view.sequences:
        yield from _pieces_of_rows(view)
        return
    shards = view.shard_sources(split)
    for path in view.tables(split):
        file = TableFile(view.files, path)
        for group in range(file.groups):
            if "tokens" in file.names:
                lengths = pc.list_value_length(file.read(group, ["tokens"])["tokens"])
                same = shards.get(stem(path), {"source": stem(path)})
                labels = {name: pa.repeat(value, len(lengths)) for name, value in same.items()}
                yield "tokens", lengths.to_numpy().astype(np.int64), labels
            elif "text" in file.names:
                table = file.read(group, ["text", *(name for name in BY if name in file.names)])
                lengths = pc.binary_length(pc.fill_null(table["text"], "")).to_numpy().astype(np.int64)
                yield "bytes", lengths, {name: table[name] for name in BY if name in table.column_names}
            else:
                raise LookingError(f"{path} has neither a column 'text' nor 'tokens'; it has {file.names}")


def _pieces_of_rows(view: ArtifactView, rows: int = 256) -> Iterator[tuple[str, NDArray[np.int64], Labels]]:
    """The documents of packed rows as they stand there, cut ones by their pieces."""
    from k2model.tokens import PackedSequences

    sequences = PackedSequences(view.folder())
    for first in range(0, len(sequences), rows):
        batches = [sequences.batch(row, 1) for row in range(first, min(first + rows, len(sequences)))]
        document = np.concatenate([batch["document"].numpy() for batch in batches])
        kind = np.concatenate([batch["source"].numpy() for batch in batches])
        begins = np.diff(document, axis=1, prepend=-2) != 0
        places = np.flatnonzero(begins)
        lengths = np.diff(np.append(places, document.size))
        real = document.reshape(-1)[places] >= 0
        owner = kind.reshape(-1)[places][real]
        names = {"source": sequences.sources, "domain": sequences.domains}
        labels = {name: pa.array([values[i] for i in owner.tolist()], pa.string()) for name, values in names.items()}
        yield "tokens", lengths[real].astype(np.int64), labels


def _add(found: dict[str, tuple[int, int]], column: pa.Array, lengths: NDArray[np.int64]) -> None:
    grouped = pa.table({"label": column, "length": lengths}).group_by("label")
    for row in grouped.aggregate([("length", "count"), ("length", "sum")]).to_pylist():
        documents, amount = found.get(row["label"], (0, 0))
        found[row["label"]] = (documents + row["length_count"], amount + row["length_sum"])


COLUMNS = ["domain", "text", "spans"]


def texts_by_domain(view: ArtifactView, split: str, limit: int) -> dict[str, list[str]]:
    """The first texts of each source of `view`, at most about `limit` UTF-8 bytes of a source.

    Reads row groups until a source has given its part, so that a corpus in an object store is not fetched. Documents
    are taken in their order, whole: a source gives at least one. Raises LookingError when these are no documents.
    """
    texts: dict[str, list[str]] = {}
    left: dict[str, int] = {}
    for path in view.tables(split):
        source = path.rpartition("/")[0] or path
        if left.setdefault(source, limit) <= 0:
            continue
        for domain, said in _documents(view, path):
            texts.setdefault(domain, []).extend(said)
            left[source] -= sum(len(text.encode("utf-8")) for text in said)
            if left[source] <= 0:
                break
    if not any(texts.values()):
        raise LookingError(f"{view.name}: no text in the split '{split}'; name a corpus, or measure the other split")
    return {domain: texts[domain] for domain in sorted(texts)}


def _documents(view: ArtifactView, path: str) -> Iterator[tuple[str, list[str]]]:
    """Domain and non-empty texts of each document of a file."""
    file = TableFile(view.files, path)
    if missing := set(COLUMNS) - set(file.names):
        raise LookingError(
            f"{view.name}/{path} has no column '{min(missing)}'; expected the documents of a corpus, not its tokens"
        )
    for group in range(file.groups):
        for row in file.read(group, COLUMNS).to_pylist():
            yield row["domain"], [s["text"] for s in segments_of(row) if s["kind"] == "text" and s["text"]]
