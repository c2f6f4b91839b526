"""The tables over all shards that the suites look at: schemas, identifiers, sources, mixtures.

Great Expectations sees pandas frames of plain columns. What it cannot compute (uniqueness over many
shards, shares of a mixture) is gathered here in one pass with Arrow, so that each rule itself stays a
declared expectation in `suites`. Nothing here decides pass or fail. Single documents: `measures`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from k2model.corpus.documents import DOCUMENT_SCHEMA, ITEM_SCHEMA, source_file
from k2model.errors import K2Error
from k2model.recipe.buckets import bucket_range
from k2model.recipe.mixtures import Available, portions
from k2model.recipe.schema import MixtureEntry

#: Text bytes behind one token. Deliberately more than BPE reaches on small vocabularies (2.5), so that
#: the epochs estimated before there is a tokenizer err on the high side.
BYTES_PER_TOKEN = 3.0


@dataclass(frozen=True)
class Corpus:
    """A corpus folder's tables, each by file stem (`chat-tools`)."""

    train: dict[str, pa.Table]
    heldout: dict[str, pa.Table]
    items: dict[str, pa.Table]

    @staticmethod
    def read(folder: Path) -> "Corpus":
        """Raises `K2Error` when there is no training shard or a file is not Parquet."""
        corpus = Corpus(*(_read_tables(folder / part) for part in ("train", "heldout", "items")))
        if not corpus.train:
            raise K2Error(f"{folder / 'train'} holds no *.parquet: this is not a corpus, or its build was cut short")
        return corpus

    def shards(self) -> Iterator[tuple[str, pa.Table, pa.Schema]]:
        """Name, table and the schema it should have, of every file."""
        for part, tables, schema in (
            ("train", self.train, DOCUMENT_SCHEMA),
            ("heldout", self.heldout, DOCUMENT_SCHEMA),
            ("items", self.items, ITEM_SCHEMA),
        ):
            for stem, table in tables.items():
                yield f"{part}/{stem}", table, schema


def schema_frame(corpus: Corpus) -> pd.DataFrame:
    """One row per file and column: `shard`, `column`, `type` found and `expected` ("-" = none)."""
    rows = []
    for shard, table, expected in corpus.shards():
        found = {field.name: _type_name(field.type) for field in table.schema}
        wanted = {field.name: _type_name(field.type) for field in expected}
        for column in sorted(found.keys() | wanted.keys()):
            rows.append((shard, column, found.get(column, "-"), wanted.get(column, "-")))
    return pd.DataFrame(rows, columns=["shard", "column", "type", "expected"])


def identifier_frame(corpus: Corpus) -> pd.DataFrame:
    """One row per distinct document id: `id`, `copies`, and the `first` and `last` shard that has it.

    A missing id is a defect of its document (see `suites`), not an id.
    """
    parts = [
        pa.table({"id": table["id"], "shard": pa.array([shard] * len(table), pa.string())})
        for shard, table, schema in corpus.shards()
        if schema is DOCUMENT_SCHEMA
    ]
    grouped = pa.concat_tables(parts).group_by("id").aggregate([("shard", "count"), ("shard", "min"), ("shard", "max")])
    frame = grouped.rename_columns(["id", "copies", "first", "last"]).to_pandas().dropna(subset=["id"])
    return frame.sort_values("id", ignore_index=True)


