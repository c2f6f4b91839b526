"""The two tables of a corpus artifact, documents and evaluation items, and how they are stored.

Files are written so that equal rows give equal bytes: fixed schema, fixed compression, rows in the
order given. What a document says is the builders' business.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa

from k2model.documents.markup import Segment, joined
from k2model.documents.spans import SPANS_TYPE, Span, to_spans
from k2model.documents.tables import ROW_GROUP_ROWS, read_table, required, write_table
from k2model.errors import CorruptArtifact
from k2model.plain import NotPlain, read_as
from k2model.recipe.source_problems import source_file

DOCUMENT_SCHEMA = required(
    id=pa.string(),
    source=pa.string(),
    domain=pa.string(),
    licence=pa.string(),
    origin=pa.string(),
    text=pa.string(),
    spans=SPANS_TYPE,
    key=pa.string(),
    duplicates=pa.int32(),
)

ITEM_SCHEMA = required(
    id=pa.string(),
    family=pa.string(),
    key=pa.string(),
    prompt=pa.string(),
    answer=pa.string(),
    context=pa.int32(),
    meta=pa.string(),
)


class Document(TypedDict):
    id: str
    source: str
    domain: str
    licence: str
    origin: str
    text: str
    spans: list[Span]
    key: str
    duplicates: int


class Item(TypedDict):
    id: str
    family: str
    key: str
    prompt: str
    answer: str
    context: int
    meta: str


def make_document(
    source: str, domain: str, licence: str, origin: str, segments: list[Segment], key: str = ""
) -> Document:
    """One document; its id is a function of source, origin and content."""
    text = joined(segments)
    return {
        "id": content_id(source, origin, text),
        "source": source,
        "domain": domain,
        "licence": licence,
        "origin": origin,
        "text": text,
        "spans": to_spans(segments),
        "key": key,
        "duplicates": 1,
    }


def make_item(
    family: str, key: str, prompt: str, answer: str, context: int = 0, meta: dict[str, Any] | None = None
) -> Item:
    return {
        "id": content_id(family, key, prompt),
        "family": family,
        "key": key,
        "prompt": prompt,
        "answer": answer,
        "context": context,
        "meta": json.dumps(meta or {}, sort_keys=True, ensure_ascii=False),
    }


def choices_of(item: Item) -> tuple[list[str], int]:
    """The choices of an item that has some, and the index of the right one."""
    meta = json.loads(item["meta"])
    return meta["choices"], meta["index"]


def content_id(*parts: str) -> str:
    """24 hex digits of sha256 over the parts, each closed by a zero byte."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:24]


def is_heldout(key: str) -> bool:
    """Whether a content key belongs to the tenth that is never trained on (md5 of the key)."""
    return int(hashlib.md5(key.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest(), 16) % 10 == 0


def part_path(folder: Path, split: str, source: str, part: int = 0) -> Path:
    """The file of one part of a source; `split` is `train`, `heldout`, `quarantine` or `rejected`."""
    return folder / split / source_file(source) / f"{part:05d}.parquet"


def parts_of(folder: Path, split: str, source: str) -> list[Path]:
    """The files of a source in order; none when the folder does not have the source."""
    return sorted((folder / split / source_file(source)).glob("*.parquet"))


def sources_of(folder: Path, split: str) -> list[str]:
    """The stems (see `source_file`) of the sources that a corpus folder has in a split, sorted."""
    return sorted(path.name for path in (folder / split).glob("*") if path.is_dir())


def write_documents(path: Path, documents: Iterable[Document]) -> int:
    """Write documents to one Parquet file; returns how many."""
    return _write(path, list(documents), DOCUMENT_SCHEMA)


def read_documents(path: Path) -> list[Document]:
    """The documents of one Parquet file, in its order."""
    return read_table(path, DOCUMENT_SCHEMA).to_pylist()


def write_items(folder: Path, family: str, items: Sequence[Item]) -> int:
    return _write(folder / "items" / f"{family}.parquet", list(items), ITEM_SCHEMA)


def read_items(folder: Path, family: str) -> list[Item]:
    """The evaluation items of `family` in corpus folder `folder`, in a fixed order. Raises CorruptArtifact as
    `read_table` does, and for an item whose `meta` is no JSON object."""
    path = folder / "items" / f"{family}.parquet"
    items: list[Item] = read_table(path, ITEM_SCHEMA).to_pylist()
    for row, item in enumerate(items):
        try:
            read_as(dict[str, Any], item["meta"].encode())
        except NotPlain as error:
            raise CorruptArtifact(
                f"{path}, row {row}: meta is not what the step writes ({error}). Delete the folder of its artifact and "
                "run again: the step that makes it will be done again"
            ) from error
    return items


def _write(path: Path, rows: list[Any], schema: pa.Schema) -> int:
    write_table(path, pa.Table.from_pylist(rows, schema=schema), ROW_GROUP_ROWS)
    return len(rows)
