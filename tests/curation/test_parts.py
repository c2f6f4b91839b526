"""Parts are read and written in pieces of bounded size, and documents are numbered in the order of priority."""

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.curation.parts import CorpusPart, Numbering, parts_in
from k2model.documents.tables import ROW_GROUP_BYTES, PartWriter, read_batches
from tests.curation.planted import prose, tool_document, write_raw

SCHEMA = pa.schema([("text", pa.string())])


def test_long_rows_are_read_and_written_a_few_at_a_time(tmp_path):
    texts = [str(i) * 3_000_000 for i in range(10)] * 4
    with PartWriter(tmp_path / "part.parquet", SCHEMA) as writer:
        for text in texts:
            writer.write(pa.table({"text": [text]}))
    file = pq.ParquetFile(tmp_path / "part.parquet")
    assert file.metadata.num_row_groups == 4  # eleven rows reach the bound
    read = list(read_batches(tmp_path / "part.parquet", SCHEMA))
    assert max(batch.nbytes for batch in read) <= ROW_GROUP_BYTES + 3_000_000
    assert [row["text"] for batch in read for row in batch.to_pylist()] == texts


def test_an_empty_part_is_a_part(tmp_path):
    with PartWriter(tmp_path / "part.parquet", SCHEMA):
        pass
    assert list(read_batches(tmp_path / "part.parquet", SCHEMA)) == []
    assert pq.read_table(tmp_path / "part.parquet").schema == SCHEMA


def test_documents_are_numbered_by_split_source_part_and_row(tmp_path):
    parts = {
        ("train", "prose", 10): [prose("a"), prose("b")],
        ("train", "prose", 2): [prose("c")],
        ("train", "chat/tools", 0): [tool_document("1")],
        ("heldout", "prose", 0): [prose("d"), prose("e"), prose("f")],
    }
    write_raw(tmp_path, parts)
    found = parts_in(tmp_path, ["chat/tools", "prose"])
    assert found == [
        CorpusPart("heldout", "prose", 0), CorpusPart("train", "chat/tools", 0), CorpusPart("train", "prose", 2),
        CorpusPart("train", "prose", 10),
    ]  # fmt: skip
    numbering = Numbering.counted(found, [len(parts[part]) for part in found])
    assert [numbering.name(number) for number in range(numbering.documents)] == [
        *(f"heldout/prose/00000:{row}" for row in range(3)), "train/chat-tools/00000:0", "train/prose/00002:0",
        "train/prose/00010:0", "train/prose/00010:1",
    ]  # fmt: skip
