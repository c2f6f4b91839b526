"""What lies at the places that a recipe names, through the real tasks: never an old answer.

A field that names a place is found by its marker; one that has no case here fails.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, get_args, get_type_hints

import pytest
from flytekit import workflow
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from k2model.artifacts import ArtifactRef, Store
from k2model.errors import K2Error
from k2model.lifecycle import LifecyclePlan
from k2model.lifecycle.steps import DATA
from k2model.recipe import Recipe, apply_overrides
from k2model.recipe.evaluation import BenchmarkConfig
from k2model.recipe.fields import is_place
from k2model.recipe.laptop import smoke
from k2model.recipe.schema import CorpusConfig, MixtureEntry, SourceConfig
from tasks.steps import compose_all, gather_parts, list_parts, make_parts


class Prepared(NamedTuple):
    raw: ArtifactRef
    curated: ArtifactRef
    corpus: ArtifactRef
    tokenizer: ArtifactRef
    tokens: ArtifactRef


@workflow
def prepare(plan: LifecyclePlan) -> Prepared:
    made: dict[str, Any] = {}
    compose_all(DATA, None, plan, made)
    return Prepared(made["corpus_raw"], made["corpus"], made["corpus_valid"], made["tokenizer"], made["tokens"])


RNG = Random(1)
PAGES = [" ".join(f"w{RNG.randrange(900)} of the" for _ in range(20)) for _ in range(24)]


def web(last: str) -> bytes:
    return "".join(json.dumps({"text": page}) + "\n" for page in [*PAGES, last]).encode()


def quiz(page: int) -> bytes:
    """A question that a page gives away."""
    return json.dumps({"prompt": PAGES[page], "answer": "yes"}).encode()


def specification(vocab_size: int) -> bytes:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(PAGES, trainer)
    return tokenizer.to_str().encode()


def statistics(licence: str) -> bytes:
    amounts = {name: {"x": {"bytes": 1}} for name in ("by_source", "by_domain")}
    licences = {"by_licence": {licence: {"bytes": 1}}, "by_duplicates": {"1-1": {"text_bytes": 1}}}
    shape = {"lengths": {"histogram": {"128": 1}}, "character_classes": {"letter": 1}}
    return json.dumps({"train": amounts | licences | shape}).encode()


def drifted(n: int) -> bytes:
    """Statistics of an earlier corpus; with 0 its licence was the one of today."""
    return statistics(f"L{n}" if n else "CC0-1.0")


@dataclass(frozen=True)
class Case:
    """A field: its name as an override (`{}` for a place), the file there, the step that reads it, and contents."""

    override: str
    file: str
    step: str
    output: str  # of `Prepared`: what must be new
    content: Callable[[int], bytes]


CASES = {
    "corpus.sources.location": Case(
        "corpus.sources.web.location", "web/rows.jsonl", "corpus_raw", "raw", lambda n: web(f"A page of its own: {n}.")
    ),
    "corpus.decontamination.external": Case(
        "corpus.decontamination.external", "quiz.jsonl", "corpus", "curated", quiz
    ),
    "evaluation.benchmarks.location": Case(
        "evaluation.benchmarks.exam.location", "exam.jsonl", "corpus", "curated", quiz
    ),
    "validation.previous_statistics": Case(
        "validation.previous_statistics", "statistics.json", "corpus_valid", "corpus", drifted
    ),
    "tokenizer.adopt": Case(
        "tokenizer.adopt", "tokenizer/tokenizer.json", "tokenizer", "tokenizer", lambda n: specification(320 + n)
    ),
}  # fmt: skip


def place_fields(kind: Any) -> Iterator[str]:
    """Dotted names of the fields that name a place, below a dataclass."""
    for name, hint in get_type_hints(kind).items():
        if any(f.name == name and is_place(f) for f in fields(kind)):
            yield name
        for below in (hint, *get_args(hint)):
            if is_dataclass(below):
                yield from (f"{name}.{rest}" for rest in place_fields(below))


#: Read by steps of models, not of data, or when a recipe is loaded: their cases are in tests/evals/test_benchmarks.py,
#: tests/export/test_adoption.py, tests/recipe/test_task_files.py, tests/safety/test_steps.py and
#: tests/synthesis/test_steps.py.
ELSEWHERE = [
    "corpus.sources.job.queries",
    "evaluation.benchmarks.examples",
    "adopted.location",
    "evaluation.task_files",
    "safety.data",
]


def test_every_field_that_names_a_place_has_a_case() -> None:
    assert sorted(place_fields(Recipe)) == sorted([*CASES, *ELSEWHERE])


def put(file: Path, content: bytes) -> None:
    """In place, and its time tells nothing of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, ns=(0, 0))


