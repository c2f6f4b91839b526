"""What the statistics of a whole corpus need of each document: a narrow row, so that gathering reads no text.

Whoever looks at a part of a corpus writes the facts of its published documents, about 60 bytes each, and
whoever gathers the parts reads those alone. A text is known by its MD5, which only has to tell equal from
different; nobody gains by forging one.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from k2model.artifacts.manifest import ATTACHMENTS
from k2model.corpus.validation.part import PartFile, frames_of

READ = ["id", "domain", "licence", "text", "duplicates"]
FACTS = f"{ATTACHMENTS}/facts"

#: `n` are characters of the text, `bytes` those of its UTF-8; they and the `digest` are null where the text is.
FACTS_SCHEMA = pa.schema(
    [
        ("side", pa.string()),
        ("stem", pa.string()),
        ("part", pa.string()),
        ("id", pa.string()),
        ("domain", pa.string()),
        ("licence", pa.string()),
        ("n", pa.int64()),
        ("bytes", pa.int64()),
        ("duplicates", pa.int64()),
        ("digest", pa.binary(16)),
    ]
)


def facts_path(folder: Path, part: str) -> Path:
    """Where the facts of a gate's part lie."""
    return folder / FACTS / f"{part}.parquet"


def write_facts(files: Iterable[PartFile], path: Path) -> None:
    """A row of `FACTS_SCHEMA` for each document of `files`, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, FACTS_SCHEMA, compression="zstd") as writer:
        for file in files:
            for table in frames_of(file.path, READ):
                writer.write_table(_facts(table, file))


def _facts(table: pa.Table, file: PartFile) -> pa.Table:
    texts = table["text"].combine_chunks()
    place = {name: pa.repeat(getattr(file, name), len(table)) for name in ("side", "stem", "part")}
    measured = {"n": pc.utf8_length(texts), "bytes": pc.binary_length(texts), "digest": _digests(texts)}
    kept = {name: table[name] for name in ("id", "domain", "licence", "duplicates")}
    return pa.table({**place, **kept, **measured}).select(FACTS_SCHEMA.names).cast(FACTS_SCHEMA)


def _digests(texts: pa.StringArray) -> pa.Array:
    octets = texts.cast(pa.binary()).to_pylist()
    found = (None if one is None else hashlib.md5(one, usedforsecurity=False).digest() for one in octets)
    return pa.array(found, pa.binary(16))
