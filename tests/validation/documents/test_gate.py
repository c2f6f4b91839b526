"""The gates on a corpus as steps of several parts: what they find together, and what a failure leaves."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import ArtifactRef, PartedStep, Store, make
from k2model.recipe.schema import ValidationConfig
from k2model.validation.documents import ValidationFailed, raw_checks_step, valid_step
from tests.validation.documents.conftest import MIXTURES, edit, leak_heldout_text, repeat_id_in_other_shard, retext
from tests.validation.gates import as_artifact, noting

TOGETHER = ValidationConfig(min_documents_per_source=50)
APART = replace(TOGETHER, part_bytes=1)
PARTS = ["heldout/prose/00000", "items/sums", "train/chat/00000", "train/prose/00000", "train/sums-think/00000"]


def valid(store: Store, source: ArtifactRef) -> PartedStep:
    return valid_step(store, APART, MIXTURES, source)


def raw(store: Store, source: ArtifactRef) -> PartedStep:
    return raw_checks_step(store, APART, source)


def attachments(store: Store, ref: ArtifactRef) -> dict[str, bytes]:
    """Of what parts left, without how long each took."""
    folder = store.fetch(ref) / "attachments"
    paths = [path for name in ("found", "summaries") for path in (folder / name).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_parts_are_neighbours_up_to_a_size_and_named_by_what_they_hold(corpus: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    source = as_artifact(store, "corpus", corpus)
    assert [part.name for part in valid(store, source).parts()] == PARTS
    (all_files,) = raw_checks_step(store, TOGETHER, source).parts()
    assert all_files.name == "heldout/prose/00000-and-4"


def test_a_gate_of_several_parts_publishes_what_one_of_one_part_does(corpus: Path, tmp_path: Path) -> None:
    edit(corpus, "prose", lambda rows: [rows[i].update(duplicates=0) for i in (3, 50)])
    edit(corpus, "chat", lambda rows: rows[7].update(licence="unknown"))
    refs, left = [], []
    for name, config in (("together", TOGETHER), ("apart", APART), ("again", replace(APART, workers=1))):
        store = Store.open(tmp_path / name)
        source = as_artifact(store, "corpus", corpus)
        refs.append(make(store, valid_step(store, config, MIXTURES, source)))
        left.append(attachments(store, refs[-1]))
    assert refs[0].stats == refs[1].stats and refs[0].stats["quarantined"] == 3
    assert {ref.digest for ref in refs} == {refs[0].digest}
    assert left[1] == left[2] and len(left[1]) == 2 * len(PARTS)


def test_what_shows_only_over_all_parts_is_found_across_them(corpus: Path, tmp_path: Path) -> None:
    repeat_id_in_other_shard(corpus)
    leak_heldout_text(corpus)
    store = Store.open(tmp_path / "store")
    source = as_artifact(store, "corpus", corpus)
    said = []
    for config in (TOGETHER, APART):
        with pytest.raises(ValidationFailed) as failure:
            make(store, valid_step(store, replace(config, workers=1), MIXTURES, source))
        said.append(str(failure.value))
    assert said[0] == said[1]
    assert "'identifiers/ids_unique'" in said[0] and "'heldout/not_trained_on'" in said[0]


@pytest.mark.parametrize("step", [valid, raw])
def test_a_part_that_fails_keeps_the_others(
    step: Callable[[Store, ArtifactRef], PartedStep], corpus: Path, tmp_path: Path
) -> None:
    store = Store.open(tmp_path / "store")
    log: list[str] = []
    own = step(store, as_artifact(store, "corpus", corpus))
    with pytest.raises(OSError, match="the machine is gone"):
        make(store, noting(own, log, fails=PARTS[3]))
    assert log == PARTS[:4] and store.find(own.identity) is None
    log.clear()
    made = make(store, noting(own, log))
    assert log == PARTS[3:]
    fresh = Store.open(tmp_path / "fresh")
    assert made.digest == make(fresh, step(fresh, as_artifact(fresh, "corpus", corpus))).digest


@pytest.mark.parametrize(("step", "what"), [(valid, "The corpus"), (raw, "The raw corpus")])
def test_a_gate_that_is_not_passed_publishes_nothing_and_looks_at_nothing_twice(
    step: Callable[[Store, ArtifactRef], PartedStep], what: str, corpus: Path, tmp_path: Path
) -> None:
    edit(corpus, "prose", lambda rows: rows[3].update(source="code"))
    edit(corpus, "chat", lambda rows: rows[5].update(source="code"))
    store = Store.open(tmp_path / "store")
    log: list[str] = []
    own = step(store, as_artifact(store, "corpus", corpus))
    for _ in range(2):
        with pytest.raises(ValidationFailed, match=f"{what} breaks 2 expectations") as failure:
            make(store, noting(own, log))
        assert "of 'prose': 1 of 120 rows" in str(failure.value) and "of 'chat': 1 of 120 rows" in str(failure.value)
        assert "source_matches_shard" in failure.value.html
        assert store.find(own.identity) is None and store.records(own.identity.step) == []
    assert log == PARTS


def test_a_raw_corpus_is_checked_alike_in_several_parts(corpus: Path, tmp_path: Path) -> None:
    edit(corpus, "prose", lambda rows: retext(rows[3], "a\x00b"))
    made = []
    for name, config in (("together", TOGETHER), ("apart", replace(APART, workers=1))):
        store = Store.open(tmp_path / name)
        made.append(make(store, raw_checks_step(store, config, as_artifact(store, "corpus_raw", corpus))))
    assert made[0].digest == made[1].digest
    assert made[0].stats == made[1].stats and made[0].stats["warnings"] == 1


def test_on_an_object_store_a_gate_publishes_the_same(corpus: Path, tmp_path: Path, s3_uri: str) -> None:
    edit(corpus, "prose", lambda rows: rows[3].update(duplicates=0))
    made = []
    for uri in (tmp_path / "store", s3_uri):
        store = Store.open(uri)
        made.append(make(store, valid(store, as_artifact(store, "corpus", corpus))))
    assert made[0].digest == made[1].digest and made[0].stats == made[1].stats
