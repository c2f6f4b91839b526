"""Statistics against a plain count of the same rows, and drift against numbers worked out by hand."""

import unicodedata
from collections import Counter
from math import ceil, log
from pathlib import Path

import pytest

from k2model.documents.schema import parts_of, read_documents, sources_of
from k2model.validation.documents.group import write_summaries
from k2model.validation.documents.part import look_at_files
from k2model.validation.documents.statistics import corpus_statistics
from k2model.validation.documents.suites import Bounds
from k2model.validation.documents.tables import drift, population_stability
from tests.validation.documents.conftest import edit, retext


def statistics_of(corpus: Path, spill: Path, bounds: Bounds) -> dict:
    training = look_at_files(sorted(corpus.glob("train/*/*.parquet")), bounds, None, "documents")
    summaries = spill / "summaries.parquet"
    write_summaries(sorted(corpus.glob("*/*/*.parquet")), summaries)
    return corpus_statistics([summaries], spill, {one.source: one.counts for one in training})


def test_statistics_are_those_of_a_plain_count(corpus: Path, tmp_path: Path, bounds: Bounds) -> None:
    edit(corpus, "prose", lambda rows: [retext(row, "käse\t7!" * (i % 9 + 1)) for i, row in enumerate(rows[:40])])
    edit(corpus, "chat", lambda rows: [row.update(duplicates=3) for row in rows[:30]])
    found = statistics_of(corpus, tmp_path, bounds)
    rows = [row for stem in sources_of(corpus, "train") for path in parts_of(corpus, "train", stem)
            for row in read_documents(path)]  # fmt: skip
    train = found["train"]
    assert (train["documents"], train["copies"]) == (360, 330 + 90)
    assert train["bytes"] == sum(len(row["text"].encode()) for row in rows)
    by_domain: Counter[str] = Counter()
    for row in rows:
        by_domain[row["domain"]] += len(row["text"])
    assert {name: one["characters"] for name, one in train["by_domain"].items()} == by_domain
    assert {name: one["documents"] for name, one in train["by_licence"].items()} == {"Apache-2.0": 240, "PSF-2.0": 120}
    lengths = sorted(len(row["text"]) for row in rows)
    assert train["lengths"]["quantiles"]["0.9"] == lengths[ceil(0.9 * len(lengths)) - 1]
    bins = Counter(str(2 ** int(log(length, 2))) for length in lengths)
    assert train["lengths"]["histogram"] == bins
    assert {name: one["documents"] for name, one in train["by_duplicates"].items()} == {"1-1": 330, "2-5": 30}
    characters = Counter(character for row in rows for character in row["text"])
    classes: Counter[str] = Counter()
    for character, count in characters.items():
        kind = unicodedata.category(character)[0]
        name = "not_ascii" if not character.isascii() else {"L": "letter", "N": "digit"}.get(kind, "punctuation")
        classes["space" if character in " \t\n" else name] += count
    assert {name: count for name, count in train["character_classes"].items() if count} == classes
    assert found["heldout"]["by_source"]["prose"]["documents"] == 3
    assert found["repeated_ids"]["by_source"] == found["trained_on"]["by_source"] == found["null"] == {}
    assert list(tmp_path.glob("duckdb*")) == []


def test_population_stability_worked_out_by_hand() -> None:
    moved = population_stability("domain", {"a": 60, "b": 40}, {"a": 50, "b": 50})
    assert moved.psi == pytest.approx(0.1 * log(1.2) - 0.1 * log(0.8))  # = 0.0405
    assert (moved.bin, moved.before, moved.after) == ("b", 0.5, 0.4)
    gone = population_stability("domain", {"a": 1.0}, {"a": 3, "b": 1})
    assert gone.psi == pytest.approx(0.25 * log(1 / 0.75) + (1e-4 - 0.25) * log(1e-4 / 0.25))
    assert population_stability("domain", {}, {"a": 1}).psi == 0


def test_a_corpus_has_not_drifted_from_itself_and_shows_what_has(corpus: Path, tmp_path: Path, bounds: Bounds) -> None:
    before = statistics_of(corpus, tmp_path, bounds)
    assert {row.psi for row in drift(before, before)} == {0.0}
    edit(corpus, "prose", lambda rows: [row.update(licence="MIT") for row in rows[:100]])
    after = statistics_of(corpus, tmp_path, bounds)
    moved = {row.feature: row for row in drift(after, before) if row.psi}
    assert set(moved) == {"licence"}
    assert (moved["licence"].bin, moved["licence"].before) == ("MIT", 0.0)
