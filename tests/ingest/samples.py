"""Small real files of every format, and one call that ingests a source whole."""

import bz2
import json
import lzma
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.documents.schema import DOCUMENT_SCHEMA, Document, parts_of, read_documents
from k2model.ingest import ingest_part, list_inputs, split_inputs, total_counts
from k2model.recipe.schema import SourceConfig

ROWS = [
    {"text": f"Row {i} says naïve things, مرحبا {'again ' * (i % 7)}.", "meta": {"licence": "MIT" if i % 2 else None}}
    for i in range(40)
]
WHOLE = 10**12


class Ingested(NamedTuple):
    train: list[Document]
    heldout: list[Document]
    quarantine: list[dict[str, Any]]
    counts: dict[str, Any]

    @property
    def documents(self) -> list[Document]:
        return self.train + self.heldout


def source(location: Path | str, **settings: Any) -> SourceConfig:
    return SourceConfig("web/cc", location=str(location), **{"domain": "prose", "licence": "CC-BY-4.0", **settings})


def ingest(config: SourceConfig, folder: Path, part_bytes: int = WHOLE) -> Ingested:
    parts = split_inputs(config, list_inputs(config), part_bytes)
    counts = total_counts(ingest_part(config, part, folder) for part in parts)
    sides = []
    for side in ("train", "heldout"):
        paths = parts_of(folder, side, config.name)
        assert len(paths) == len(parts)
        assert all(pq.read_schema(path).equals(DOCUMENT_SCHEMA) for path in paths)
        sides.append([document for path in paths for document in read_documents(path)])
    aside = [row for path in parts_of(folder, "quarantine", config.name) for row in pq.read_table(path).to_pylist()]
    assert counts["documents"] == len(sides[0]) and counts["heldout"] == len(sides[1])
    assert sum(counts["quarantined"].values()) == len(aside)
    return Ingested(*sides, aside, counts)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any] | bytes]) -> bytes:
    """Rows as JSON lines, or bytes as they are; compressed by the file's name. Returns the plain content."""
    lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    content = b"".join(line + b"\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(compressed(content, path.suffix))
    return content


def compressed(content: bytes, suffix: str) -> bytes:
    if suffix == ".xz":
        return lzma.compress(content)
    if suffix == ".bz2":
        return bz2.compress(content)
    kind = {".gz": "gzip", ".zst": "zstd"}.get(suffix)
    return pa.Codec(kind).compress(content, asbytes=True) if kind else content


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]] | pa.Table, row_group_size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows))
    pq.write_table(table, path, row_group_size=row_group_size)


def write_arrow(path: Path, rows: Iterable[Mapping[str, Any]], stream: bool = True, batch: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(rows))
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(str(path), table.schema) as writer:
        writer.write_table(table, batch)


def reasons(found: Ingested) -> list[tuple[str, int]]:
    return [(row["reason"], row["row"]) for row in found.quarantine]
