"""Sources on an object store, on a real one: the same documents as from a folder, and digests by its own word."""

import shutil

import pytest

from k2model.errors import CorpusError
from k2model.ingest import list_inputs
from k2model.recipe.schema import FieldMapping, SourceFormat
from tests.ingest.samples import ROWS, ingest, source, write_arrow, write_jsonl, write_parquet
from tests.ingest.test_lost_files import POINTER, half_of, settings
from tests.servers import S3Server


@pytest.fixture
def bucket(s3_server: S3Server, tmp_path, monkeypatch) -> str:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.bucket}/{tmp_path.name}"


def put(folder, uri) -> None:
    from k2model.artifacts.files import files_at

    for path in folder.rglob("*"):
        if path.is_file():
            files_at(uri).write(path.relative_to(folder).as_posix(), path.read_bytes())


def test_an_object_store_gives_what_a_folder_gives(bucket, tmp_path):
    local = tmp_path / "in"
    write_jsonl(local / "rows/cc/a.jsonl", [*ROWS, b"{bad"])
    write_jsonl(local / "rows/b.jsonl.zst", ROWS)
    write_parquet(local / "columns/c.parquet", ROWS)
    write_arrow(local / "stream/d.arrow", ROWS)
    write_arrow(local / "file/e.arrow", ROWS, stream=False)
    for name, text in (("LICENSE", "Apache License Version 2.0"), ("x/a.py", "print(1)"), ("b.py", "print(2)")):
        (local / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (local / "code" / name).write_text(text)
    put(local, bucket)
    for folder in ("rows", "columns", "stream", "file", "code"):
        for part_bytes in (10**9, 300):
            out = tmp_path / f"{folder}-{part_bytes}"
            kind = SourceFormat.CODE if folder == "code" else SourceFormat.AUTO
            settings = {"fields": FieldMapping(licence="meta.licence"), "format": kind}
            there = ingest(source(f"{bucket}/{folder}", **settings), out / "s3", part_bytes)
            here = ingest(source(local / folder, **settings), out / "local", part_bytes)
            assert sorted(d["id"] for d in there.documents) == sorted(d["id"] for d in here.documents)
            assert there.quarantine == here.quarantine
            assert there.counts["text_bytes"] == here.counts["text_bytes"] > 0
            assert there.counts["licences"] == here.counts["licences"]
            shutil.rmtree(out)


def test_what_stands_in_for_objects_is_named_as_in_a_folder(bucket, tmp_path):
    kinds = ("jsonl", "jsonl.gz", "parquet", "arrow", "feather", "txt")
    for kind in kinds:
        half_of(tmp_path / f"in/{kind}", kind, POINTER)
    put(tmp_path / "in", bucket)
    for kind in kinds:
        there = ingest(source(f"{bucket}/{kind}", **settings(kind)), tmp_path / f"s3/{kind}")
        here = ingest(source(tmp_path / "in" / kind, **settings(kind)), tmp_path / f"local/{kind}")
        assert there.quarantine == here.quarantine and there.counts == here.counts
        assert there.counts["damaged_files"] == 4 and "git lfs pull" in there.quarantine[0]["detail"]


def test_objects_are_known_by_what_the_store_says_of_them(bucket, tmp_path):
    write_jsonl(tmp_path / "in/a/x.jsonl", ROWS)
    write_jsonl(tmp_path / "in/a/y.jsonl", ROWS[:3])
    put(tmp_path / "in", bucket)
    inputs = list_inputs(source(f"{bucket}/a"))
    assert [(file.path, file.size) for file in inputs] == [
        (name, (tmp_path / "in/a" / name).stat().st_size) for name in ("x.jsonl", "y.jsonl")
    ]
    assert all(file.digest.startswith("etag:") and len(file.digest) > 30 for file in inputs)
    assert list_inputs(source(f"{bucket}/*/y.jsonl"))[0].digest == inputs[1].digest
    assert list_inputs(source(f"{bucket}/a/y.jsonl"))[0] == inputs[1]
    write_jsonl(tmp_path / "in/a/y.jsonl", ROWS[1:4])
    put(tmp_path / "in", bucket)
    again = list_inputs(source(f"{bucket}/a"))
    assert again[0] == inputs[0] and again[1].digest != inputs[1].digest


def test_a_prefix_without_a_file_is_told_with_its_remedy(bucket):
    with pytest.raises(CorpusError, match=r"there is no file at s3://.*Set the source's location"):
        list_inputs(source(f"{bucket}/nothing"))
