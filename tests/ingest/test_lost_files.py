"""What stands in for a file, and files that are damaged inside: named for what they are, and counted by rows, bytes
and files, so that half a source is never lost without a word."""

import io
import json
import re
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from k2model.errors import CorpusError
from k2model.ingest import check_quarantine, list_inputs, split_inputs
from k2model.recipe.schema import FieldMapping, SourceFormat, TextUnit
from tests.ingest.samples import ROWS, WHOLE, compressed, ingest, source, write_arrow, write_jsonl, write_parquet

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab12' * 16}\nsize 146946961\n".encode()
PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>\n<body>"
    + b"<p>gone</p>\n" * 9
    + b"</body></html>"
)
DENIED = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>no</Message></Error>'


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.jsonl", '{"text": "a"}\n' * 50)
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("a.jsonl")
        info.size = 1_400
        archive.addfile(info, io.BytesIO(b'{"text": "a"}\n' * 100))
    return out.getvalue()


def parquet() -> bytes:
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", "b"]}), out)
    return out.getvalue()


#: What stands in for a file: its bytes, the reason, and words of what is said of it.
STAND_INS = {
    "lfs": (POINTER, "pointer", "Git LFS pointer to 146,946,961 bytes", "git lfs pull"),
    "xet": (b"# xet version 0\nfilesize = 100000\nhash = 'ab'\n", "pointer", "Git Xet pointer", "git xet pull"),
    "annex": (b"/annex/objects/SHA256E-s9000--ab.parquet\n", "pointer", "git-annex", "git annex get"),
    "page": (PAGE, "error_page", "a web page ('404 Not Found')", "fetch it again"),
    "xhtml": (b"<?xml version='1.0'?>\n" + PAGE[16:], "error_page", "a web page ('404 Not Found')", "fetch it again"),
    "denied": (DENIED, "error_page", "the answer of a server (AccessDenied)", "access"),
    "message": (b"404: Not Found", "error_page", "404: Not Found", "fetch it again"),
    "zip": (zipped(), "wrong_format", "a ZIP archive", "unpack it"),
    "tar": (tarred(), "wrong_format", "a tar archive", "unpack it"),
    "gzip": (compressed(b'{"text": "a"}\n' * 50, ".gz"), "wrong_format", "a gzip stream", ""),
    "zstd": (compressed(b'{"text": "a"}\n' * 50, ".zst"), "wrong_format", "a Zstandard stream", ""),
    "parquet": (parquet(), "wrong_format", "a Parquet file", "name end in .parquet"),
    "no bytes": (b"", "empty_file", "holds no bytes", "fetch or write it again"),
    "zeros": (bytes(5_000), "empty_file", "zero bytes", "fetch or write it again"),
}
FORMATS = {
    "jsonl": lambda path: write_jsonl(path, ROWS),
    "jsonl.gz": lambda path: write_jsonl(path, ROWS),
    "jsonl.zst": lambda path: write_jsonl(path, ROWS),
    "jsonl.bz2": lambda path: write_jsonl(path, ROWS),
    "jsonl.xz": lambda path: write_jsonl(path, ROWS),
    "parquet": lambda path: write_parquet(path, ROWS),
    "arrow": lambda path: write_arrow(path, ROWS),
    "feather": lambda path: write_arrow(path, ROWS, stream=False),
    "txt": lambda path: path.write_text("\n\n".join(row["text"] for row in ROWS)),
    "py": lambda path: path.write_text("print('some code')\n" * 50),
}
NOTHING_ODD = {("zstd", "jsonl.zst"), ("gzip", "jsonl.gz"), ("parquet", "parquet")}
EXPECTED = {("zeros", "txt"): "binary", ("zeros", "py"): "binary", ("no bytes", "py"): "empty_field"}


def settings(kind: str) -> dict:
    return {"py": {"format": SourceFormat.CODE}, "txt": {"unit": TextUnit.PARAGRAPH}}.get(kind, {})


