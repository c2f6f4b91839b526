"""Documents of a new corpus that earlier corpora have: found by signatures alone, removed, and what they copy told."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest

from k2model.artifacts import ArtifactRef, PartedStep, Store, make
from k2model.curation import clean_step, curated_step, known_copies_step
from k2model.curation.counts import read_rejects
from k2model.curation.known import PART_LEADERS
from k2model.curation.overlap import EvaluationItem
from k2model.curation.parts import CorpusPart
from k2model.curation.signatures import SKETCHES
from k2model.documents.markup import plain
from k2model.documents.schema import Document, make_document, make_item, part_path, read_documents
from k2model.documents.spans import segments_of
from k2model.errors import CorpusError
from k2model.evals.contamination import corpus_items_step, evaluation_items_step
from k2model.recipe.curation import GENERATED, CurationProfile
from k2model.recipe.evaluation import EvaluationConfig
from k2model.recipe.schema import CorpusConfig, SourceConfig
from tests.curation import planted
from tests.curation.chain import compare
from tests.curation.planted import distinct_words, edited, prose, tool_document, write_raw
from tests.validation.gates import as_artifact

OLD = replace(planted.CONFIG, profiles=(CurationProfile("anything", ("prose",), overlap=False), GENERATED))
NEW = replace(
    OLD,
    sources=(SourceConfig("batch/news"), SourceConfig("batch/tools")),
    profiles=(CurationProfile("natural", ("batch/news",)), replace(GENERATED, sources=("batch/tools",))),
)
WORDS = 240


def said(source: str, text: str, origin: str) -> Document:
    return make_document(source, "prose", "CC0-1.0", origin, plain(text))


class World:
    """Two known corpora, and a new one with copies of both planted.

    The new training documents, by number of their signature behind the held-out ones (0: equal to a held-out one):
    1 equal to a training one, 2 near one (Jaccard 0.84), 3 half like one, 4 near 2 (0.88) and less like what 2 copies
    (0.74), 5 near one of both corpora (0.96), 6 of nobody, 7 equal to 6.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        rng = Random(11)
        self.store = store
        known = [distinct_words(rng, WORDS) for _ in range(12)]
        last = distinct_words(rng, WORDS)
        own = distinct_words(rng, WORDS)
        half = known[0][: int(WORDS * 2 / 3)] + distinct_words(rng, WORDS // 3)
        near = edited(rng, known[2], 4)
        old = {
            ("train", "prose", 0): [prose(" ".join(words), f"old {i}") for i, words in enumerate(known[:5])],
            ("train", "prose", 1): [prose(" ".join(words), f"old {i}") for i, words in enumerate(known[5:], 5)],
            ("heldout", "prose", 0): [prose(" ".join(last), "held")],
            ("train", "chat/tools", 0): [tool_document("1+1")],
        }
        other = {("train", "prose", 0): [prose(" ".join(known[7]), "again")]}
        self.texts = [
            " ".join(words)
            for words in (last, known[0], near, half, edited(rng, near, 3), edited(rng, known[7], 1), own, own)
        ]
        new = {
            ("heldout", "batch/news", 0): [said("batch/news", self.texts[0], "new held")],
            ("train", "batch/news", 0): [said("batch/news", text, f"new {i}") for i, text in enumerate(self.texts[1:])],
            ("train", "batch/tools", 0): [said("batch/tools", " ".join(edited(rng, known[1], 1)), "generated")],
        }  # fmt: skip
        made = []
        for name, parts, config in (("old", old, OLD), ("other", other, OLD), ("new", new, NEW)):
            write_raw(folder / name, parts)
            raw = as_artifact(store, "corpus_raw", folder / name)
            made.append((raw, make(store, clean_step(store, config, raw))))
        (_, self.old), (_, self.other), (self.raw, self.clean) = made

    @property
    def known(self) -> dict[str, ArtifactRef]:
        return {"lifecycle": self.old, "batch/other": self.other}

    def step(self, slice_rows: int = 1_000) -> PartedStep:
        return known_copies_step(self.store, NEW, self.clean, self.known, slice_rows)

    def duplicates(self, known: ArtifactRef | None) -> ArtifactRef:
        return compare(self.store, NEW, self.clean, known=known)

    def curated(self, known: ArtifactRef | None, items: Sequence[ArtifactRef] = ()) -> ArtifactRef:
        return make(
            self.store, curated_step(self.store, NEW, self.raw, self.clean, self.duplicates(known), items=items)
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(Store.open(tmp_path_factory.mktemp("store")), tmp_path_factory.mktemp("raw"))


def told(world: World, ref: ArtifactRef) -> dict[int, tuple[str, bool]]:
    rows = pq.read_table(world.store.fetch(ref) / "copies.parquet").to_pylist()
    return {row["document"]: (row["original"], row["near"]) for row in rows}


def kept(corpus: Path, split: str) -> list[str]:
    rows = read_documents(part_path(corpus, split, "batch/news"))
    return [segments_of(row)[1]["text"] for row in rows]


FOUND = {
    0: ("lifecycle:heldout/prose/00000:0", False),
    1: ("lifecycle:train/prose/00000:0", False),
    2: ("lifecycle:train/prose/00000:2", True),
    5: ("lifecycle:train/prose/00001:2", True),
}


def test_copies_are_found_with_what_they_copy(world: World) -> None:
    made = make(world.store, world.step())
    assert told(world, made) == FOUND
    assert made.stats == {"documents": 9.0, "exact": 2.0, "near": 2.0}
    assert json.loads(world.store.read(made, "known_copies.json")) == {
        "documents": 9, "exact": 2, "near": 2,
        "corpora": {"lifecycle": {"exact": 2, "near": 2}, "batch/other": {"exact": 0, "near": 0}},
    }  # fmt: skip


def test_the_first_corpus_is_named_and_an_equal_one_before_a_near_one(world: World) -> None:
    """Also when the equal document is in a later corpus."""
    turned = known_copies_step(world.store, NEW, world.clean, {"other": world.other, "lifecycle": world.old})
    assert told(world, make(world.store, turned)) == FOUND | {5: ("other:train/prose/00000:0", True)}
    new = known_copies_step(world.store, OLD, world.other, [world.clean, world.old])
    found = make(world.store, new)
    assert told(world, found) == {0: (f"{world.old.name}:train/prose/00001:2", False)}


def test_slices_and_workers_change_nothing(world: World) -> None:
    whole = make(world.store, world.step())
    for rows, slices in ((1, 5), (6, 4)):
        step = world.step(rows)
        assert len(step.parts()) == slices
        sliced = make(world.store, step, workers=2 if rows == 6 else 1)
        for name in ("copies.parquet", "known_copies.json"):
            assert world.store.read(sliced, name) == world.store.read(whole, name)


def test_no_text_is_read_and_sketches_of_look_alikes_alone(world: World, tmp_path: Path) -> None:
    store = Store.open(shutil.copytree(world.store.uri, tmp_path / "store"))
    for ref in (world.old, world.other, world.clean):
        for path in (Path(store.uri) / ref.name / "clean").rglob("*.parquet"):
            path.write_bytes(b"damaged")
    (Path(store.uri) / world.old.name / SKETCHES / "heldout/prose/00000.parquet").write_bytes(b"damaged")
    shutil.rmtree(Path(store.uri) / "known_copies", ignore_errors=True)
    made = make(store, known_copies_step(store, NEW, world.clean, world.known, 500))
    assert told(world, made) == FOUND


def test_they_leave_the_corpus_with_their_rule(world: World) -> None:
    copies = make(world.store, world.step())
    made = world.store.fetch(world.curated(copies))
    texts = {split: kept(made, split) for split in ("heldout", "train")}
    # 4 stays: what it is like is gone, and it is not like anything known. 7 is a copy of 6.
    assert texts == {"heldout": [], "train": [world.texts[number] for number in (3, 4, 6)]}
    assert len(read_documents(part_path(made, "train", "batch/tools"))) == 1  # near copies of generated text are none
    rejects = {}
    for split in ("heldout", "train"):
        for one in read_rejects(CorpusPart(split, "batch/news", 0).file(made / "rejects")):
            rejects[split, one.row] = (one.rule, one.detail)
    assert rejects == {
        ("heldout", 0): ("exact_duplicate", "lifecycle:heldout/prose/00000:0"),
        ("train", 0): ("exact_duplicate", "lifecycle:train/prose/00000:0"),
        ("train", 1): ("near_duplicate", "lifecycle:train/prose/00000:2"),
        ("train", 4): ("near_duplicate", "lifecycle:train/prose/00001:2"),
        ("train", 6): ("exact_duplicate", "train/batch-news/00000:5"),
    }
    assert [row["duplicates"] for row in read_documents(part_path(made, "train", "batch/news"))] == [1, 1, 2]
    assert world.curated(copies).stats["exact_duplicates"] == 3.0
    without = world.store.fetch(world.curated(None))
    assert kept(without, "train") == [world.texts[number] for number in (1, 2, 3, 5, 6)]


def test_without_copies_nothing_differs(world: World, tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", {("train", "prose", 0): [prose(" ".join(distinct_words(Random(3), WORDS)), "far")]})
    far = make(world.store, clean_step(world.store, OLD, as_artifact(world.store, "corpus_raw", tmp_path / "raw")))
    for known in ({"far": far}, {}):
        copies = make(world.store, known_copies_step(world.store, NEW, world.clean, known))
        assert copies.stats == {"documents": 9.0, "exact": 0.0, "near": 0.0}
        assert world.duplicates(copies).digest == world.duplicates(None).digest
    paths = [entry.path for entry in world.store.look_up(world.duplicates(None))[1].files]
    assert not any(path.startswith("known/") for path in paths)


def test_a_corpus_of_other_signatures_is_refused_by_field(world: World) -> None:
    other: dict[str, CorpusConfig] = {
        "minhash_permutations": replace(NEW, minhash_permutations=64),
        "near_duplicate_threshold": replace(NEW, near_duplicate_threshold=0.7),
        "shingle_words": replace(NEW, shingle_words=3),
    }
    for field, config in other.items():
        value = getattr(config, field)
        step = known_copies_step(world.store, config, world.clean, world.known)
        with pytest.raises(
            CorpusError, match=rf"the known corpus 'lifecycle' .* corpus\.{field} = .*, the new .*{value}"
        ):
            make(world.store, step)


def test_more_of_one_kind_than_are_compared_hide_nothing(world: World, tmp_path: Path) -> None:
    """Known near copies of each other fill a band, and one like them is still found."""
    rng = Random(5)
    base = distinct_words(rng, WORDS)
    crowd = [prose(" ".join(edited(rng, base, 1)), f"{i}") for i in range(PART_LEADERS + 20)]
    write_raw(tmp_path / "crowd", {("train", "prose", 0): crowd})
    write_raw(tmp_path / "new", {("train", "batch/news", 0): [said("batch/news", " ".join(base), "base")]})
    refs = [
        make(world.store, clean_step(world.store, config, as_artifact(world.store, "corpus_raw", tmp_path / name)))
        for name, config in (("crowd", OLD), ("new", NEW))
    ]
    found = told(world, make(world.store, known_copies_step(world.store, NEW, refs[1], {"crowd": refs[0]})))
    assert found == {0: ("crowd:train/prose/00000:0", True)}


def test_items_of_other_corpora_go_as_well(world: World, tmp_path: Path) -> None:
    """By their words in text, each once, however many artifacts have it."""
    leaked = " ".join(world.texts[6].split()[20:60])
    item = EvaluationItem("exam", "1", "", leaked, "", True, True)
    write_raw(tmp_path / "old", {}, [make_item("arithmetic", "1+2", "Compute 1+2 =", "3")])
    corpus = as_artifact(world.store, "corpus_valid", tmp_path / "old")
    refs = [
        make(world.store, evaluation_items_step([item])),
        make(world.store, evaluation_items_step([item, item._replace(id="2", prompt="something else entirely")])),
        make(world.store, corpus_items_step(world.store, corpus, EvaluationConfig(families=()))),
    ]
    plain_ref, made = world.curated(None), world.curated(None, refs)
    assert made.stats["contaminated"] == 1.0 and made.stats["documents"] == plain_ref.stats["documents"] - 1
    families = json.loads(world.store.read(made, "curation.json"))["decontamination"]["families"]
    assert (families["exam"]["items"], families["exam"]["removed"]) == (2, 1) and families["arithmetic"]["items"] == 1
    assert world.curated(None, ()).identity == plain_ref.identity != made.identity


def test_on_an_object_store_the_same_is_found(world: World, s3_uri: str, tmp_path: Path) -> None:
    remote = World(Store.open(s3_uri), tmp_path)
    copies = make(remote.store, remote.step(6))
    assert told(remote, copies) == FOUND
    assert remote.curated(copies).digest == world.curated(make(world.store, world.step(6))).digest


def test_many_new_documents_of_one_kind_are_all_found(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever number of pairs is held at a time, and whichever of them are compared first."""
    rng = Random(8)
    base = distinct_words(rng, WORDS)
    near = [" ".join(edited(rng, base, 1)) for _ in range(60)]
    write_raw(tmp_path / "old", {("train", "prose", 0): [prose(text, f"{i}") for i, text in enumerate(near[:30])]})
    write_raw(tmp_path / "new", {("train", "batch/news", 0): [said("batch/news", text, text) for text in near[30:]]})
    clean = [
        make(world.store, clean_step(world.store, config, as_artifact(world.store, "corpus_raw", tmp_path / name)))
        for name, config in (("old", OLD), ("new", NEW))
    ]
    step = known_copies_step(world.store, NEW, clean[1], {"old": clean[0]})
    found = told(world, make(world.store, step))
    assert found == {number: ("old:train/prose/00000:0", True) for number in range(30)}
    shutil.rmtree(world.store.location(step.identity))
    monkeypatch.setattr("k2model.curation.known._CANDIDATES", 7)
    monkeypatch.setattr("k2model.curation.known._PAIRS", 3)
    assert told(world, make(world.store, step)) == found
