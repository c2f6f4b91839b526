"""Defects of a whole corpus: each stops the pipeline, by the expectation that is meant for it."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2model.documents.spans import segments_of
from k2model.errors import K2Error
from k2model.recipe.schema import MixtureEntry
from k2model.validation.documents import ValidationFailed
from k2model.validation.documents.suites import Bounds
from tests.validation.documents.conftest import edit, leak_heldout_text, repeat_id_in_other_shard, retext, validated


def repeat_heldout_id(corpus: Path) -> None:
    taken = pq.read_table(corpus / "heldout" / "prose" / "00000.parquet", partitioning=None)["id"][0].as_py()
    edit(corpus, "prose", lambda rows: rows[3].update(id=taken))


def retype(corpus: Path) -> None:
    path = corpus / "train" / "prose" / "00000.parquet"
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.set_column(8, "duplicates", table["duplicates"].cast(pa.int64())), path)


def change_items(corpus: Path, change: Callable[[list[dict]], None]) -> None:
    path = corpus / "items" / "sums.parquet"
    rows = pq.read_table(path, partitioning=None).to_pylist()
    change(rows)
    schema = pa.schema([field.with_nullable(True) for field in pq.read_schema(path)])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


Expected = tuple[str, str, str, str]  # suite, expectation, column, shard

#: How a defect is planted and what must be named. The defects of a group are planted together, since
#: they don't disturb each other; each must be caught by its own expectation and by no other.
GROUPS: dict[str, list[tuple[Callable[[Path], None], Expected]]] = {
    "documents of wrong places": [
        (repeat_id_in_other_shard, ("identifiers", "ids_unique", "repeated_ids", "all")),
        (leak_heldout_text, ("heldout", "not_trained_on", "trained_on", "all")),
        (
            lambda c: edit(c, "prose", lambda rows: rows[4].update(source="code")),
            ("documents", "source_matches_shard", "source_file, shard_file", "prose"),
        ),
        (
            lambda c: edit(c, "sums-think", lambda rows: rows[3].update(key="held 2")),
            ("documents", "no_evaluation_key", "item_of_key", "sums-think"),
        ),
        (
            lambda c: edit(c, "prose", lambda rows: retext(rows[5], "And what is Compute 3+3*7= then?")),
            ("documents", "no_evaluation_prompt", "item_of_text", "prose"),
        ),
        (
            lambda c: edit(c, "chat", lambda rows: [row.update(duplicates=0) for row in rows[:30]]),
            ("sources", "few_quarantined", "quarantined_fraction", "all"),
        ),
        (
            lambda c: change_items(c, lambda rows: rows[1].update(answer=" ")),
            ("items", "answer_not_empty", "answer", "all"),
        ),
    ],
    "held-out ids, keys and a missing source": [
        (repeat_heldout_id, ("identifiers", "ids_unique", "repeated_ids", "all")),
        (
            lambda c: edit(c, "chat", lambda rows: rows[3].update(key="say 9\nheld 2")),
            ("documents", "no_evaluation_key", "item_of_key", "chat"),
        ),
        (lambda c: change_items(c, lambda rows: rows[1].update(key=None)), ("items", "not_null", "key", "all")),
        (
            lambda c: change_items(c, lambda rows: rows[3].update(id=rows[2]["id"])),
            ("items", "ids_unique", "copies", "all"),
        ),
        (
            lambda c: (c / "train" / "sums-think" / "00000.parquet").unlink(),
            ("mixtures", "source_exists", "documents", "all"),
        ),
    ],
    "a source without documents": [
        (lambda c: edit(c, "chat", lambda rows: rows.clear()), ("sources", "source_not_empty", "read", "all")),
        (lambda c: None, ("mixtures", "source_exists", "documents", "all")),
    ],
    "a column of another type": [(retype, ("schema", "columns_and_types", "type, expected", "all"))],
}


@pytest.mark.parametrize("name", GROUPS)
def test_each_defect_is_caught_by_its_expectation(name: str, corpus: Path, tmp_path: Path, bounds: Bounds) -> None:
    for plant, _ in GROUPS[name]:
        plant(corpus)
    with pytest.raises(ValidationFailed) as failure:
        validated(corpus, tmp_path / "store", bounds)

    broken = {(o.suite, o.expectation, o.column, o.shard) for o in failure.value.outcomes}
    assert broken == {expected for _, expected in GROUPS[name]}


def test_the_message_names_expectation_shard_column_count_rows_and_remedy(
    corpus: Path, tmp_path: Path, bounds: Bounds
) -> None:
    leaked = [5, 7, 11, 13]
    edit(corpus, "sums-think", lambda rows: [rows[i].update(key="held 2") for i in leaked])
    ids = pq.read_table(corpus / "train" / "sums-think" / "00000.parquet", partitioning=None)["id"].to_pylist()
    with pytest.raises(ValidationFailed) as failure:
        validated(corpus, tmp_path / "store", bounds)
    message = str(failure.value)
    assert "'documents/no_evaluation_key' (expect_column_values_to_be_null) on column 'item_of_key'" in message
    assert "of 'sums-think': 4 of 120 rows, in 1 of 1 parts" in message
    assert [row for row in leaked if f"part 00000 row {row}: " in message and ids[row] in message] == leaked[:3]
    assert "What to do: run decontamination again" in message
    assert "no_evaluation_key" in failure.value.html
    again = pickle.loads(pickle.dumps(failure.value))
    assert (str(again), again.outcomes) == (message, failure.value.outcomes)


def test_epochs_are_checked_when_the_length_of_the_phase_is_known(corpus: Path, tmp_path: Path, bounds: Bounds) -> None:
    """sums/think: 120 documents of 4 special tokens each, and the bytes of its texts, 3 to a token."""
    texts = pq.read_table(corpus / "train" / "sums-think" / "00000.parquet", partitioning=None).to_pylist()
    text_bytes = sum(len(s["text"].encode()) for row in texts for s in segments_of(row) if s["kind"] == "text")
    tokens = text_bytes // 3 + 4 * 120
    halves = {"pretrain": (MixtureEntry("prose", 2.0), MixtureEntry("sums/think", 2.0))}
    validated(corpus, tmp_path / "store", bounds, halves, {"pretrain": 2 * 60 * tokens})
    with pytest.raises(ValidationFailed, match=r"'mixtures/epochs_within_limit'.* on column 'epochs'") as failure:
        validated(corpus, tmp_path / "store", bounds, halves, {"pretrain": 2 * 61 * tokens})
    assert "phase='pretrain', source='sums/think', epochs=61" in str(failure.value)


def test_an_artifact_that_is_no_corpus_is_named(tmp_path: Path, bounds: Bounds) -> None:
    (tmp_path / "none" / "train").mkdir(parents=True)
    (tmp_path / "none" / "train" / "prose.parquet").touch()
    with pytest.raises(K2Error, match="train holds no"):
        validated(tmp_path / "none", tmp_path / "store", bounds)


def test_a_file_that_is_not_parquet_is_named(corpus: Path, tmp_path: Path, bounds: Bounds) -> None:
    (corpus / "train" / "chat" / "00000.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(K2Error, match=r"chat/00000\.parquet cannot be read"):
        validated(corpus, tmp_path / "store", bounds)