def heldout_frame(corpus: Corpus) -> pd.DataFrame:
    """One row per held-out document: `shard`, `id`, `text`, `trained_on` (is its text a training text too?)."""
    trained = pa.concat_arrays([chunk for table in corpus.train.values() for chunk in table["text"].chunks])
    frames = [
        pd.DataFrame(
            {
                "shard": stem,
                "id": table["id"].to_pandas(),
                "text": table["text"].to_pandas(),
                "trained_on": pc.is_in(table["text"], value_set=trained).to_pandas(),
            }
        )
        for stem, table in corpus.heldout.items()
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def item_frame(corpus: Corpus) -> pd.DataFrame:
    """One row per evaluation item with its `shard`, and `copies` of its id within the family."""
    frames = [table.to_pandas().assign(shard=stem) for stem, table in corpus.items.items()]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return frame.assign(copies=frame.groupby(["shard", "id"])["id"].transform("size")) if len(frame) else frame


def source_frame(train: Mapping[str, pa.Table], quarantined: Mapping[str, int]) -> pd.DataFrame:
    """One row per source: `documents` read, `quarantined` of them and the fraction, `tokens` estimated."""
    rows = []
    for stem, table in train.items():
        documents, bad = len(table), quarantined.get(stem, 0)
        rows.append((stem, documents, bad, bad / max(documents, 1), estimated_tokens(table)))
    return pd.DataFrame(rows, columns=["source", "documents", "quarantined", "quarantined_fraction", "tokens"])


def mixture_frame(
    mixtures: Mapping[str, Sequence[MixtureEntry]], phase_tokens: Mapping[str, int], train: Mapping[str, pa.Table]
) -> pd.DataFrame:
    """One row per phase and entry of its mixture: `share` wanted, `documents`, `tokens`, `epochs` needed.

    `epochs` is null where the phase's length is not in `phase_tokens`.
    """
    rows = []
    entries = {(entry.source, entry.bucket) for mixture in mixtures.values() for entry in mixture}
    have = {key: _estimated(train.get(source_file(key[0])), key[1]) for key in sorted(entries)}
    available = {key: Available(tokens, tokens) for key, (_, tokens) in have.items()}
    for phase, mixture in mixtures.items():
        length = phase_tokens.get(phase, 1)
        for portion in portions(mixture, length, available):
            documents, tokens = have[portion.entry.source, portion.entry.bucket]
            epochs = (portion.share or 0.0) * length / max(tokens, 1) if phase in phase_tokens else None
            rows.append((phase, portion.entry.name, portion.share, documents, tokens, epochs))
    return pd.DataFrame(rows, columns=["phase", "source", "share", "documents", "tokens", "epochs"])


def _estimated(table: pa.Table | None, bucket: str) -> tuple[int, int]:
    """Documents and estimated tokens of one bucket of a source; 0 where the corpus does not have it."""
    if table is None:
        return 0, 0
    if bucket:
        low, high = bucket_range(bucket)
        found = pc.and_(pc.greater_equal(table["duplicates"], low), pc.less_equal(table["duplicates"], high))
        table = table.filter(found)
    return len(table), estimated_tokens(table)


def estimated_tokens(table: pa.Table) -> int:
    """Tokens of a shard before there is a tokenizer: specials one each, text by its bytes."""
    segments = table["segments"].combine_chunks().flatten()
    if not len(segments):
        return 0
    is_text = pc.equal(segments.field("kind"), "text")
    text_bytes = pc.sum(pc.binary_length(segments.field("text").filter(is_text))).as_py() or 0
    specials = len(segments) - (pc.sum(is_text).as_py() or 0)
    return int(text_bytes / BYTES_PER_TOKEN) + specials


def _read_tables(folder: Path) -> dict[str, pa.Table]:
    """Each table by the name of its source (a folder of parts) or family (a file)."""
    tables: dict[str, pa.Table] = {}
    for path in sorted(folder.rglob("*.parquet")):
        name = path.relative_to(folder).with_suffix("").parts[0]
        try:
            table = pq.read_table(path, partitioning=None)
            tables[name] = pa.concat_tables([tables[name], table]) if name in tables else table
        except (pa.ArrowInvalid, OSError) as error:
            raise K2Error(f"{path} cannot be read as Parquet ({error}); delete the artifact and run again") from error
    return tables


def _type_name(kind: pa.DataType) -> str:
    """A type by its content: Parquet renames the elements of lists and forgets what may not be null."""
    if pa.types.is_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return "struct<" + ", ".join(f"{field.name}: {_type_name(field.type)}" for field in kind) + ">"
    return str(kind)
