"""Parts: however a source is cut, every row is in exactly one, under the same name, and a part repeats bit for bit."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from k2model.ingest import FileSlice, InputPart, ingest_part, list_inputs, split_inputs
from k2model.recipe.schema import FieldMapping
from tests.ingest.samples import ROWS, WHOLE, ingest, source, write_arrow, write_jsonl, write_parquet


def mixed_lines(folder: Path) -> None:
    """Long and short lines, blank ones, bad ones, carriage returns, and no line end at the end of one file."""
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in ROWS]
    lines[3:3] = [b"", b"\r", b"{bad", b'{"text": "' + b"y" * 300 + b'"}\r', b""]
    (folder / "a.jsonl").write_bytes(b"\n".join(lines))
    (folder / "b.jsonl").write_bytes(b"\n\n" + b"\n".join(lines[:9]) + b"\n\n\n")
    write_jsonl(folder / "c.jsonl.zst", ROWS[:9])
    (folder / "d.jsonl").write_bytes(b"")


FORMATS = {
    "jsonl": mixed_lines,
    "parquet": lambda folder: [write_parquet(folder / f"{i}.parquet", ROWS[i:], 5) for i in range(3)],
    "arrow_stream": lambda folder: [write_arrow(folder / f"{i}.arrow", ROWS[i:], True, 5) for i in range(3)],
    "arrow_file": lambda folder: [write_arrow(folder / f"{i}.arrow", ROWS[i:], False, 5) for i in range(3)],
    "text": lambda folder: [(folder / f"{i}.txt").write_text(f"text {i}") for i in range(30)],
}


@pytest.mark.parametrize("layout", FORMATS)
def test_any_size_of_parts_gives_the_same_rows(layout, tmp_path):
    (tmp_path / "in").mkdir()
    FORMATS[layout](tmp_path / "in")
    config = source(tmp_path / "in", heldout=0.2)

    def rows(part_bytes):
        found = ingest(config, tmp_path / f"out-{part_bytes}", part_bytes)
        everything = [found.train, found.heldout, found.quarantine]
        counts = {name: value for name, value in found.counts.items() if name != "input_bytes"}
        return [Counter(json.dumps(row, sort_keys=True) for row in side) for side in everything], counts

    whole = rows(WHOLE)
    sizes = (23, 64, 333, 1_000)
    assert all(rows(size) == whole for size in sizes)
    assert sum(whole[0][0].values()) > 20
    counts = [len(split_inputs(config, list_inputs(config), size)) for size in (WHOLE, *sizes)]
    assert counts[0] == 1 < min(counts[1:3])


def test_byte_ranges_hold_the_rows_that_begin_in_them(tmp_path):
    content = b'{"text": "aaaaa"}\n' * 4  # 18 bytes each
    (tmp_path / "a.jsonl").write_bytes(content)
    config = source(tmp_path)
    parts = split_inputs(config, list_inputs(config), 18)
    assert [(p.slices[0].start, p.slices[0].end, p.slices[0].rows_before) for p in parts] == [
        (0, 18, 0), (18, 36, 1), (36, 54, 2), (54, 72, 3),
    ]  # fmt: skip
    parts = split_inputs(config, list_inputs(config), 20)
    # A border inside a row leaves that row to the part in front of it.
    assert [(p.slices[0].start, p.slices[0].rows_before) for p in parts] == [(0, 0), (20, 2), (40, 3), (60, 4)]
    counts = [ingest_part(config, part, tmp_path / "out")["rows"] for part in parts]
    assert counts == [2, 1, 1, 0]


def test_small_files_share_a_part_and_large_ones_are_cut(tmp_path):
    for name, rows in (("a", 2), ("b", 2), ("c", 40), ("d", 2)):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": "123456"}] * rows)  # 19 bytes a row
    config = source(tmp_path)
    parts = split_inputs(config, list_inputs(config), 200)
    named = [[(piece.path, piece.bytes) for piece in part.slices] for part in parts]
    assert named == [
        [("a.jsonl", 38), ("b.jsonl", 38)],
        [("c.jsonl", 200)],
        [("c.jsonl", 200)],
        [("c.jsonl", 200)],
        [("c.jsonl", 160), ("d.jsonl", 38)],
    ]
    assert [part.index for part in parts] == list(range(5))


def test_parts_travel_as_json_and_repeat_bit_for_bit(tmp_path):
    (tmp_path / "in").mkdir()
    mixed_lines(tmp_path / "in")
    config = source(tmp_path / "in", heldout=0.2, fields=FieldMapping(licence="meta.licence"))
    parts = split_inputs(config, list_inputs(config), 500)
    sent = [json.loads(json.dumps(asdict(part))) for part in parts]
    back = [InputPart(part["index"], tuple(FileSlice(**piece) for piece in part["slices"])) for part in sent]
    assert tuple(back) == parts
    for folder, order in (("one", parts), ("two", reversed(back))):
        for part in order:
            ingest_part(config, part, tmp_path / folder)
    files = [
        {path.relative_to(tmp_path / folder): path.read_bytes() for path in (tmp_path / folder).rglob("*.parquet")}
        for folder in ("one", "two")
    ]
    assert files[0] == files[1] and len(files[0]) >= 2 * len(parts)
    assert not any(str(tmp_path).encode() in content for content in files[0].values())
