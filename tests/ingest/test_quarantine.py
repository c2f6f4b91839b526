"""What is wrong with a row or a file is told by reason, file and row, and costs no other row."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from k2model.documents.spans import segments_of
from k2model.errors import CorpusError
from k2model.ingest import check_quarantine, ingest_part, list_inputs, split_inputs
from k2model.ingest.names import COMPRESSED
from k2model.recipe.schema import FieldMapping
from tests.ingest.samples import (
    ROWS,
    WHOLE,
    compressed,
    ingest,
    reasons,
    source,
    write_arrow,
    write_jsonl,
    write_parquet,
)

GOOD = {"text": "good", "url": "u"}
LINES = [
    GOOD,  # 1
    b'{"text": "cut',  # 2
    b"",  # 3: blank, no row
    b'["text"]',  # 4
    b'{"text": "caf\xe9"}',  # 5: Latin-1
    {"url": "u"},  # 6
    {"text": None, "url": "u"},  # 7
    {"text": " \n\t", "url": "u"},  # 8
    {"text": 7},  # 9
    {"text": "x" * 500},  # 10: longer than allowed below
    {"text": "good", "url": {"host": "h"}},  # 11
    b'{"text": "one"} {"text": "two"}',  # 12
    GOOD,  # 13
]
EXPECTED = [
    ("malformed_json", 2), ("malformed_json", 4), ("encoding", 5), ("missing_field", 6), ("missing_field", 7),
    ("empty_field", 8), ("wrong_type", 9), ("over_long", 10), ("wrong_type", 11), ("malformed_json", 12),
]  # fmt: skip


def documents(found) -> list[str]:
    return [segments_of(d)[1]["text"] for d in found.documents]


@pytest.mark.parametrize("part_bytes", [WHOLE, 40, 7])
def test_bad_lines_are_told_by_their_numbers(part_bytes, tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", LINES)
    config = source(tmp_path / "in", fields=FieldMapping(origin="url"), max_row_bytes=200)
    found = ingest(config, tmp_path / "out", part_bytes)
    assert reasons(found) == EXPECTED
    assert documents(found) == ["good", "good"] and found.counts["rows"] == 12
    by_row = {row["row"]: row for row in found.quarantine}
    assert by_row[5]["detail"] == "byte 13 of the row (0xe9) is not utf-8" and by_row[5]["text"] == '{"text": "caf�"}'
    assert by_row[10]["detail"] == "512 bytes, max_row_bytes is 200" and by_row[10]["text"].startswith('{"text": "xxx')
    assert "field 'url' (origin) is an object" in by_row[11]["detail"]
    assert {row["file"] for row in found.quarantine} == {"a.jsonl"}


def test_raw_text_of_a_bad_row_is_cut(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", [GOOD, b'{"text": "' + "é".encode() * 9_000])
    assert len(ingest(source(tmp_path / "in"), tmp_path / "out").quarantine[0]["text"]) == 2_000


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
def test_rows_in_front_of_a_cut_stream_are_kept(suffix, tmp_path):
    rows = [{"text": f"row {i} {i * 7919 % 100_003}"} for i in range(60_000)]
    path = tmp_path / f"in/a.jsonl{suffix}"
    plain_content = write_jsonl(path, rows)
    path.write_bytes(path.read_bytes()[:-20_000])
    found = ingest(source(tmp_path / "in", heldout=0.0), tmp_path / "out")
    count = len(found.train)
    assert 10_000 < count < 60_000
    assert documents(found) == [row["text"] for row in rows[:count]]
    cut_row, end = found.quarantine  # the row in which the stream stops, and the stop
    assert (cut_row["reason"], cut_row["row"]) == ("malformed_json", count + 1)
    assert plain_content.splitlines()[count].startswith(cut_row["text"].encode())
    assert (end["reason"], end["row"]) == ("truncated", count + 2) and f"rows up to {count + 1}" in end["detail"]


def test_a_damaged_stream_is_told_from_a_cut_one(tmp_path):
    path = tmp_path / "in/a.jsonl.zst"
    write_jsonl(path, [{"text": f"row {i} {i * 7919 % 100_003}"} for i in range(60_000)])
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :][:2_000] = bytes(2_000)
    content = content[: len(content) // 2] + bytes(2_000) + content[len(content) // 2 + 2_000 :]
    path.write_bytes(content)
    found = ingest(source(tmp_path / "in"), tmp_path / "out")
    assert found.quarantine[-1]["reason"] == "corrupt" and 0 < found.counts["lost_bytes"] < len(content)


def test_several_compressed_members_are_one_file(tmp_path):
    (tmp_path / "in").mkdir()
    for suffix in COMPRESSED:
        parts = [compressed(json.dumps({"text": f"{suffix} {i}"}).encode() + b"\n", suffix) for i in range(3)]
        (tmp_path / f"in/a.jsonl{suffix}").write_bytes(b"".join(parts))
    found = ingest(source(tmp_path / "in", heldout=0.0), tmp_path / "out")
    assert documents(found) == [f"{suffix} {i}" for suffix in sorted(COMPRESSED) for i in range(3)]


def test_a_declared_encoding_and_a_byte_order_mark_are_read(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_bytes(
        '{"text": "café"}\n{"text": "\u20ac"}\n'.encode("cp1252") + b'{"text": "\x81"}\n'
    )
    found = ingest(source(tmp_path / "in", encoding="cp1252"), tmp_path / "out", 10)
    assert sorted(documents(found)) == ["café", "€"] and reasons(found) == [("encoding", 3)]
    (tmp_path / "in/a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "marked"}\n')
    assert documents(ingest(source(tmp_path / "in"), tmp_path / "marked")) == ["marked"]


def column_table() -> pa.Table:
    bad = pa.array([b"good", b"caf\xe9", None, b"", b" \n", b"x" * 300, b"last"], pa.binary())
    text = pa.StringArray.from_buffers(len(bad), bad.buffers()[1], bad.buffers()[2], bad.buffers()[0], bad.null_count)
    return pa.table({"text": text, "url": ["u"] * 7})


def test_bad_values_of_a_column_are_told_by_their_rows(tmp_path):
    expected = [("encoding", 2), ("missing_field", 3), ("empty_field", 4), ("empty_field", 5), ("over_long", 6)]
    write_parquet(tmp_path / "parquet/a.parquet", column_table(), row_group_size=3)
    (tmp_path / "arrow").mkdir()
    with pa.ipc.new_file(str(tmp_path / "arrow/a.arrow"), column_table().schema) as writer:
        writer.write_table(column_table(), 2)
    for kind in ("parquet", "arrow"):
        for part_bytes in (WHOLE, 1):
            config = source(tmp_path / kind, max_row_bytes=200)
            found = ingest(config, tmp_path / f"{kind}-{part_bytes}", part_bytes)
            assert reasons(found) == expected and documents(found) == ["good", "last"]
            assert found.quarantine[0]["detail"] == "byte 3 of field 'text' (0xe9) is not utf-8"


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int8(), pa.string())]
)
def test_text_of_any_arrow_type_is_read(kind, tmp_path):
    values = pa.array(["one", None, "two"], pa.string())
    values = values.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else values.cast(kind)
    (tmp_path / "in").mkdir()
    table = pa.table({"text": values})
    with pa.ipc.new_file(str(tmp_path / "in/a.arrow"), table.schema) as writer:
        writer.write_table(table)
    found = ingest(source(tmp_path / "in"), tmp_path / "out")
    assert documents(found) == ["one", "two"] and reasons(found) == [("missing_field", 2)]


def test_a_column_of_another_type_is_an_error_of_the_mapping(tmp_path):
    write_parquet(tmp_path / "a.parquet", [{"text": 1}])
    with pytest.raises(CorpusError, match=r"column 'text' of a\.parquet is int64, expected text"):
        ingest(source(tmp_path), tmp_path / "out")


def test_files_that_cannot_be_read_are_told_whole(tmp_path):
    write_parquet(tmp_path / "in/a.parquet", ROWS)
    write_parquet(tmp_path / "in/b.parquet", ROWS)
    write_parquet(tmp_path / "in/c.parquet", [{"body": "x"}])
    cut = (tmp_path / "in/b.parquet").read_bytes()[:-100]
    (tmp_path / "in/b.parquet").write_bytes(cut)
    for part_bytes in (WHOLE, 100):
        found = ingest(source(tmp_path / "in"), tmp_path / f"out-{part_bytes}", part_bytes)
        assert [(r["reason"], r["file"], r["row"]) for r in found.quarantine] == [
            ("unreadable", "b.parquet", 0), ("missing_field", "c.parquet", 0),
        ]  # fmt: skip
        assert "column 'text' not found in c.parquet; there are body" in found.quarantine[1]["detail"]
        assert len(found.documents) == len(ROWS) and found.counts["lost_bytes"] > len(cut)


def test_an_arrow_stream_that_ends_early_keeps_its_batches(tmp_path):
    write_arrow(tmp_path / "in/a.arrow", ROWS, batch=10)
    content = (tmp_path / "in/a.arrow").read_bytes()
    (tmp_path / "in/a.arrow").write_bytes(content[: len(content) * 3 // 5])
    found = ingest(source(tmp_path / "in"), tmp_path / "out")
    assert len(found.documents) in (10, 20) and reasons(found) == [("corrupt", len(found.documents) + 1)]


def verdict(folder: Path, rows: list, **settings) -> None:
    write_jsonl(folder / "in/a.jsonl", rows)
    config = source(folder / "in", **settings)
    check_quarantine(config, ingest(config, folder / "out").counts)


def test_a_mostly_bad_source_stops_and_shows_what_is_wrong(tmp_path):
    with pytest.raises(CorpusError) as error:
        verdict(tmp_path, [GOOD] * 8 + [b"{broken", {"url": "u"}])
    message = str(error.value)
    assert "2 of 10 rows (20.0%)" in message and "allowed are 10.0%" in message
    assert "malformed_json (1): a.jsonl row 9:" in message and "'{broken'" in message
    assert "missing_field (1): a.jsonl row 10: field 'text' is missing or null" in message
    verdict(tmp_path, [GOOD] * 8 + [b"{broken", {"url": "u"}], max_quarantined=0.2)
    verdict(tmp_path, [GOOD] * 9 + [b"{broken"])


def test_a_source_without_a_document_stops(tmp_path):
    with pytest.raises(CorpusError, match="without a document"):
        verdict(tmp_path, [b"", b" "], max_quarantined=1.0)


def test_an_unreadable_file_counts_by_its_bytes(tmp_path):
    write_parquet(tmp_path / "in/a.parquet", ROWS)
    (tmp_path / "in/b.parquet").write_bytes((tmp_path / "in/a.parquet").read_bytes()[:-100])
    config = source(tmp_path / "in")
    with pytest.raises(
        CorpusError, match=r"4\d\.\d% of its bytes could not be read(.|\n)*unreadable \(1\): b.parquet row 0"
    ):
        check_quarantine(config, ingest(config, tmp_path / "out").counts)


def test_inputs_that_change_meanwhile_are_an_error(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", ROWS)
    config = source(tmp_path / "in")
    (part,) = split_inputs(config, list_inputs(config), WHOLE)
    write_jsonl(tmp_path / "in/a.jsonl", ROWS[:-1])
    with pytest.raises(CorpusError, match="when the source was listed"):
        ingest_part(config, part, tmp_path / "out")
