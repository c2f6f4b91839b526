"""Curation through a store, from parts of which each reads its own files alone."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from k2model.artifacts import ArtifactRef, PartedStep, Store, make, make_part
from k2model.artifacts.places import PARTS
from k2model.curation import clean_step, curated_step, decisions
from k2model.documents.schema import part_path, read_documents, write_documents
from k2model.documents.spans import segments_of
from k2model.recipe.evaluation import AnswerCheck, BenchmarkConfig, Mode
from tests.curation.chain import compare, curate
from tests.curation.planted import CONFIG, GOOD, prose, sentences, tool_document, write_raw
from tests.validation.gates import as_artifact


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three parts of prose with copies across parts and splits, and one of tools."""
    rng = Random(5)
    pages = [prose(f"{GOOD}{sentences(rng, 12)}", f"page {i}") for i in range(24)]
    parts = {("train", "prose", part): pages[part * 8 : part * 8 + 9] for part in range(3)}
    parts |= {
        ("heldout", "prose", 0): [prose(segments_of(pages[3])[1]["text"], "copy")],
        ("heldout", "chat/tools", 0): [],
    }
    write_raw(tmp_path / "raw", parts | {("train", "chat/tools", 0): [tool_document("1+1")]})
    return tmp_path / "raw"


def stored(store: Store, raw: Path) -> ArtifactRef:
    return as_artifact(store, "corpus_raw", raw)


def test_any_number_of_workers_gives_the_same(raw: Path, tmp_path: Path) -> None:
    stores = [Store.open(tmp_path / name) for name in ("one", "two")]
    made = [curate(store, CONFIG, stored(store, raw), workers) for store, workers in zip(stores, (1, 2), strict=True)]
    assert made[0].digest == made[1].digest and made[0].stats == made[1].stats
    assert made[0].stats["exact_duplicates"] == 3.0  # two across parts, one of a held-out page


def test_what_is_compared_with_items_bears_the_identity(raw: Path, tmp_path: Path) -> None:
    """Also where cleaning gives the same, so that no input tells of it."""
    store = Store.open(tmp_path / "store")
    ref = stored(store, raw)
    clean = make(store, clean_step(store, CONFIG, ref))
    copies = compare(store, CONFIG, clean)
    free = replace(CONFIG, profiles=tuple(replace(profile, overlap=False) for profile in CONFIG.profiles))
    again = make(store, clean_step(store, free, ref))
    assert again.digest == clean.digest
    keys = [curated_step(store, config, ref, clean, copies).identity.key for config in (CONFIG, free)]
    assert keys[0] != keys[1]


def test_documents_that_hold_an_item_of_a_benchmark_go_and_are_counted_under_its_name(
    raw: Path, tmp_path: Path
) -> None:
    leaked = sentences(Random(9), 4)
    leaky = prose(f"{GOOD}{leaked} {sentences(Random(7), 12)}", "leak")
    write_documents(part_path(raw, "train", "prose", 2), [*read_documents(part_path(raw, "train", "prose", 2)), leaky])
    (tmp_path / "exam.jsonl").write_text(json.dumps({"q": {"text": leaked}, "choices": ["no", "yes"], "answer": "B"}))
    exam = BenchmarkConfig("law/exam", str(tmp_path / "exam.jsonl"), AnswerCheck.CHOICE, prompt="q.text")
    store = Store.open(tmp_path / "store")
    ref = stored(store, raw)
    clean = make(store, clean_step(store, CONFIG, ref))
    copies = compare(store, CONFIG, clean)

    def step(*benchmarks: BenchmarkConfig) -> PartedStep:
        return curated_step(store, CONFIG, ref, clean, copies, benchmarks)

    kept, made = make(store, step()), make(store, step(exam), workers=2)
    assert made.stats["contaminated"] == 1.0 and made.stats["documents"] == kept.stats["documents"] - 1
    account = json.loads(store.read(made, "curation.json"))["decontamination"]
    assert account["families"]["law/exam"] | {"holds_out": 0} == {
        "items": 1, "holds_out": 0, "touched": 1, "overlapping": 0, "removed": 1, "kept": 0,
    }  # fmt: skip
    assert [(match["family"], match["document_id"]) for match in account["matches"]] == [("law/exam", leaky["id"])]
    # How it is asked is no matter of the corpus, and one that is not looked for is none at all.
    asked_otherwise = replace(exam, mode=Mode.HIGH, shots=2, template="Q: {prompt}", licence="MIT", group="Law")
    assert step(asked_otherwise).identity.key == made.identity
    assert step(replace(exam, decontaminate=False)).identity.key == kept.identity
    assert step(replace(exam, prompt="other")).identity.key != made.identity


def test_a_part_needs_no_other_parts_files(raw: Path, tmp_path: Path) -> None:
    """Every other part of the inputs is damaged before one is made: it is made all the same."""
    store = Store.open(tmp_path / "store")
    ref = stored(store, raw)
    clean = make(store, clean_step(store, CONFIG, ref))
    step = curated_step(store, CONFIG, ref, clean, compare(store, CONFIG, clean))
    one, *_, other = [part for part in step.parts() if "prose" in part.name]
    calm = make_part(store, step, other)
    Path(store.uri, PARTS, step.identity.name, "records", f"{other.name}.json").unlink()
    for folder in (Path(ref.uri), Path(clean.uri) / "clean", Path(clean.uri) / "signatures"):
        (folder / f"{one.name}.parquet").write_bytes(b"damaged")
    assert make_part(store, step, other).files == calm.files


def test_a_part_is_given_the_decisions_on_its_own_documents_alone(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those on the others are damaged; the corpus is the same however the decisions are cut."""
    whole = curate(Store.open(tmp_path / "whole"), CONFIG, stored(Store.open(tmp_path / "whole"), raw))
    monkeypatch.setattr(decisions, "FILE_DOCUMENTS", 10)  # held-out 0, prose 1-9, 10-18, 19-26, tools 27
    store = Store.open(tmp_path / "store")
    ref = stored(store, raw)
    clean = make(store, clean_step(store, CONFIG, ref))
    copies = compare(store, CONFIG, clean)
    step = curated_step(store, CONFIG, ref, clean, copies)
    files = {name: (Path(copies.uri) / name).read_bytes() for kind in ("gone", "standing")
             for name in (f"{kind}/0000{number}.parquet" for number in range(3))}  # fmt: skip
    assert {path.relative_to(copies.uri).as_posix() for path in Path(copies.uri).rglob("*.parquet")} == files.keys()
    for part, own in zip(step.parts(), (0, 0, 0, 1, 1, 2), strict=True):
        for name, data in files.items():
            (Path(copies.uri) / name).write_bytes(data if f"/0000{own}" in name else b"damaged")
        make_part(store, step, part)
    assert make(store, step).digest == whole.digest


def test_curation_on_an_object_store_gives_the_same(raw: Path, tmp_path: Path, s3_uri: str) -> None:
    local, remote = Store.open(tmp_path / "store"), Store.open(s3_uri)
    assert curate(remote, CONFIG, stored(remote, raw)).digest == curate(local, CONFIG, stored(local, raw)).digest