def half_of(folder: Path, kind: str, content: bytes) -> Path:
    """Four good files and four that hold `content`; the first and the last are of these."""
    folder.mkdir(parents=True)
    for number in range(8):
        path = folder / f"part-{number}.{kind}"
        if number in (0, 3, 5, 7):
            path.write_bytes(content)
        else:
            FORMATS[kind](path)
    return folder


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in STAND_INS for kind in FORMATS if (name, kind) not in NOTHING_ODD]
)
def test_what_stands_in_for_a_file_is_named_and_stops_the_run(name, kind, tmp_path):
    content, reason, what, remedy = STAND_INS[name]
    config = source(half_of(tmp_path / "in", kind, content), heldout=0.0, **settings(kind))
    for part_bytes in (WHOLE, 1_000):
        found = ingest(config, tmp_path / f"out-{part_bytes}", part_bytes)
        wanted = EXPECTED.get((name, kind), reason)
        assert [(row["reason"], row["file"], row["row"]) for row in found.quarantine] == [
            (wanted, f"part-{number}.{kind}", 0) for number in (0, 3, 5, 7)
        ]
        assert (found.counts["files"], found.counts["damaged_files"]) == (8, 4)
        assert found.counts["lost_bytes"] >= 4 * len(content) and found.documents
        if wanted == reason:
            assert what in found.quarantine[0]["detail"] and remedy in found.quarantine[0]["detail"]
        with pytest.raises(CorpusError, match=r"mostly bad: .*4 of 8 files \(50\.0%\) are damaged") as stopped:
            check_quarantine(config, found.counts)
        assert found.quarantine[0]["detail"] in str(stopped.value)
        check_quarantine(replace(config, max_quarantined=1.0), found.counts)


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
@pytest.mark.parametrize(
    "name", ["lfs", "page", "denied", "zip", "tar", "gzip", "zstd", "parquet", "zeros", "no bytes"]
)
def test_what_was_compressed_is_looked_at_too(name, suffix, tmp_path):
    content, reason, what, _ = STAND_INS[name]
    half_of(tmp_path / "in", f"jsonl{suffix}", compressed(content, suffix))
    found = ingest(source(tmp_path / "in"), tmp_path / "out")
    assert {row["reason"] for row in found.quarantine} == {reason} and what in found.quarantine[0]["detail"]
    assert found.counts["damaged_files"] == 4
    if name == suffix.replace(".gz", "gzip").replace(".zst", "zstd"):
        assert "decompress it once" in found.quarantine[0]["detail"]


