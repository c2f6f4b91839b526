"""Many parts, whoever looks at them, and what a recipe makes of what is found."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from k2model.artifacts import Store, make
from k2model.documents.schema import part_path, read_documents, write_documents
from k2model.recipe.expectations import Severity, SeverityError
from k2model.recipe.schema import SeverityOverride, ValidationConfig
from k2model.validation.documents import ValidationFailed, part, raw_checks_step
from k2model.validation.documents.suites import Bounds
from k2model.validation.gate import FOUND
from tests.validation.documents.conftest import ROWS, edit, retext, validated
from tests.validation.gates import as_artifact


@pytest.fixture
def parted(corpus: Path) -> Path:
    """The corpus with prose in three parts of 40; row 13 of the second has no licence."""
    rows = read_documents(part_path(corpus, "train", "prose"))
    rows[53]["licence"] = "unknown"
    for number in range(3):
        write_documents(part_path(corpus, "train", "prose", number), rows[number * 40 : number * 40 + 40])
    return corpus


def contents(folder: Path) -> dict[str, bytes]:
    """Of everything that bears the artifact's digest."""
    paths = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    return {
        name: path.read_bytes()
        for name, path in paths.items()
        if not name.startswith(("attachments/", "artifact.", "manifest."))
    }


def test_files_are_published_one_by_one_and_alike_whether_looked_at_together_or_not(
    parted: Path, tmp_path: Path, bounds: Bounds
) -> None:
    apart = replace(bounds, config=replace(bounds.config, part_bytes=1))
    one, stats = validated(parted, tmp_path / "one", bounds)
    two, stats_apart = validated(parted, tmp_path / "two", apart)
    assert stats == stats_apart
    assert contents(one) == contents(two)
    assert [len(list((folder / FOUND).rglob("*.json"))) for folder in (one, two)] == [1, 7]
    aside = pq.read_table(part_path(one, "quarantine", "prose", 1), partitioning=None).to_pylist()
    assert [(row["row"], row["reason"]) for row in aside] == [(13, "unknown_licence")]
    assert len(read_documents(part_path(one, "train", "prose", 1))) == 39
    assert [p.name for p in (one / "quarantine").rglob("*.parquet")] == ["00001.parquet"]
    assert part_path(one, "train", "prose", 2).stat().st_nlink == 2  # with the part of the corpus
    (found,) = (row for row in json.loads((one / "validation.json").read_text())["expectations"] if row["observed"])
    assert (found["expectation"], found["total"], found["parts"], found["parts_failed"]) == (
        "unknown_licence", ROWS, 3, 1,
    )  # fmt: skip
    assert found["samples"][0].startswith("part 00001 row 13: ")


def test_frames_of_any_size_find_the_same_rows(
    parted: Path, tmp_path: Path, bounds: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(parted, "chat", lambda rows: [rows[i].update(duplicates=0) for i in (0, 49, 50, 119)])
    monkeypatch.setattr(part, "ROWS_PER_FRAME", 50)
    out, _ = validated(parted, tmp_path / "store", bounds)
    aside = pq.read_table(part_path(out, "quarantine", "chat"), partitioning=None)
    assert aside["row"].to_pylist() == [0, 49, 50, 119]
    assert len(read_documents(part_path(out, "train", "chat"))) == ROWS - 4


def test_a_recipe_decides_what_a_breach_leads_to(parted: Path, tmp_path: Path, bounds: Bounds) -> None:
    def run(severity: Severity, name: str) -> dict[str, float]:
        rows = (SeverityOverride("documents/unknown_licence", severity),)
        changed = replace(bounds, config=replace(bounds.config, severities=rows))
        return validated(parted, tmp_path / name, changed)[1]

    warned = run(Severity.WARN, "warned")
    assert (warned["warnings"], warned["quarantined"], warned["documents"]) == (1, 0, 360)
    with pytest.raises(ValidationFailed, match=r"'documents/unknown_licence'.* 1 of 120 rows, in 1 of 3 parts"):
        run(Severity.STOP, "stopped")


@pytest.mark.parametrize(
    ("name", "severity", "says"),
    [
        ("documents/lenght", Severity.WARN, "did you mean 'documents/length'"),
        ("length", Severity.WARN, "did you mean 'documents/length'"),
        ("sources/few_quarantined", Severity.QUARANTINE, "choose 'warn' or 'stop'"),
        ("schema/columns_and_types", Severity.WARN, "can only be 'stop'"),
    ],
)
def test_a_severity_that_cannot_be_is_refused(name: str, severity: Severity, says: str) -> None:
    with pytest.raises(SeverityError, match=says):
        SeverityOverride(name, severity)


def test_drift_from_the_previous_version_warns_or_stops(corpus: Path, tmp_path: Path, bounds: Bounds) -> None:
    one, _ = validated(corpus, tmp_path / "one", bounds)
    bounds = replace(bounds, config=replace(bounds.config, previous_statistics=str(one / "statistics.json")))
    edit(corpus, "prose", lambda rows: [retext(row, "a longer text than before: " + row["text"]) for row in rows])
    with pytest.raises(ValidationFailed, match=r"'drift/drifted_far'.*\n.*feature='length'"):
        validated(corpus, tmp_path / "two", bounds)
    rows = (SeverityOverride("drift/drifted_far", Severity.WARN),)
    lenient = replace(bounds, config=replace(bounds.config, severities=rows))
    _, stats = validated(corpus, tmp_path / "two", lenient)
    assert stats["warnings"] == 2


#: Expectation of raw documents -> the row it is planted in and how.
RAW = {
    "raw/null_origin": (3, lambda row: row.update(origin=None)),
    "raw/empty_text": (4, lambda row: retext(row, " \n")),
    "raw/bad_characters": (5, lambda row: retext(row, "a\x00b")),
    "raw/unknown_licence": (6, lambda row: row.update(licence="")),
    "raw/unknown_special_token": (7, lambda row: row["spans"][0].update(kind="speciall")),
    "raw/spans_do_not_cover_text": (8, lambda row: row.update(text="other")),
    "raw/duplicates_below_one": (9, lambda row: row.update(duplicates=0)),
    "raw/source_matches_shard": (10, lambda row: row.update(source="code")),
}


def test_defects_of_raw_documents_stop_unless_curation_mends_them(corpus: Path, tmp_path: Path) -> None:
    def check(name: str) -> dict[str, float]:
        store = Store.open(tmp_path / name)
        return make(store, raw_checks_step(store, ValidationConfig(), as_artifact(store, "corpus_raw", corpus))).stats

    assert check("calm")["warnings"] == 0
    edit(corpus, "prose", lambda rows: [spoil(rows[row]) for row, spoil in RAW.values()])
    with pytest.raises(ValidationFailed, match="raw corpus breaks 6 expectations") as failure:
        check("spoilt")
    found = {one.name: one for one in failure.value.outcomes}
    assert set(found) == set(RAW) - {"raw/empty_text", "raw/bad_characters"}
    for name, one in found.items():
        assert [sample.partition(":")[0] for sample in one.samples] == [f"part 00000 row {RAW[name][0]}"]
    assert "bad_characters" in failure.value.html
