"""Pages of samples: documents, evaluation items, quarantined rows, token documents or packed rows, as one reads them.

Nothing is read that is not shown or searched: files are taken a group of rows at a time, and groups before
the page are passed over by their row counts. Without a seed samples come in the order of the files; with one,
from anywhere. What is shown how on a terminal is the command line's.
"""

import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.documents.spans import segments_of
from k2model.errors import CorpusError
from k2model.inspect.artifact import ArtifactView, LookingError, TableFile, stem
from k2model.inspect.rejects import QUARANTINED, is_kept_as_rows, rules_of

if TYPE_CHECKING:
    from k2model.tokens import K2Tokenizer

FIELDS = (
    "id", "source", "domain", "licence", "origin", "duplicates", "key", "reason", "detail", "file", "row",
    "family", "context", "meta",
)  # fmt: skip

SEARCHED = ["text", "prompt"]  # of a document, of an evaluation item


@dataclass(frozen=True)
class Query:
    """Which samples. "" = any. `reason`: of the quarantine, `quarantined` = all of it. Pages count from 1."""

    split: str = "train"
    source: str = ""
    domain: str = ""
    reason: str = ""
    search: str = ""
    n: int = 5
    page: int = 1
    seed: int | None = None


@dataclass(frozen=True)
class Span:
    """A stretch of text. `target`: whether it is learned, or an item's answer; `document`: its number in a packed
    row, -1 = padding."""

    text: str
    target: bool = True
    special: bool = False
    document: int = 0


@dataclass(frozen=True)
class Sample:
    """`at`: the file (or row) it stands in. `fields`: what is known of it, in the order to show."""

    at: str
    fields: dict[str, Any]
    spans: tuple[Span, ...]

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans)

    def record(self) -> dict[str, Any]:
        return {"at": self.at, **self.fields, "text": self.text, "spans": [asdict(span) for span in self.spans]}


@dataclass(frozen=True)
class Unit:
    """A group of rows of a file, and the source and domain of token shards, which do not say it row by row."""

    file: TableFile
    group: int
    fields: dict[str, Any] = field(default_factory=dict)


def samples_of(view: ArtifactView, query: Query, tokenizer: str = "") -> list[Sample]:
    """The page that `query` asks for, empty behind the last. `tokenizer`: a folder, where ids have to be decoded and
    the ledger does not name one. Raises LookingError for a split, source or domain that is not there."""
    if view.sequences:
        found = rows_of(view, query, view.tokenizer(tokenizer))
        return list(islice(found, (query.page - 1) * query.n, query.page * query.n))
    if query.reason and not is_kept_as_rows(view, query.reason):
        return dropped_samples(view, query)
    units = _units(view, query)
    decoder = view.tokenizer(tokenizer) if units and "tokens" in units[0].file.names else None
    first, last = (query.page - 1) * query.n, query.page * query.n
    if query.seed is None:
        places = islice(_places(units, query, decoder), first, last)
    elif query.search or query.domain or _reason(query):
        mixed = random.Random(query.seed).sample(units, len(units))
        places = islice(_places(mixed, query, decoder), first, last)
    else:
        places = islice(_anywhere(units, query.seed), first, last)
    return [_sample(unit, unit.file.read(unit.group), row, decoder) for unit, row in places]


def _units(view: ArtifactView, query: Query) -> list[Unit]:
    split = "quarantine" if query.reason else query.split
    counts = view.shard_sources(split)
    units = []
    for path in view.tables(split, query.source):
        known = counts.get(stem(path), {})
        if not known or query.domain in ("", known["domain"]):
            file = TableFile(view.files, path)
            units += [Unit(file, group, known) for group in range(file.groups)]
    for asked, columns in ((query.domain, ["domain"]), (query.search, SEARCHED)):
        if asked and units and not counts and not set(columns) & set(units[0].file.names):
            raise LookingError(
                f"{units[0].file.path} has no column '{columns[0]}' to look for; it has {units[0].file.names}"
            )
    if not units and query.domain and counts:
        there = sorted({entry["domain"] for entry in counts.values()})
        raise LookingError(f"{view.name} has no domain '{query.domain}'; there are {', '.join(there)}")
    return units


def _places(units: list[Unit], query: Query, decoder: "K2Tokenizer | None") -> Iterator[tuple[Unit, int]]:
    """Where samples that match stand: group and row, found from as few columns as decide it."""
    for unit in units:
        rows = _rows_to_show(unit, query)
        if decoder is None or not query.search:
            yield from ((unit, row) for row in rows)
            continue
        ids = unit.file.read(unit.group, ["tokens"])["tokens"]
        for row in rows:
            if query.search.lower() in decoder.decode(ids[row].as_py()).lower():
                yield unit, row


