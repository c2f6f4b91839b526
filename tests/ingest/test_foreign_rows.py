"""Rows as others wrote them: what is not read of them is told, and what cannot be meant is refused by its name."""

import numpy as np
import pyarrow as pa
import pytest

from k2model.errors import CorpusError
from k2model.recipe.schema import FieldMapping
from tests.ingest.samples import ROWS, WHOLE, ingest, source, write_jsonl, write_parquet


def test_rows_like_answers_of_servers_are_rows_where_they_hold_the_content(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", [{"message": "Not Found", "status": 404}])
    assert ingest(source(tmp_path / "in", fields=FieldMapping(text="message")), tmp_path / "out").documents


@pytest.mark.parametrize("part_bytes", [WHOLE, 100])
def test_what_nobody_reads_and_what_rows_do_not_say_is_told(part_bytes, tmp_path):
    rows = [{"text": f"t {i}", "url": "u", "title": None} | ({"licence": "MIT"} if i % 4 else {}) for i in range(8)]
    write_jsonl(tmp_path / "in/a.jsonl", [*rows, {"text": 5, "score": 1}])
    write_parquet(tmp_path / "columns/a.parquet", [{"text": "a", "url": "u", "title": "t", "licence": "MIT"}] * 3)
    write_parquet(tmp_path / "columns/b.parquet", [{"text": "b", "url": "u"}] * 2)
    fields = FieldMapping(licence="licence", origin="url")
    counts = ingest(source(tmp_path / "in", fields=fields), tmp_path / "out", part_bytes).counts
    assert (counts["unread"], counts["unstated"]) == ({"score": 1, "title": 8}, {"licence": 2})
    counts = ingest(source(tmp_path / "columns", fields=fields), tmp_path / "out2", part_bytes).counts
    assert (counts["unread"], counts["unstated"]) == ({"title": 3}, {"licence": 2})


def test_a_key_that_an_object_has_twice_is_refused(tmp_path):
    good = [{"text": f'he said "text", {i}', "meta": {"text": "inner", "licence": "MIT"}} for i in range(50)]
    bad = [b'{"text": "one", "text": "two"}', b'{"text": "one", "meta": {"licence": "MIT", "licence": "CC0-1.0"}}']
    fields = FieldMapping(licence="meta.licence")
    write_jsonl(tmp_path / "in/a.jsonl", [*bad, *good, bad[0]])
    found = ingest(source(tmp_path / "in", fields=fields), tmp_path / "out")
    assert [(row["reason"], row["row"]) for row in found.quarantine] == [("duplicate_field", row) for row in (1, 2, 53)]
    assert "key 'licence' twice" in found.quarantine[1]["detail"] and len(found.documents) == 50


def test_a_key_of_a_message_that_is_there_twice_is_refused(tmp_path):
    asked = '{"messages": [{"role": "user", "content": "a \\"b\\": c"}, {"role": "assistant", %s}]}'
    replies = ['"content": "b"', '"content": "b", "content": "c"', '"content": "b", "weight": 0, "weight": 1',
               '"tool_calls": [{"name": "f", "arguments": {"x": 1, "x": 2}}]']  # fmt: skip
    write_jsonl(tmp_path / "in/a.jsonl", [(asked % reply).encode() for reply in replies])
    found = ingest(source(tmp_path / "in", fields=FieldMapping(messages="messages")), tmp_path / "out")
    assert [(row["reason"], row["row"]) for row in found.quarantine] == [("duplicate_field", row) for row in (2, 3, 4)]
    assert "key 'weight' twice" in found.quarantine[1]["detail"]


def dialogues(names: list[str], arrays: list[pa.Array]) -> pa.Array:
    """Two rows of two messages each."""
    return pa.ListArray.from_arrays(pa.array([0, 2, 4], pa.int32()), pa.StructArray.from_arrays(arrays, names))


def test_messages_with_two_fields_of_one_name_are_an_error(tmp_path):
    said = [pa.array(["user", "assistant"] * 2), pa.array(["a", "b"] * 2), pa.array(["c", "d"] * 2)]
    write_parquet(tmp_path / "in/a.parquet", pa.table({"messages": dialogues(["role", "content", "content"], said)}))
    with pytest.raises(CorpusError, match=r"a\.parquet has 2 columns named 'messages\.content'"):
        ingest(source(tmp_path / "in", fields=FieldMapping(messages="messages")), tmp_path / "out")


def test_messages_that_cannot_be_had_are_quarantined_row_by_row(tmp_path):
    for name, wrong, reason in (
        ("text", pa.array([b"ok", b"ok", b"\xff", b"ok"]).view(pa.string()), "encoding"),
        ("time", pa.array([1, 2, 2**62, 3]).view(pa.timestamp("us")), "wrong_type"),
    ):
        said = [pa.array(["user", "assistant"] * 2), pa.array(["a", "b"] * 2), wrong]
        write_parquet(tmp_path / name / "a.parquet", pa.table({"messages": dialogues(["role", "content", name], said)}))
        fields = FieldMapping(messages="messages", ignored=(name,))
        found = ingest(source(tmp_path / name, fields=fields), tmp_path / f"{name}-out")
        assert [(row["reason"], row["row"]) for row in found.quarantine] == [(reason, 2)] and len(found.documents) == 1


def test_a_column_without_any_value_is_missing_fields(tmp_path):
    write_parquet(tmp_path / "in/a.parquet", pa.table({"text": pa.nulls(2)}))
    write_parquet(tmp_path / "in/b.parquet", ROWS)
    found = ingest(source(tmp_path / "in"), tmp_path / "out")
    assert [(row["reason"], row["row"]) for row in found.quarantine] == [("missing_field", 1), ("missing_field", 2)]


def test_an_arrow_file_that_points_outside_of_itself_is_told(tmp_path):
    """Its reader believes every offset, and reading by one ended the process."""
    offsets, wrong = (np.array([0, middle, 5], np.int32).tobytes() for middle in (2, 10**8))
    for name, opened in (("a.arrow", pa.ipc.new_stream), ("a.feather", pa.ipc.new_file)):
        path = tmp_path / name
        with opened(str(path), pa.schema({"text": pa.string()})) as writer:
            writer.write_batch(pa.record_batch({"text": ["ab", "cde"]}))
        whole = path.read_bytes()
        assert whole.count(offsets) == 1
        path.write_bytes(whole.replace(offsets, wrong))
        for part_bytes in (WHOLE, 10):
            found = ingest(source(path), tmp_path / f"{name}-{part_bytes}", part_bytes)
            assert [(row["reason"], row["row"]) for row in found.quarantine] == [("unreadable", 0)]