def recipe(home: Path) -> Recipe:
    """One source in a file; each place named by its folder or file below `home`."""
    base = smoke()
    source = SourceConfig("web", location="set below", domain="prose", licence="CC0-1.0", heldout=0.1)
    small = replace(
        base,
        corpus=CorpusConfig(sources=(source,), heldout_items=8, part_bytes=2_000),
        validation=replace(base.validation, min_documents_per_source=1, drift_stop=1e6),
        phases=(replace(base.phases[0], mixture=(MixtureEntry("web", 1.0),)),),
        evaluation=replace(base.evaluation, benchmarks=(BenchmarkConfig("exam", "set below", licence="CC0-1.0"),)),
    )
    named = {case.override: str(home / case.file.split("/")[0]) for case in CASES.values()}
    named["corpus.decontamination.external"] = [named["corpus.decontamination.external"]]
    return apply_overrides(small, named)


@dataclass(frozen=True)
class World:
    """A home with all places filled, and what was made of them."""

    home: Path
    store: Store
    first: Prepared

    def plan(self, home: Path | None = None) -> LifecyclePlan:
        return LifecyclePlan(recipe(home or self.home), self.store.uri)

    def run(self, home: Path | None = None) -> Prepared:
        return Prepared(*prepare(plan=self.plan(home)))

    def made(self) -> list[str]:
        return sorted(str(path) for path in Path(self.store.uri, "_ledger").rglob("*.json"))

    def inputs_of(self, step: str) -> dict[str, ArtifactRef]:
        """Of the newest artifact of a step."""
        found = self.store.records(step)[-1]["inputs"].values()
        return {
            one["kind"]: ArtifactRef(one["kind"], f"{self.store.uri}/{one['uri']}", one["digest"], "") for one in found
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("places")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K2_HOME", str(home / "home"))
        for case in CASES.values():
            put(home / case.file, case.content(0))
        store = Store.open(home / "store")
        empty = World(home, store, None)  # type: ignore[arg-type]
        yield replace(empty, first=empty.run())


@pytest.mark.parametrize("field", CASES)
def test_content_changed_in_place_is_made_anew_and_changed_back_is_found(world: World, field: str) -> None:
    case = CASES[field]
    file = world.home / case.file
    before, old = world.made(), file.read_bytes()
    put(file, case.content(1))
    changed = world.run()
    assert getattr(changed, case.output).identity != getattr(world.first, case.output).identity
    if field == "validation.previous_statistics":  # how far it has drifted is no part of the corpus
        drifts = [Path(one.corpus.uri, "attachments/mixtures.json").read_bytes() for one in (world.first, changed)]
        assert drifts[0] != drifts[1] and changed.tokens == world.first.tokens
    else:
        assert getattr(changed, case.output).digest != getattr(world.first, case.output).digest
        assert changed.tokens.digest != world.first.tokens.digest
    after = world.made()
    assert after != before
    put(file, old)
    assert world.run() == world.first and world.made() == after


def test_the_same_content_elsewhere_makes_nothing(world: World, tmp_path: Path) -> None:
    before = world.made()
    for case in CASES.values():
        (tmp_path / case.file).parent.mkdir(exist_ok=True)
        shutil.copyfile(world.home / case.file, tmp_path / case.file)
    assert world.run(tmp_path) == world.first and world.made() == before


def make(given: dict[str, Any]) -> ArtifactRef:
    """A step by its three tasks."""
    identity, shares = list_parts(**given)
    made = [make_parts(**given, identity=identity, share=share) for share in shares]
    return gather_parts.task_function(**given, identity=identity, made=made)


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("field", [name for name, case in CASES.items() if case.step != "tokenizer"])
def test_what_changes_after_it_was_listed_is_named_and_gets_into_nothing(world: World, field: str, gone: bool) -> None:
    case, wanted, plan = CASES[field], 2 + gone, world.plan()
    file = world.home / case.file
    old = file.read_bytes()
    given = {"step": case.step, "phase": "", "plan": plan, "inputs": world.inputs_of(case.step)}
    put(file, case.content(wanted))
    identity, shares = list_parts(**given)
    assert shares
    file.unlink() if gone else put(file, case.content(4))
    with pytest.raises(K2Error, match="previous from" if case.step == "corpus_valid" and not gone else file.name):
        made = [make_parts(**given, identity=identity, share=share) for share in shares]
        gather_parts.task_function(**given, identity=identity, made=made)
    put(file, case.content(wanted))
    elsewhere = replace(plan, store=str(world.home / field / str(gone)))
    assert make(given).digest == make(given | {"plan": elsewhere}).digest
    put(file, old)