def _rows_to_show(unit: Unit, query: Query) -> list[int]:
    """Numbers of the rows that match, from the columns that decide it alone."""
    columns = [name for name, wanted in (("domain", query.domain), ("reason", _reason(query))) if wanted]
    if query.search:
        columns += [name for name in SEARCHED if name in unit.file.names][:1]
    columns = [name for name in columns if name in unit.file.names]
    keep = pa.array([True] * unit.file.rows(unit.group))
    if columns:
        table = unit.file.read(unit.group, columns).combine_chunks()
        for name in columns:
            keep = pc.and_(keep, pc.fill_null(_matches(table[name], name, query), False)).combine_chunks()
    rows = pc.indices_nonzero(keep).to_pylist()
    if query.seed is not None:
        random.Random(f"{query.seed}:{unit.file.path}:{unit.group}").shuffle(rows)
    return rows


def _matches(column: pa.ChunkedArray, name: str, query: Query) -> pa.ChunkedArray:
    if name == "domain":
        return pc.equal(column, query.domain)
    if name in SEARCHED:
        return pc.match_substring(column, query.search, ignore_case=True)
    # One row may have several reasons: "too_short, not_ascii".
    return pc.match_substring(pc.binary_join_element_wise(", ", column, ", ", ""), f", {_reason(query)}, ")


def _reason(query: Query) -> str:
    return "" if query.reason == QUARANTINED else query.reason


def _anywhere(units: list[Unit], seed: int) -> Iterator[tuple[Unit, int]]:
    """Rows drawn from all rows alike, each once however far one pages."""
    ends = list(accumulate(unit.file.rows(unit.group) for unit in units))
    rng, drawn = random.Random(seed), set[int]()
    while ends and len(drawn) < ends[-1]:
        position = rng.randrange(ends[-1])
        if position not in drawn:
            drawn.add(position)
            index = bisect_right(ends, position)
            yield units[index], position - (ends[index - 1] if index else 0)


def _sample(unit: Unit, table: pa.Table, row: int, decoder: "K2Tokenizer | None") -> Sample:
    values = table.slice(row, 1).to_pylist()[0]
    at = f"{unit.file.path} group {unit.group} row {row}"
    known = values | unit.fields
    fields = {name: known[name] for name in FIELDS if known.get(name) not in (None, "")}
    if decoder is not None:
        fields |= {"tokens": len(values["tokens"]), "targets": sum(values["loss_mask"])}
        runs = spans_of(values["tokens"], values["loss_mask"], [0] * len(values["tokens"]), decoder)
        return Sample(at, fields, tuple(runs))
    if isinstance(values.get("text"), str):
        spans = _spans_of_document(values)
    elif isinstance(values.get("prompt"), str) and isinstance(values.get("answer"), str):
        spans = [Span(values["prompt"], target=False), Span(f"\n{values['answer']}")]
    else:
        spans = [Span(str({k: v for k, v in values.items() if k not in fields}))]
    return Sample(at, fields | {"bytes": len("".join(s.text for s in spans if not s.special).encode())}, tuple(spans))


def _spans_of_document(values: dict[str, Any]) -> list[Span]:
    """A document's own; its text as one where it has none, or some that do not cover it, as in a quarantine."""
    try:
        return [Span(s["text"], s["loss_mask"], s["kind"] == "special") for s in segments_of(values)]
    except (KeyError, TypeError, CorpusError):
        return [Span(values["text"])]


def spans_of(ids: list[int], loss_mask: list[bool], document: list[int], decoder: "K2Tokenizer") -> Iterator[Span]:
    """Runs of ids that are alike in being targets and in their document, as text."""
    start = 0
    for end in range(1, len(ids) + 1):
        if end == len(ids) or (loss_mask[end], document[end]) != (loss_mask[start], document[start]):
            yield Span(decoder.decode(ids[start:end]), bool(loss_mask[start]), False, document[start])
            start = end


def dropped_samples(view: ArtifactView, query: Query) -> list[Sample]:
    """The page of `query` from the samples that `curation.json` keeps of each rule."""
    found = [
        Sample(f"curation.json {split}", {"reason": rule, "source": source, "split": split}, (Span(text),))
        for split, source, rule, entry in rules_of(view)
        for text in entry["samples"]
        if query.reason in (QUARANTINED, rule) and query.source in ("", source) and query.search.lower() in text.lower()
    ]
    return found[(query.page - 1) * query.n : query.page * query.n]


def rows_of(view: ArtifactView, query: Query, decoder: "K2Tokenizer") -> Iterator[Sample]:
    """The rows of a phase that hold what `query` asks for, in training order or, with a seed, in any other.

    Raises LookingError for a source or domain that the phase does not have, and for reasons, which rows lack.
    """
    from k2model.tokens import PackedSequences

    sequences = PackedSequences(view.folder())
    if query.reason:
        raise LookingError(f"{view.name} are packed rows; reasons are those of a corpus: name corpus_valid")
    for wanted, known in ((query.source, sequences.sources), (query.domain, sequences.domains)):
        if wanted and wanted not in known:
            raise LookingError(f"{view.name} has no '{wanted}'; there are {', '.join(sorted(set(known)))}")
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
        fields = {
            "row": row,
            "documents": [sequences.sources[begins[number]] for number in sorted(begins) if number >= 0],
            "tokens": sum(number >= 0 for number in values["document"]),
            "targets": sum(values["loss_mask"]),
            "padding": sum(number < 0 for number in values["document"]),
        }
        yield Sample(f"row {row}", fields, spans)
