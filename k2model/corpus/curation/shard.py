"""One source's documents while they are curated: the table, which rows still live, what they stand for.

Only natural text, a few thousand rows, is taken apart into Python objects; the generated sources
stay Arrow tables from which rows are dropped.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.corpus.curation.normalise import is_clean, normalise
from k2model.corpus.documents import DOCUMENT_SCHEMA, part_path, parts_of

NATURAL = ("prose", "code")


@dataclass
class Shard:
    """`side` is train or heldout; `alive` and `duplicates` go with the table's rows."""

    source: str
    side: str
    table: pa.Table
    texts: list[str]
    alive: list[bool] = field(init=False)
    duplicates: list[int] = field(init=False)
    sizes: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.alive = [True] * len(self.texts)
        self.duplicates = self.table["duplicates"].to_pylist()
        self.measure()

    @property
    def natural(self) -> bool:
        return self.source in NATURAL

    def measure(self) -> None:
        self.sizes = [len(text.encode("utf-8", "surrogatepass")) for text in self.texts]

    def living(self) -> list[int]:
        return [row for row, alive in enumerate(self.alive) if alive]

    def totals(self) -> dict[str, int]:
        rows = self.living()
        return {"documents": len(rows), "bytes": sum(self.sizes[row] for row in rows)}

    def body(self, row: int) -> str:
        """A natural document's text without its special tokens."""
        return self.table["segments"][row].as_py()[1]["text"]

    def normalise(self) -> int:
        """Bring every document into its one form; returns how many changed."""
        if not self.natural and all(map(is_clean, self.texts)):
            return 0
        documents = [normalise(document, self.natural) for document in self.table.to_pylist()]
        changed = sum(document["text"] != text for document, text in zip(documents, self.texts, strict=True))
        self.table = pa.Table.from_pylist(documents, schema=DOCUMENT_SCHEMA)
        self.texts = [document["text"] for document in documents]
        self.measure()
        return changed

    def write(self, folder: Path) -> None:
        position = DOCUMENT_SCHEMA.get_field_index("duplicates")
        counts = pa.array(self.duplicates, type=pa.int32())
        counted = self.table.set_column(position, DOCUMENT_SCHEMA.field(position), counts)
        path = part_path(folder, self.side, self.source)
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = counted.filter(pa.array(self.alive, type=pa.bool_())).cast(DOCUMENT_SCHEMA).combine_chunks()
        pq.write_table(kept, path, compression="zstd", row_group_size=16_384)


def read_shard(folder: Path, side: str, source: str) -> Shard:
    parts = [pq.read_table(path, schema=DOCUMENT_SCHEMA, partitioning=None) for path in parts_of(folder, side, source)]
    table = pa.concat_tables(parts)
    return Shard(source, side, table, table["text"].to_pylist())
