"""What a checkpoint had seen of the items: compared with the text of the very rows it was trained on."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from k2model.artifacts import ArtifactRef, Identity, Store, make
from k2model.curation.overlap import EvaluationItem
from k2model.documents.families.generated import generate
from k2model.documents.markup import plain
from k2model.documents.schema import make_document, make_item, part_path, write_documents, write_items
from k2model.errors import EvaluationError, TokensError
from k2model.evals.clean_scores import SeenItems, Sighting, clean_score, clean_scores, family_of
from k2model.evals.contamination import (
    Level,
    corpus_items_step,
    evaluation_items_step,
    items_seen_step,
    overlap_step,
    read_evaluation_items,
)
from k2model.evals.items import Grade, ItemResult
from k2model.evals.statistics import wilson
from k2model.recipe.curation import DecontaminationConfig
from k2model.recipe.evaluation import BenchmarkConfig, EvaluationConfig
from k2model.recipe.schema import MixtureEntry, PhaseConfig
from k2model.tokens import K2Tokenizer, PackedSequences, sequences_step
from k2model.training.log import Intervention
from tests.model.conftest import byte_tokenizer
from tests.tokens.folders import tokenize_folder
from tests.tokens.phases import PHASE
from tests.validation.gates import as_artifact

MAX_EPOCHS = 60.0
FIRST = replace(
    PHASE, name="first", sequence_length=256, global_batch=4, steps=10, mixture=(MixtureEntry("prose", 1.0),)
)
SECOND = replace(FIRST, name="second", parent="first", steps=6, seed=4, mixture=(MixtureEntry("sums", 1.0),))


def passage(rng: random.Random, words: int) -> str:
    return " ".join(f"{rng.choice('abcdefgh')}{rng.randrange(10_000)}" for _ in range(words))


def planted() -> tuple[list[EvaluationItem], dict[tuple[str, int], list[str]]]:
    """Items, and the texts of every part of the corpus: `prose` holds most items in some document, `sums` the last
    one, and nobody holds `free`."""
    rng = random.Random(7)
    texts = {name: passage(rng, 16) for name in [*map(str, range(8)), "free"]}
    items = [EvaluationItem("quiz", name, "", text[:40], text[40:], True, True) for name, text in texts.items()]
    items.append(EvaluationItem("sums", "2+2", "2+2", "Compute 2+2=", "4", False, True))
    parts = {("prose", part): [passage(rng, 20) for _ in range(40)] for part in range(2)}
    for number in range(7):
        parts["prose", number % 2][3 + number] = f"{passage(rng, 4)} {texts[str(number)]} {passage(rng, 3)}"
    parts["sums", 0] = [passage(rng, 12) for _ in range(30)]
    parts["sums", 0][11] = f"and so {texts['7']} it went"
    return items, parts


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> K2Tokenizer:
    return K2Tokenizer.load(byte_tokenizer(tmp_path_factory.mktemp("tokenizer")))


class World:
    """A corpus, its tokens, the rows of two phases, and what was found of the items in it."""

    def __init__(self, store: Store, folder: Path, tokenizer: K2Tokenizer, workers: int = 1) -> None:
        self.store, self.tokenizer = store, tokenizer
        self.items, parts = planted()
        for (source, part), texts in parts.items():
            key = "1+1\n2+2" if source == "sums" else ""
            documents = [make_document(source, "prose", "CC0-1.0", f"{part} {i}", plain(text), key if i == 5 else "")
                         for i, text in enumerate(texts)]  # fmt: skip
            write_documents(part_path(folder / "corpus", "train", source, part), documents)
        tokenize_folder(folder / "corpus", tokenizer, folder / "tokens")
        self.corpus = as_artifact(store, "corpus_valid", folder / "corpus")
        self.tokens = as_artifact(store, "tokens", folder / "tokens")
        self.known = make(store, evaluation_items_step(self.items))
        self.overlap = make(store, overlap_step(store, self.known, self.corpus, DecontaminationConfig()), workers)
        self.rows = {phase.name: make(store, sequences_step(store, phase, self.tokens)) for phase in (FIRST, SECOND)}
        assert read_evaluation_items(store, self.known) == self.items

    def first(
        self, phase: PhaseConfig, left_out: tuple[int, ...] = (), level: Level = Level.ROWS,
        rows: ArtifactRef | None = None,
    ) -> ArtifactRef:  # fmt: skip
        """The `items_seen` of a phase in which some steps were left out one by one."""
        undone = [Intervention("spike", step, step, 0, None, None).record() for step in left_out]

        def produce(folder: Path) -> dict[str, float]:
            (folder / "final").mkdir()
            (folder / "final" / "state.json").write_text(json.dumps({"interventions": undone}))
            return {}

        trained = self.store.build(Identity("checkpoint", "1", {"of": phase.name, "undone": len(undone)}, {}), produce)
        rows = rows or self.rows[phase.name]
        return make(self.store, items_seen_step(
            self.store, phase, self.known, self.overlap, rows, self.tokens, trained, MAX_EPOCHS, level
        ))  # fmt: skip

    def seen(self, left_out: tuple[int, ...] = (), level: Level = Level.ROWS) -> SeenItems:
        phases = {phase.name: self.first(phase, left_out, level) for phase in (FIRST, SECOND)}
        return SeenItems.read(self.store, (FIRST, SECOND), phases)

    def read(self, phase: PhaseConfig, left_out: tuple[int, ...] = ()) -> dict[str, int]:
        """Document -> the first step of a phase whose rows hold its first words, by reading all rows."""
        rows, first = PackedSequences(self.store.fetch(self.rows[phase.name])), {}
        for step in (step for step in range(phase.steps) if step not in left_out):
            batch = rows.batch(step, phase.global_batch)
            text = "\n".join(self.tokenizer.decode(row) for row in batch["tokens"].tolist())
            for item in self.items:
                if item.worded and item.text[:30] in text:
                    first.setdefault(item.id, step)
        return first


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tokenizer: K2Tokenizer) -> World:
    return World(Store.open(tmp_path_factory.mktemp("store")), tmp_path_factory.mktemp("data"), tokenizer)


def test_an_item_is_seen_at_the_very_step_whose_rows_hold_it(world: World) -> None:
    read, seen = world.read(FIRST), world.seen()
    assert 2 <= len(read) <= 7 and len(set(read.values())) > 1  # or the test could not tell one step from another
    assert {item: one.step for (_, item), one in seen.at("first").items() if one} == read
    for step in range(FIRST.steps + 1):
        now = {item for (_, item), sighting in seen.at("first", step).items() if sighting}
        assert now == {item for item, first in read.items() if first < step}
    assert seen.at("first")["quiz", "free"] is None


def test_what_ancestors_saw_counts_and_what_later_phases_see_does_not(world: World) -> None:
    before = {item: Sighting("first", step) for item, step in world.read(FIRST).items()}
    after = {item: Sighting("second", step) for item, step in world.read(SECOND).items()}
    seen = world.seen()
    found = seen.at("second")
    assert "7" not in before and "7" in after
    assert {item: one for (_, item), one in found.items() if one and item != "2+2"} == after | before
    assert found["sums", "2+2"] is not None and found["sums", "2+2"].phase == "second"  # by a key, one of two
    assert seen.at("second", 0) == seen.at("first") and seen.unknown("second") == []


def test_steps_that_an_intervention_left_out_were_not_seen(world: World) -> None:
    skipped = tuple(sorted(set(world.read(FIRST).values())))[:1]
    found = world.seen(skipped).at("first")
    assert {item: one.step for (_, item), one in found.items() if one} == world.read(FIRST, skipped)
    assert world.read(FIRST, skipped) != world.read(FIRST)


def test_by_sources_every_document_of_a_mixture_counts(world: World) -> None:
    found = world.seen(level=Level.SOURCES).at("first", 1)
    assert {item for (_, item), one in found.items() if one} == {str(number) for number in range(7)}


def test_what_nobody_knows_is_told(world: World) -> None:
    """Of a model that is adopted, and of a phase that has not come to its end."""
    known = SeenItems.read(world.store, (replace(FIRST, parent="smol"), SECOND), {"second": world.first(SECOND)})
    assert known.unknown("second") == ["first", "smol"]
    with pytest.raises(EvaluationError, match="only of second"):
        known.at("first")


def test_rows_of_another_packing_are_refused(world: World) -> None:
    with pytest.raises(TokensError, match="use the version that packed it"):
        world.first(replace(FIRST, seed=99, name="another"), rows=world.rows["first"])


def test_parts_give_the_same_in_whatever_processes(world: World, tmp_path: Path, tokenizer: K2Tokenizer) -> None:
    other = World(Store.open(tmp_path / "store"), tmp_path / "data", tokenizer, workers=2)
    assert other.overlap.digest == world.overlap.digest
    assert world.overlap.stats["documents"] == 110
    parts = json.loads(world.store.read(world.overlap, "parts.json"))
    assert parts == {"train/prose/00000": 40, "train/prose/00001": 40, "train/sums/00000": 30}


def test_an_overlap_of_another_corpus_is_refused(world: World, tmp_path: Path) -> None:
    write_documents(part_path(tmp_path, "train", "prose", 0), [make_document("prose", "prose", "x", "y", plain("a b"))])
    corpus = as_artifact(world.store, "corpus_valid", tmp_path)
    mine = world.overlap
    try:
        world.overlap = make(world.store, overlap_step(world.store, world.known, corpus, DecontaminationConfig()))
        with pytest.raises(EvaluationError, match="different corpora"):
            world.first(FIRST)
    finally:
        world.overlap = mine


def test_the_items_of_a_corpus_and_of_benchmarks_are_looked_for(world: World, tmp_path: Path) -> None:
    """Whether or not curation looked for them. Without any, nothing is found."""
    exam = tmp_path / "exam.jsonl"
    exam.write_text(json.dumps({"prompt": "What is it?", "answer": "that", "id": "q1"}) + "\n")
    write_items(tmp_path / "corpus", "tools", [make_item("tools", "calc 1", "1?", "1")])
    corpus = as_artifact(world.store, "corpus_valid", tmp_path / "corpus")
    benchmark = BenchmarkConfig("exam", location=str(exam), id="id", decontaminate=False)
    asked = EvaluationConfig(("tools", "knights_3"), items_per_family=2, benchmarks=(benchmark,))
    found = read_evaluation_items(world.store, make(world.store, corpus_items_step(world.store, corpus, asked)))
    assert [(one.family, one.worded) for one in found] == [
        ("tools", False), ("exam", True), ("knights_3", False), ("knights_3", False),
    ]  # fmt: skip
    assert found[0].key == "calc 1" and found[1].id == "q1" and found[1].text == "What is it?\nthat"
    assert [(one.id, one.key) for one in found[2:]] == [(one["id"], one["key"]) for one in generate("knights_3", 2)]
    none = make(world.store, corpus_items_step(world.store, world.corpus, EvaluationConfig()))
    overlap = make(world.store, overlap_step(world.store, none, world.corpus, DecontaminationConfig()))
    assert none.stats["items"] == 0 and (overlap.stats["documents"], overlap.stats["pairs"]) == (110, 0)


def result(item: str, value: float, grade: Grade | None = None, repeat: int = 0) -> ItemResult:
    grade = grade or (Grade.RIGHT if value == 1 else Grade.WRONG)
    return ItemResult("quiz", item, item, "p", "g", "a", "w", grade, value, repeat=repeat)


def test_a_score_is_told_once_more_without_what_was_seen() -> None:
    seen = {("quiz", name): Sighting("first", 3) if name in "ab" else None for name in "abcdef"}
    results = [result("a", 1), result("b", 1), result("c", 1), result("d", 0), result("e", 0), result("f", 0),
               result("new", 1), result("x", np.nan, Grade.UNSCORED)]  # fmt: skip
    clean = clean_score(results, "quiz", seen)
    assert (clean.n, clean.seen, clean.untold, clean.clean_n) == (7, 2, 1, 4)
    assert (clean.value, clean.low, clean.high) == (0.25, *wilson(1, 4)) and clean.seen_value == 1.0
    assert clean.overlap == pytest.approx(2 / 6)
    nothing = clean_score(results[:2], "quiz", seen)
    assert (nothing.clean_n, nothing.value, nothing.overlap) == (0, None, 1.0)
    assert clean_score(results[6:7], "quiz", seen).overlap is None


def test_scores_find_their_items_and_losses_have_none() -> None:
    names = {
        "facts/seen_wording": "facts_seen", "arithmetic/think": "arithmetic", "retrieval/256@new_theta": "retrieval",
        "exam": "exam", "law/civil": "law/civil",
    }  # fmt: skip
    assert {score: family_of(score) for score in names} == names
    query = replace(result("document#3", 1.0), score="retrieval/256", cluster="document")
    loss = replace(result("document", -40.0, Grade.MEASURED), score="loss/prose")
    found = clean_scores([query, loss], {("retrieval", "document"): Sighting("first", 2)})
    assert list(found) == ["retrieval/256"] and (found["retrieval/256"].seen, found["retrieval/256"].untold) == (1, 0)


def test_items_that_were_asked_several_times_are_one_item_each() -> None:
    seen = {("quiz", name): None for name in "ab"}
    asked = [result(name, value, repeat=i) for name, values in (("a", (1, 1)), ("b", (0, 1)))
             for i, value in enumerate(values)]  # fmt: skip
    clean = clean_score(asked, "quiz", seen)
    assert (clean.n, clean.clean_n, clean.value) == (2, 2, 0.75)
    # By hand: a variance of (0.5**2 + 0.5**2) * 2 / 4**2, as of 0.75 * 0.25 / 0.0625 = 3 items by themselves, not of 4.
    assert (clean.low, clean.high) == pytest.approx(wilson(2.25, 3))
