"""Any bytes under any name, any JSON in any field: a document, a quarantined row with its reason, or an error that
says what to do; never a traceback, and never a row that is nowhere."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2model.errors import K2Error
from k2model.recipe.schema import FieldMapping, SourceFormat, TextUnit
from tests.ingest.samples import WHOLE, Ingested, compressed, ingest, source

FIELDS = FieldMapping(text="text", licence="meta.licence", origin="url", id="id", language="lang", key="key")
FEW = settings(
    derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow], database=None
)
SUFFIXES = (
    "jsonl", "json", "ndjson", "jsonl.gz", "jsonl.zst", "jsonl.bz2", "jsonl.xz", "parquet", "arrow", "feather", "txt",
    "md", "py", "zip", "tar", "part", "csv", "", "jsonl.gz.tmp",
)  # fmt: skip
MAGIC = (
    b"", b"PAR1", b"ARROW1\0\0", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"BZh9", b"\xfd7zXZ\0", b"PK\x03\x04",
    b"\xff\xfe", b"\xef\xbb\xbf", b"<html>", b"<Error><Code>X", b'{"text": "', b"[{", b"\xff\xff\xff\xff",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize ",
)  # fmt: skip

texts = st.text(st.characters(exclude_categories=())).map(lambda text: text.encode("utf-16", "surrogatepass"))
strings = texts.map(lambda raw: raw.decode("utf-16", "surrogatepass"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | strings,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(("text", "meta", "licence", "url", "id", "lang", "key", "messages", "other"))
rows = st.dictionaries(names, values, max_size=5) | values


def tried(content: dict[str, bytes], **changes: Any) -> Ingested | None:
    """What comes of files; None where it is an error of ours. Every row that was read is somewhere, exactly once."""
    with tempfile.TemporaryDirectory() as home:
        for name, raw in content.items():
            Path(home, "in").mkdir(exist_ok=True)
            Path(home, "in", name).write_bytes(raw)
        try:
            found = ingest(source(Path(home, "in"), **changes), Path(home, "out"), changes.pop("part_bytes", WHOLE))
        except K2Error as error:
            assert str(error)
            return None
    kept = len(found.documents) + found.counts["sampled_out"]
    assert found.counts["rows"] == kept + len(found.quarantine)
    assert found.counts["lost_bytes"] <= found.counts["input_bytes"]
    assert all(row["reason"] and row["detail"] and row["file"] for row in found.quarantine)
    assert all(document["text"].encode() and document["licence"] for document in found.documents)
    return found


@FEW
@given(st.lists(rows, min_size=1, max_size=8), st.booleans(), st.sampled_from(("", ".gz", ".xz")))
def test_any_json_in_any_field_of_lines(many, ascii_only, suffix):
    lines = [json.dumps(row, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") for row in many]
    content = compressed(b"".join(line + b"\n" for line in lines), suffix)
    # In front stands a row with all fields, so that it is not the mapping which is refused.
    whole = {"text": "good", "meta": {"licence": "MIT"}, "url": "u", "id": "i", "lang": "l", "key": "k"}
    files = {"a.jsonl": json.dumps(whole).encode(), f"b.jsonl{suffix}": content}
    found = tried(files, fields=FIELDS)
    assert found is not None and "good" in "".join(document["text"] for document in found.documents)
    told = [row for row in found.quarantine if row["file"] != "a.jsonl"]
    if all(row["row"] for row in told):
        assert len(found.documents) - 1 + len(told) == len(lines)


@FEW
@given(st.lists(rows, min_size=1, max_size=6))
def test_any_json_as_chats(many):
    content = b"".join(json.dumps(row).encode() + b"\n" for row in many)
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    tried({"a.jsonl": json.dumps(good).encode(), "b.jsonl": content}, fields=FieldMapping(messages="messages"))


@FEW
@given(st.lists(st.dictionaries(names, values, max_size=4), min_size=1, max_size=4), st.sampled_from((pq, pa.ipc)))
def test_any_column_of_a_table(many, kind):
    try:
        table = pa.Table.from_pylist(many)
        out = pa.BufferOutputStream()
        if kind is pq:
            pq.write_table(table, out)
        else:
            with pa.ipc.new_stream(out, table.schema) as writer:
                writer.write_table(table)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return  # no table holds these
    tried({f"a.{'parquet' if kind is pq else 'arrow'}": out.getvalue().to_pybytes()}, fields=FIELDS)


@settings(FEW, max_examples=60)
@given(
    st.sampled_from(SUFFIXES),
    st.sampled_from(MAGIC),
    st.binary(max_size=300),
    st.sampled_from(("auto", "jsonl", "text", "code")),
)
def test_any_bytes_under_any_name(suffix, first, rest, kind):
    name = f"b.{suffix}" if suffix else "b"
    settings = {"format": SourceFormat(kind), "unit": TextUnit.PARAGRAPH}
    for encoding in ("utf-8", "latin-1"):
        tried({name: first + rest}, **settings, encoding=encoding)
        tried({"a.jsonl": b'{"text": "good"}\n', name: first + rest}, **settings, encoding=encoding)


@FEW
@given(st.sampled_from(("jsonl.gz", "jsonl.zst", "jsonl.bz2", "jsonl.xz", "parquet", "arrow", "feather")), st.data())
def test_any_damage_of_a_file(kind, data):
    whole = WHOLE_FILES[kind]
    start = data.draw(st.integers(0, len(whole) - 1))
    put = data.draw(st.binary(max_size=20))
    taken = data.draw(st.integers(0, 200))
    found = tried({f"a.{kind}": whole[:start] + put + whole[start + taken :]}, heldout=0.0)
    if found is not None and not found.quarantine:
        assert [document["text"] for document in found.train] == GOOD[kind] or kind in UNCHECKED


def _whole_files() -> dict[str, bytes]:
    lines = b"".join(b'{"text": "row %d says %d"}\n' % (i, i * 7919 % 100_003) for i in range(200))
    table = pa.table({"text": [f"row {i} says {i * 7919 % 100_003}" for i in range(200)]})
    made = {f"jsonl{suffix}": compressed(lines, suffix) for suffix in (".gz", ".zst", ".bz2", ".xz")}
    out = pa.BufferOutputStream()
    pq.write_table(table, out, row_group_size=50, write_page_checksum=True)
    made["parquet"] = out.getvalue().to_pybytes()
    for name, opened in (("arrow", pa.ipc.new_stream), ("feather", pa.ipc.new_file)):
        out = pa.BufferOutputStream()
        with opened(out, table.schema) as writer:
            writer.write_table(table, 50)
        made[name] = out.getvalue().to_pybytes()
    return made


WHOLE_FILES = _whole_files()
#: Formats without a checksum of their content, in which changed bytes may be other text and nobody can know.
UNCHECKED = ("jsonl.zst", "parquet", "arrow", "feather")


@pytest.fixture(scope="module", autouse=True)
def _good() -> None:
    GOOD.update(
        {kind: [d["text"] for d in tried({f"a.{kind}": raw}, heldout=0.0).train] for kind, raw in WHOLE_FILES.items()}
    )


GOOD: dict[str, list[str]] = {}
