"""JSON and tables of a stranger's artifacts, whose manifests fit them: used as they are meant, or named."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2model.artifacts import ArtifactRef, CorruptArtifact, Identity, Store, read_json, read_json_file
from k2model.artifacts.content import MOST
from k2model.artifacts.files import files_at
from k2model.continual.gate.profile import read_profiles
from k2model.continual.gate.reading import sampled
from k2model.continual.month.material import prose_of
from k2model.continual.verdict.parity import read_parity
from k2model.curation.counts import read_counts
from k2model.curation.decisions import GONE_SCHEMA, STANDING_SCHEMA, read_decisions
from k2model.curation.funnel import read_curation
from k2model.curation.known import COPIES_SCHEMA
from k2model.curation.overlap import STORED_SCHEMA, EvaluationItem, stored_items
from k2model.curation.parts import CorpusPart, Numbering, numbering_of
from k2model.documents.markup import Segment
from k2model.documents.schema import DOCUMENT_SCHEMA, make_document
from k2model.documents.tables import read_batches, read_table, required, write_table
from k2model.errors import K2Error
from k2model.evals import references
from k2model.evals.items import Grade, ItemResult, read_items, write_items
from k2model.evals.scores import ScoreRow, read_scores
from k2model.recipe.expectations import Severity
from k2model.registry.datasets import profile_of
from k2model.release.card import sources
from k2model.safety.judging import read_safety
from k2model.tokens.bpe import draw_sample
from k2model.tokens.rows import RowsIndex
from k2model.tokens.rows import read_table as read_blocks
from k2model.tokens.shards import counts_of
from k2model.training.crash_loop import ATTEMPTS, begin
from k2model.training.log import read_interventions, read_log
from k2model.validation.documents.group import write_summaries
from k2model.validation.gate import Found
from k2model.validation.outcome import Outcome
from tests.artifacts.test_outside import IN_PLACE, JSON, ODD, changed, places
from tests.training.job import phase

PHASE = phase()
ITEM = ItemResult("sums", "i", "c", "1+1=", "2", "2", "2", Grade.RIGHT, 1.0)
SCHEMA = required(text=pa.string(), number=pa.int32())
TABLE = pa.table([["a", "b"], pa.array([1, 2], pa.int32())], schema=SCHEMA)
LEFT = {"documents": 3, "bytes": 30}
OUTCOME = Outcome("documents", "p", "not_null", "expect", "id", Severity.WARN, 1, 9, 1, 1, "mend", (3,), ("a",))
CONFIG = b'{"max_position_embeddings": 8}'
RANGE = {"offset": 0, "size": 3, "sha256": "0" * 64}
GRADES = {"label": "answer refuses", "kappa": 0.5, "low": 0.4, "high": 0.6, "accuracy": 0.8, "base_rate": 0.4, "n": 9,
          "unscored": 0}  # fmt: skip
STEP = {"step": 0, "tokens": 8, "loss": 5.5, "lr": 0.1, "grad_norm": 1.0, "targets": 8, "tokens_per_second": 9.0,
        "seconds": 0.5}  # fmt: skip


def profiles_without_words(store: Store, ref: ArtifactRef) -> object:
    with contextlib.suppress(FileNotFoundError):  # the tables, which come next
        return read_profiles(store, [ref])
    return None


def released_weights(folder: Path) -> object:
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_bytes(CONFIG)
    return references.stored(folder)


#: What a file of an artifact says, and who reads it.
READ: dict[str, tuple[Any, Callable[[Store, ArtifactRef], object]]] = {
    "counts.json": (
        {"train": {"p": {"domain": "d", "documents": 1, "tokens": 9, "targets": 8, "lengths": {}}}, "heldout": {}},
        counts_of,
    ),
    "curation.json": (
        {"train": {"p": {"steps": {"raw": LEFT, "quality": LEFT}, "rejects": {"r": {"documents": 1, "samples": []}}}},
         "heldout": {}, "duplicates": {"all": {"1-1": 3}}, "personal_data": {}, "decontamination": {"families": {},
         "matches": []}},
        read_curation,
    ),
    "numbering.json": ({"places": [["train", "p", 0]], "bounds": [0, 9]}, numbering_of),
    "safety.json": (
        {"judge": {"name": "rules"}, "agreement": {"ours": [GRADES]}, "statistics": {"samples": 1}, "feeds_gates": True,
         "rows": [{"score": "safety/right", "value": 0.5, "low": 0.0, "high": 1.0, "n": 8, "clusters": 7}]},
        read_safety,
    ),
    "final/state.json": (
        {"interventions": [{"reason": "r", "first_step": 1, "last_step": 2, "resumed_from": 0, "before": 1.0,
                            "deviation": None, "losses": [None, 2.0], "after": None}]},
        read_interventions,
    ),
    "attachments/metrics.jsonl": (STEP, read_log),
    "scores.json": (
        [ScoreRow("sft", "a", 0.5, 8, 0.4, 0.6, "accuracy").to_dict()],
        lambda store, ref: read_scores(store.read(ref, "scores.json"), ref.uri),
    ),
    "sequences.json": (
        {"rows": 4, "sequence_length": 8, "rows_per_block": 2, "blocks_per_part": 1, "sources": ["p"], "domains": ["d"],
         "vocab_size": 9, "pad": 0},
        lambda store, ref: RowsIndex.from_json(store.read(ref, "sequences.json"), ref.uri).parts,
    ),
    "sequences/00000.json": ([RANGE], lambda store, ref: read_blocks(store.read(ref, "sequences/00000.json"), ref.uri)),
    "parity.json": ({"difference": 0.1, "mean": 0.1, "length": 99.0, "positions": 64.0}, read_parity),
    "composition.json": (
        {"padding": 0.1, "split": 0.0, "truncated": 0.0, "efforts": {}, "short_context": None, "rows": 4,
         "sources": {"p": {"domain": "d", "share_wanted": 1.0, "share": 1.0, "tokens": 9, "documents": 1,
                           "epochs": 1.0}}},
        lambda store, ref: profile_of(store, replace(ref, kind="sequences")),
    ),
    "statistics.json": (
        {"train": {"documents": 1, "bytes": 9, "characters": 9, "by_source": {"p": {"documents": 1, "bytes": 9}}}},
        lambda store, ref: profile_of(store, replace(ref, kind="corpus_valid")),
    ),
    "profile.json": (
        {"p": {"domain": "d", "documents": 1, "words": 9, "lengths": {"1": 1}, "characters": {"latin": 9}}},
        profiles_without_words,
    ),
    "attachments/found/train/p/00000.json": (
        {"outcomes": [replace(OUTCOME, rows=()).to_json()], "pages": [{"suite": "s", "table": "t", "sections": "<p>"}],
         "counts": {"p": {"files": 1}}, "columns": [{"shard": "s", "part": "p", "column": "id", "type": "string",
                                                     "expected": "string"}]},
        lambda store, ref: Found.read(store.fetch(ref), ["train/p/00000"]),
    ),
    "RELEASE_MANIFEST.json": (
        {"files": [{"path": "model/config.json", "size": len(CONFIG), "sha256": sha256(CONFIG).hexdigest()}]},
        lambda store, ref: released_weights(Path(ref.uri)),
    ),
    "account.json": (
        {"counts": {"a": 1}, "samples": {"r": [["key", "text"]]}},
        lambda store, ref: read_counts(store.fetch(ref) / "account.json"),
    ),
}  # fmt: skip


MAY_BE_EMPTY = ("numbering.json", "profile.json")


def stored(store: Store, path: str, data: bytes) -> ArtifactRef:
    """A finished artifact that holds these bytes, with a manifest that says so."""

    def produce(folder: Path) -> dict[str, float]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        return {}

    return store.build(Identity("corpus", "1", {"data": data.hex() if len(data) < 9999 else len(data)}), produce)


@pytest.mark.parametrize("path", READ)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_what_a_file_says_is_named_or_harmless(store: Store, path: str, data: st.DataObject) -> None:
    good, read = READ[path]
    way = data.draw(st.sampled_from(places(good)))
    content = changed(good, way, data.draw(st.sampled_from(ODD) | JSON))
    ref = stored(store, path, json.dumps(content).encode())
    try:
        read(store, ref)
    except K2Error as error:
        assert ref.uri in str(error)


@pytest.mark.parametrize("path", READ)
def test_what_is_no_json_is_named(store: Store, path: str) -> None:
    good, read = READ[path]
    read(store, stored(store, path, json.dumps(good).encode()))
    for bad in (b"", b"[" * 200_000, b"\xff\xfe", b"[]" if path in MAY_BE_EMPTY else b"{}", b"1e999", b'{"a": 1'):
        if (path, bad) == ("attachments/metrics.jsonl", b""):
            continue  # a training of no steps
        ref = stored(store, path, bad)
        with pytest.raises(K2Error, match=ref.uri):
            read(store, ref)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "link to itself", "too much"])
def test_what_lies_in_the_place_of_a_file_is_named_and_not_waited_for(store: Store, kind: str) -> None:
    ref = stored(store, "counts.json", json.dumps(READ["counts.json"][0]).encode())
    path = Path(ref.uri, "counts.json")
    path.unlink()
    IN_PLACE[kind](path)
    with pytest.raises(CorruptArtifact, match=r"counts\.json"):
        counts_of(store, ref)


def test_a_file_of_many_gigabytes_is_not_read(store: Store) -> None:
    ref = stored(store, "counts.json", b"{}")
    os.truncate(Path(ref.uri, "counts.json"), 1 << 40)
    with pytest.raises(CorruptArtifact, match=r"counts\.json: it has more than 2 B"):
        counts_of(store, ref)


def test_more_than_the_bound_is_refused_by_its_size(store: Store) -> None:
    ref = stored(store, "counts.json", b" " * (MOST + 1))
    with pytest.raises(CorruptArtifact, match=r"counts\.json has more than 64"):
        read_json(dict[str, int], store, ref, "counts.json")
    with pytest.raises(CorruptArtifact, match=r"counts\.json is not what its step writes"):
        read_json_file(dict[str, int], Path(ref.uri), "counts.json")


#: The ways to read a table.
TABLES: dict[str, Callable[[Path], pa.Table]] = {
    "whole": lambda path: read_table(path, SCHEMA),
    "content": lambda path: read_table(path.read_bytes(), SCHEMA, str(path)),
    "filtered": lambda path: read_table(path, SCHEMA, filters=[("number", ">=", 0)]),
    "batches": lambda path: pa.Table.from_batches(read_batches(path, SCHEMA), SCHEMA),
}


def written(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    "table, told",
    [
        (TABLE.drop_columns(["number"]), "it has no column 'number'"),
        (TABLE.set_column(1, "number", pa.array(["x", "y"])), "its column 'number' is of type string, expected int32"),
        (TABLE.set_column(0, "text", pa.array([["a"], ["b"]])), "its column 'text' is of type list<"),
        (TABLE.set_column(0, "text", pa.array(["a", None])), "its column 'text' has rows without a value"),
        (pa.table([pa.array([b"\xff", b"b"]).view(pa.string()), TABLE["number"]], SCHEMA.names), "cannot be read as"),
    ],
    ids=["missing", "type", "nested", "null", "no text"],
)
@pytest.mark.parametrize("read", TABLES.values(), ids=TABLES)
def test_a_table_of_another_form_is_named(
    tmp_path: Path, read: Callable[[Path], pa.Table], table: pa.Table, told: str
) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(written(TABLE))
    assert read(path) == TABLE
    path.write_bytes(written(table))
    with pytest.raises(CorruptArtifact, match=f"^{path} .*{told}"):
        read(path)


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.dictionaries(st.integers(0, 700), st.integers(0, 255), min_size=1, max_size=4), cut=st.integers(0, 99)
)
def test_any_bytes_are_the_table_or_named(tmp_path: Path, changes: dict[int, int], cut: int) -> None:
    data = bytearray(written(TABLE))
    for at, to in changes.items():
        data[at % len(data)] = to
    path = tmp_path / "x.parquet"
    path.write_bytes(data[: len(data) - cut])
    for read in TABLES.values():
        try:
            table = read(path)
            assert table.schema == SCHEMA and len(table.to_pylist()) == table.num_rows
        except CorruptArtifact as error:
            assert str(error).startswith(f"{path} ")


def corpus_of(folder: Path) -> ArtifactRef:
    """The reference of a corpus whose store is `folder`, with what lies below `folder/made` as its files."""

    def produce(scratch: Path) -> dict[str, float]:
        shutil.copytree(folder / "made", scratch, dirs_exist_ok=True)
        return {}

    content = {path.name: path.read_bytes().hex()[:4000] for path in (folder / "made").rglob("*.parquet")}
    return Store.open(folder / "store").build(Identity("corpus_valid", "1", {"content": content}), produce)


DOCUMENTS = pa.Table.from_pylist(
    [make_document("prose", "d", "l", "o", [Segment(kind="text", text=f"{i} words.", loss_mask=True)]) for i in (1, 2)],
    DOCUMENT_SCHEMA,
)
ITEMS = pa.Table.from_pylist([EvaluationItem("f", "i", "k", "p", "a", True, True)._asdict()], STORED_SCHEMA)
KNOWN = pa.table([[1], ["train/prose/00000:0"], [False]], schema=COPIES_SCHEMA)
PART = "train/prose/00000.parquet"

#: Of steps that read a table: where it lies below a folder, one that is as it is meant, the columns that are read, and
#: who reads it of the folder that has it in `made`.
STEPS: dict[str, tuple[str, pa.Table, str, Callable[[Path], object]]] = {
    "card": (PART, DOCUMENTS, "source domain licence origin text", lambda folder: sources(folder / "made")),
    "tokenizer": (PART, DOCUMENTS, "id text spans", lambda folder: list(draw_sample(folder / "made", 99, 0))),
    "gate": (PART, DOCUMENTS, "id domain origin text spans",
             lambda folder: sampled(Store.open(folder / "store"), corpus_of(folder), 9)),
    "month": (PART, DOCUMENTS, "text", lambda folder: prose_of(Store.open(folder / "store"), corpus_of(folder))),
    "statistics": (PART, DOCUMENTS, "id domain licence text duplicates",
                   lambda folder: write_summaries([folder / "made" / PART], folder / "summaries")),
    "items": ("x.parquet", ITEMS, "family id key prompt answer worded holds_out",
              lambda folder: list(stored_items([folder / "made/x.parquet"]))),
    "decisions": ("known/00000.parquet", KNOWN, "document original near",
                  lambda folder: read_decisions(decided(folder / "made"), 0, np.array([1, 1]))),
}  # fmt: skip


def decided(folder: Path) -> Path:
    """Nothing has gone, or stands for another."""
    write_table(folder / "gone/00000.parquet", GONE_SCHEMA.empty_table())
    write_table(folder / "standing/00000.parquet", STANDING_SCHEMA.empty_table())
    return folder


@pytest.mark.parametrize("step", STEPS)
def test_a_column_that_a_step_reads_is_there_and_of_its_type(tmp_path: Path, step: str) -> None:
    path, table, columns, read = STEPS[step]
    write_table(tmp_path / "made" / path, table)
    read(tmp_path)
    for name in columns.split():
        place = table.schema.get_field_index(name)
        for odd in (table.remove_column(place), table.set_column(place, name, pa.array([{"a": 1}] * len(table)))):
            write_table(tmp_path / "made" / path, odd)
            with pytest.raises(CorruptArtifact, match=rf"{PurePath(path).name} is not the table .* column '{name}'"):
                read(tmp_path)


def test_no_more_rows_are_read_than_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path / "x.parquet", TABLE)
    assert read_table(tmp_path / "x.parquet", SCHEMA) == TABLE
    monkeypatch.setattr("k2model.documents.tables.MOST_ROWS", 1)
    with pytest.raises(CorruptArtifact, match="it says that it has 2 rows, at most 1"):
        read_table(tmp_path / "x.parquet", SCHEMA)


@pytest.mark.parametrize("column, value", [("grade", "perfect"), ("value", None), ("item", None)])
def test_a_result_without_a_grade_or_a_name_is_named(tmp_path: Path, column: str, value: Any) -> None:
    write_items(tmp_path / "items.parquet", [ITEM])
    assert list(read_items(tmp_path / "items.parquet")) == [ITEM]
    table = pq.read_table(tmp_path / "items.parquet")
    place = table.schema.get_field_index(column)
    odd = table.set_column(place, table.schema.field(place), pa.array([value], table.schema.field(place).type))
    pq.write_table(odd, tmp_path / "items.parquet")
    with pytest.raises(CorruptArtifact, match=r"items\.parquet is no table of results"):
        read_items(tmp_path / "items.parquet")


@pytest.mark.parametrize("bounds", [[], [0], [1, 9], [0, -1], [0, 1 << 70], [9, 0]])
def test_a_numbering_counts_up(store: Store, bounds: list[int]) -> None:
    text = json.dumps({"places": [["train", "p", 0]], "bounds": bounds})
    with pytest.raises(CorruptArtifact, match=r"numbering\.json is no numbering"):
        numbering_of(store, stored(store, "numbering.json", text.encode()))
    whole = Numbering.counted([CorpusPart("train", "p", 0)], [9])
    assert numbering_of(store, stored(store, "numbering.json", whole.to_json().encode())).documents == 9


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", IN_PLACE)
def test_notes_of_attempts_are_read_typed(store: Store, kind: str) -> None:
    files = files_at(Path(store.uri) / "checkpoint" / "x")
    note = Path(files.uri, ATTEMPTS, "00001.json")
    note.parent.mkdir(parents=True)
    IN_PLACE[kind](note)
    if kind != "folder":  # is in no listing
        with pytest.raises(CorruptArtifact, match=r"00001\.json is not a note of an attempt"):
            begin(files, PHASE, 0)


def test_a_stray_note_and_a_time_that_is_none_are_named(store: Store) -> None:
    files = files_at(Path(store.uri) / "checkpoint" / "x")
    files.write(f"{ATTEMPTS}/00001.json", b'{"step": 0, "began": 1e300}')
    with pytest.raises(CorruptArtifact, match="began at no time"):
        begin(files, PHASE, 0)
    files.write(f"{ATTEMPTS}/notes.txt", b"")
    with pytest.raises(CorruptArtifact, match=r"notes\.txt is no note of an attempt"):
        begin(files, PHASE, 0)