def test_compression_that_a_name_only_promises_is_named(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl.gz", ROWS)
    (tmp_path / "in/b.jsonl.gz").write_bytes(write_jsonl(tmp_path / "plain.jsonl", ROWS))
    (tmp_path / "in/c.jsonl.gz").write_bytes(compressed(b'{"text": "a"}\n' * 50, ".zst"))
    (tmp_path / "in/d.jsonl.zst").write_bytes((tmp_path / "in/a.jsonl.gz").read_bytes())
    details = {row["file"]: row["detail"] for row in ingest(source(tmp_path / "in"), tmp_path / "out").quarantine}
    assert "take .gz off its name" in details["b.jsonl.gz"] and "a Zstandard stream, not gzip" in details["c.jsonl.gz"]
    assert "a gzip stream, not Zstandard" in details["d.jsonl.zst"] and len(details) == 3


def test_a_json_array_is_no_lines(tmp_path):
    write_jsonl(tmp_path / "in/a.json", ROWS)
    for number, indent in enumerate((None, 1)):
        (tmp_path / f"in/b-{number}.json").write_text(json.dumps(ROWS, indent=indent))
    found = ingest(source(tmp_path / "in"), tmp_path / "out")
    assert [(row["reason"], row["row"]) for row in found.quarantine] == [("wrong_format", 0)] * 2
    assert "one JSON array, not JSON lines" in found.quarantine[0]["detail"] and len(found.documents) == len(ROWS)


def test_documents_about_such_things_are_documents(tmp_path):
    texts = {
        "a.txt": "version https://git-lfs.github.com/spec/v1 begins a pointer of Git LFS.",
        "b.txt": "<html><head><title>Forbidden love, a novel</title></head><body>Once</body></html>",
        "c.txt": "Not found in any dictionary, the word was his own.",
        "d.txt": "ORCHARDS and PAR1 courses",
        "e.txt": "é" * 5_000,
    }
    (tmp_path / "in").mkdir()
    for name, text in texts.items():
        (tmp_path / "in" / name).write_text(text)
    assert {d["origin"] for d in ingest(source(tmp_path / "in"), tmp_path / "out").documents} == set(texts)
    (tmp_path / "code").mkdir()
    for name in ("404.html", "index.html"):
        (tmp_path / "code" / name).write_bytes(PAGE)
    found = ingest(source(tmp_path / "code", format=SourceFormat.CODE), tmp_path / "out-code")
    assert len(found.documents) == 2 and not found.counts["damaged_files"]


def test_a_file_without_one_row_of_use_is_lost_whatever_it_says(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", ROWS * 20)
    for number in range(3):
        write_jsonl(tmp_path / f"in/b-{number}.jsonl", [{"error": "rate limited"}])
    write_parquet(tmp_path / "other/a.parquet", ROWS)
    write_parquet(tmp_path / "other/b.parquet", [{"text": None}, {"text": " "}])
    config = source(tmp_path / "in")
    found = ingest(config, tmp_path / "out")
    assert (found.counts["files"], found.counts["damaged_files"]) == (4, 3)
    with pytest.raises(CorpusError, match=r"3 of 4 files \(75\.0%\)"):
        check_quarantine(config, found.counts)
    assert ingest(source(tmp_path / "other"), tmp_path / "out-other").counts["damaged_files"] == 1


def damaged(content: bytes, start: int, size: int) -> bytes:
    return content[:start] + b"\xff" * size + content[start + size :]


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
@pytest.mark.parametrize("rows", [60, 60_000])
def test_a_stream_has_lost_what_lies_behind_its_damage(suffix, rows, tmp_path):
    """At its beginning, in the middle, and cut: what gave no row is lost, to within the decompressor's blocks."""
    path = tmp_path / f"in/a.jsonl{suffix}"
    write_jsonl(path, [{"text": f"row {i} {i * 7919 % 100_003}"} for i in range(rows)])
    whole = path.read_bytes()
    size = len(whole)
    middle = damaged(whole, size // 2, min(size // 4, 4_000))  # Zstandard without a checksum does not notice
    for spoilt, least in (
        (damaged(whole, {".gz": 10, ".zst": 4, ".bz2": 4, ".xz": 8}[suffix], min(size // 2, 4_000)), 0.99 * size),
        (middle if suffix == ".gz" else whole[:-1], 0.3 * size if suffix == ".gz" else 1),
        (whole[: size // 2], 1),
    ):
        path.write_bytes(spoilt)
        found = ingest(source(tmp_path / "in", heldout=0.0), tmp_path / f"out-{hash(spoilt)}")
        size = len(spoilt)
        assert least <= found.counts["lost_bytes"] <= size
        assert found.counts["damaged_files"] == 1 and found.quarantine[-1]["reason"] in ("corrupt", "truncated")


def test_half_of_the_shards_damaged_stop_the_run(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(10):
        content = compressed(b"".join(b'{"text": "%d %d"}\n' % (number, i) for i in range(500)), ".gz")
        (tmp_path / f"in/part-{number}.jsonl.gz").write_bytes(damaged(content, 8, 400) if number % 2 else content)
    config = source(tmp_path / "in")
    for part_bytes in (WHOLE, 1):
        found = ingest(config, tmp_path / f"out-{part_bytes}", part_bytes)
        assert found.counts["lost_bytes"] / found.counts["input_bytes"] == pytest.approx(0.5, abs=0.01)
        with pytest.raises(CorpusError, match=r"50\.0% of its bytes could not be read and 5 of 10 files \(50\.0%\)"):
            check_quarantine(config, found.counts)


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_a_file_in_several_parts_is_damaged_once(kind, tmp_path):
    """Two of its row groups (record batches) are broken; where it is cut changes no count of files."""
    rows = [{"text": f"{i} " + "words and more words " * 40} for i in range(400)]
    for name in ("a", "b"):
        path = tmp_path / f"in/{name}.{kind}"
        (write_parquet(path, rows, 50) if kind == "parquet" else write_arrow(path, rows, stream=False, batch=50))
    content = path.read_bytes()
    if kind == "parquet":
        import pyarrow.parquet as pq

        groups = [pq.ParquetFile(path).metadata.row_group(i).column(0) for i in (2, 5)]
        starts = [group.dictionary_page_offset or group.data_page_offset for group in groups]
    else:
        messages = [found.start() for found in re.finditer(b"\xff\xff\xff\xff", content)]  # schema, then the batches
        starts = [messages[1 + i] + 4 for i in (2, 5)]
    for start in starts:
        content = damaged(content, start, 60)
    path.write_bytes(content)
    for part_bytes in (WHOLE, len(content) // 3, 1_000):
        counts = ingest(source(tmp_path / "in"), tmp_path / f"out-{part_bytes}", part_bytes).counts
        assert (counts["files"], counts["damaged_files"]) == (2, 1) and "damaged_cuts" not in counts
        assert 0 < counts["lost_bytes"] < counts["input_bytes"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_lines_that_are_no_rows_count_by_their_bytes(suffix, tmp_path):
    """A region of zeros runs many rows together into one bad line."""
    rows = [f'{{"text": "row {i} of some length"}}\n'.encode() for i in range(400)]
    content = b"".join(rows[:150]) + bytes(len(rows[0]) * 150) + b"".join(rows[300:])
    (tmp_path / "in").mkdir()
    (tmp_path / f"in/a.jsonl{suffix}").write_bytes(compressed(content, suffix))
    config = source(tmp_path / "in")
    for part_bytes in (WHOLE, 2_000):
        counts = ingest(config, tmp_path / f"out-{part_bytes}", part_bytes).counts
        assert counts["lost_bytes"] / counts["input_bytes"] == pytest.approx(0.38, abs=0.02)
        with pytest.raises(CorpusError, match="of its bytes could not be read"):
            check_quarantine(config, counts)


def test_what_is_no_jsonl_is_not_cut_into_lines(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_bytes(zipped() + b"\n" * 9_000)
    config = source(tmp_path / "in")
    assert len(split_inputs(config, list_inputs(config), 100)) == 1


def test_a_pointer_in_front_hides_no_mistyped_column(tmp_path):
    for kind in ("jsonl", "parquet"):
        half_of(tmp_path / kind, kind, POINTER)
        config = source(tmp_path / kind, fields=FieldMapping(text="txt"))
        with pytest.raises(CorpusError, match=rf"part-1\.{kind}; did you mean 'text'"):
            split_inputs(config, list_inputs(config), WHOLE)


NOT_LINES = {
    "utf-16": ('{"text": "a"}\n'.encode("utf-16"), "wrong_format", "text in UTF-16"),
    "utf-16 without a mark": ('{"text": "a"}\n'.encode("utf-16-le"), "wrong_format", "text in UTF-16"),
    "over lines": (b'{\n  "text": "a"\n}\n{\n  "text": "b"\n}\n', "wrong_format", "JSON of objects over several lines"),
    "array": (b'[\n {"text": "a"},\n {"text": "b"}\n]', "wrong_format", "one JSON array"),
    "carriage returns": (b'{"text": "a"}\r{"text": "b"}\r', "wrong_format", "lines end in carriage returns"),
    "answer": (b'{"error": {"code": 401, "message": "Bad credentials"}}', "error_page", "('Bad credentials')"),
    "detail": (b'{"detail": "Not authenticated"}', "error_page", "('Not authenticated')"),
    "github": (b'{"message": "Not Found", "documentation_url": "u", "status": "404"}', "error_page", "('Not Found')"),
}


@pytest.mark.parametrize("name", NOT_LINES)
def test_json_that_is_not_lines_and_answers_of_servers_are_named(name, tmp_path):
    content, reason, what = NOT_LINES[name]
    found = ingest(source(half_of(tmp_path / "in", "jsonl", content)), tmp_path / "out")
    assert [(row["reason"], row["row"]) for row in found.quarantine] == [(reason, 0)] * 4
    assert what in found.quarantine[0]["detail"]


TWICE = ("text", "url", "meta", "meta.text")


@pytest.mark.parametrize(  # Parquet is written without structs that have two fields of one name
    ("kind", "where"), [*(("arrow", where) for where in TWICE), *(("parquet", where) for where in TWICE[:3])]
)
def test_two_columns_of_one_name_are_an_error_that_names_them(kind, where, tmp_path):
    struct = pa.array([{"text": "inner"}], pa.struct([("text", pa.string())]))
    if where == "meta.text":
        struct = pa.StructArray.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    arrays = [pa.array(["one"]), pa.array(["u"]), struct]
    twice = {"text": 0, "url": 1, "meta": 2}.get(where)
    names = ["text", "url", "meta"] + ([] if twice is None else [where])
    table = pa.Table.from_arrays(arrays + ([] if twice is None else [arrays[twice]]), names=names)
    path = tmp_path / f"in/b.{kind}"
    write_parquet(tmp_path / "in/a.parquet", ROWS) if kind == "parquet" else write_arrow(tmp_path / "in/a.arrow", ROWS)
    if kind == "parquet":
        write_parquet(path, table)
    else:
        with pa.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)
    fields = {"url": FieldMapping(origin="url")}.get(where, FieldMapping(text=where if "." in where else "text"))
    config = source(path, fields=replace(fields, id="meta.text") if where == "meta" else fields)
    with pytest.raises(CorpusError, match=rf"b\.{kind} has 2 columns named '{where}'"):
        ingest(config, tmp_path / "out")
    unmapped = FieldMapping(text="text" if where != "text" else "url")
    assert len(ingest(source(path, fields=unmapped), tmp_path / "unmapped").documents) == 1
