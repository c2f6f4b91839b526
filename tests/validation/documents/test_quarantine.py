"""Defects of single documents: each is set aside under its own reason and the rest goes on."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from k2model.documents.markup import joined, special, text
from k2model.documents.schema import DOCUMENT_SCHEMA, read_documents
from k2model.documents.spans import to_spans
from k2model.validation.documents.suites import Bounds
from tests.validation.documents.conftest import ROWS, edit, retext, validated


def resegment(row: dict, *segments: dict) -> None:
    row.update(spans=to_spans(segments), text=joined(segments))


def plant(rows: list[dict]) -> dict[int, set[str]]:
    """One defect a row; returns the reasons each row must be set aside for."""
    planted = {}
    for i, column in enumerate(name for name in DOCUMENT_SCHEMA.names if name not in ("text", "spans")):
        rows[i][column] = None
        planted[i] = {f"null_{column}"}
    rows[10]["spans"] = None
    planted[10] = {"null_spans", "spans_do_not_cover_text"}
    rows[11]["text"] = None
    planted[11] = {"null_text", "empty_text", "length", "spans_do_not_cover_text"}
    retext(rows[12], " \n\t ")
    planted[12] = {"empty_text"}
    retext(rows[13], "x" * 401)
    planted[13] = {"length"}
    for row, bad in ((14, "\x00"), (15, "\x1b"), (16, "\x85"), (17, "�")):
        retext(rows[row], f"before{bad}after")
        planted[row] = {"bad_characters"}
    retext(rows[18], "这是一份完全不是英文的文件")
    planted[18] = {"mostly_not_ascii"}
    rows[19]["licence"] = "NOASSERTION"
    planted[19] = {"unknown_licence"}
    resegment(rows[20], special("<|begin_of_text|>"), text("nothing to learn"), special("<|end_of_text|>"))
    planted[20] = {"no_target"}
    resegment(rows[21], text("a", loss_mask=True), {"kind": "special", "text": "<|imend|>", "loss_mask": True})
    planted[21] = {"unknown_special_token"}
    rows[22]["text"] += " and more"
    planted[22] = {"spans_do_not_cover_text"}
    rows[23]["duplicates"] = 0
    planted[23] = {"duplicates_below_one"}
    return planted


def test_every_row_defect_is_set_aside_under_its_own_reason(corpus: Path, tmp_path: Path, bounds: Bounds) -> None:
    planted: dict[int, set[str]] = {}
    edit(corpus, "prose", lambda rows: planted.update(plant(rows)))
    before = pq.read_table(corpus / "train" / "prose" / "00000.parquet", partitioning=None).to_pylist()

    out, stats = validated(corpus, tmp_path / "store", bounds)

    aside = pq.read_table(out / "quarantine" / "prose" / "00000.parquet", partitioning=None).to_pylist()
    assert {row["row"]: set(row["reason"].split(", ")) for row in aside} == planted
    assert [{name: row[name] for name in DOCUMENT_SCHEMA.names} for row in aside] == [before[r["row"]] for r in aside]
    kept = read_documents(out / "train" / "prose" / "00000.parquet")
    assert kept == [row for i, row in enumerate(before) if i not in planted]
    assert pq.read_schema(out / "train" / "prose" / "00000.parquet").names == DOCUMENT_SCHEMA.names
    report = json.loads((out / "validation.json").read_text())
    wanted: dict[str, int] = {}
    for reasons in planted.values():
        for reason in reasons:
            wanted[reason] = wanted.get(reason, 0) + 1
    assert report["quarantine"] == {"prose": wanted}
    assert report["documents"]["prose"] == {"read": ROWS, "published": ROWS - len(planted)}
    assert (stats["quarantined"], stats["documents"]) == (len(planted), 3 * ROWS - len(planted))


def test_line_ends_tabs_page_breaks_and_accents_are_not_defects(corpus: Path, tmp_path: Path, bounds: Bounds) -> None:
    edit(corpus, "prose", lambda rows: retext(rows[0], "a\tb\r\nc\x0cd naïve café"))
    assert validated(corpus, tmp_path / "store", bounds)[1]["quarantined"] == 0


def test_tags_do_not_count_as_text(corpus: Path, tmp_path: Path, bounds: Bounds) -> None:
    """A document of special tokens alone is empty however long its tags are."""
    edit(corpus, "chat", lambda rows: resegment(rows[0], special("<think>"), special("</think>", loss_mask=True)))
    out, _ = validated(corpus, tmp_path / "store", bounds)
    assert pq.read_table(out / "quarantine" / "chat" / "00000.parquet", partitioning=None)["reason"].to_pylist() == [
        "empty_text, length"
    ]
