"""The recipe of a challenger: amounts by hand, several turns after each other, and rows packed from it."""

import json
import math
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import ArtifactRef, Identity, Store, make
from k2model.continual.continuation import (
    CHAMPION,
    ContinuationError,
    continuation,
    continued,
    planned_tokens,
    seen_after,
)
from k2model.continual.seen import Counts, fits, realised, timescale, timescales
from k2model.continual.state import BASE, LIFECYCLE, TUNED, Batch, Began, Corpus, Model, Standing, State
from k2model.documents.markup import Segment
from k2model.documents.schema import make_document, write_documents
from k2model.recipe import Recipe, load_recipe
from k2model.recipe.continual import BatchKind, ContinualConfig, GuardConfig, Rewarming
from k2model.recipe.mixtures import plan_mixture
from k2model.recipe.schedules import learning_rate
from k2model.recipe.schema import (
    LongDocuments,
    MixtureEntry,
    OptimizerName,
    PhaseConfig,
    ScheduleConfig,
    ScheduleShape,
    SourceConfig,
)
from k2model.recipe.validate import validate_recipe
from k2model.tokens import K2Tokenizer, sequences_step
from tests.recipe.test_recipes import exact_types
from tests.tokens import conftest as corpora
from tests.tokens.folders import tokenize_folder

tokenizer_folder, tokenizer, corpus = corpora.tokenizer_folder, corpora.tokenizer, corpora.corpus  # fixtures

#: What the lifecycle of the laptop trains on, in thousands of tokens: every source of its phases.
SEEN_BASE = {"prose": 1500.0, "code": 700.0, "retrieval/128": 1500.0, "retrieval/1024": 90.0, "arithmetic/think": 900.0}
SEEN_TUNED = {"chat/tools": 600.0, "chat/facts": 300.0, "prose": 100.0}


def ref(name: str) -> ArtifactRef:
    return ArtifactRef(name, f"/store/{name}/0", name, name, {})


def model(
    turn: int = 0, names: tuple[str, ...] = (LIFECYCLE,), seen: Mapping[str, Mapping[str, float]] | None = None
) -> Model:
    made = {f"{part}/{kind}": ref(kind) for part in (BASE, TUNED) for kind in ("checkpoint", "export")}
    return Model(turn, made, names, {BASE: SEEN_BASE, TUNED: SEEN_TUNED} if seen is None else seen)


def line(*batches: tuple[str, BatchKind], champion: Model | None = None) -> State:
    """A ledger of these batches that wait, or were taken if the champion was trained on them."""
    first = model()
    champion = champion or first
    names = [LIFECYCLE, *(name for name, _ in batches)]
    found = {name: Corpus(name, None, ref("corpus_valid"), ref("tokens")) for name in names}
    taken = {
        name: Batch(name, kind, name, Standing.TAKEN if name in champion.corpora else Standing.WAITING)
        for name, kind in batches
    }
    models = {0: first, champion.turn: champion}
    before = (0,) if champion.turn else ()
    return State("laptop", models=models, champion=champion.turn, before=before, corpora=found, batches=taken)


def batch(name: str, tokens: int, lengths: dict[str, int] | None = None) -> dict[str, Counts]:
    return {f"batch/{name}": Counts(tokens, 100, "chat", lengths or {"64": 100}, 0.1, "CC0-1.0")}


def shares(recipe: Recipe, phase: str) -> dict[str, float]:
    return {entry.source: entry.weight for entry in recipe.phase(phase).mixture}


def changed(**fields: Any) -> Recipe:
    """The laptop's phases, with a line of the default settings but for `fields`."""
    recipe = load_recipe("laptop")
    return replace(recipe, continual=replace(ContinualConfig(tuned="sft", base="mid_4"), **fields))


def tuned_turn(recipe: Recipe, tokens: int = 20_000, turn: int = 1) -> Recipe:
    return continued(
        recipe, line(("a", BatchKind.TUNED)), Began(turn, "", BatchKind.TUNED, ("a",), 0), {"a": batch("a", tokens)}
    )


def test_dialogues_go_on_from_the_champion_for_as_many_steps_as_they_and_their_replay_take() -> None:
    recipe = changed(replay=0.6, base_replay=0.25, epochs=3.0, peak=0.5, warmup=0.1, final=0.2)
    made = tuned_turn(recipe, tokens=20_000)
    (phase,), row = made.phases, recipe.phase("sft")
    assert (made.name, phase.name, phase.parent, phase.steps) == ("laptop", "sft", CHAMPION, 74)  # 60000 / (.4 x 2048)
    assert (phase.rope_theta, phase.sequence_length, phase.global_batch) == (3e5, 128, 16)
    assert phase.optimizer == replace(row.optimizer, lr=row.optimizer.lr * 0.5)
    assert phase.schedule == ScheduleConfig(ScheduleShape.COSINE, 7, 0.2)
    # Of the replay three quarters are fine-tuning's, a quarter its base's without what cannot lie in a row of 128.
    before = 1500 + 700 + 900
    assert shares(made, "sft") == pytest.approx(
        {
            "batch/a": 0.4,
            "chat/tools": 0.6 * 0.75 * 0.6, "chat/facts": 0.6 * 0.75 * 0.3, "prose": 0.6 * 0.75 * 0.1,
            "code": 0.6 * 0.25 * 700 / before, "retrieval/128": 0.6 * 0.25 * 1500 / before,
            "arithmetic/think": 0.6 * 0.25 * 900 / before,
        }
    )  # fmt: skip
    (adopted,) = made.adopted
    assert (adopted.rope_theta, adopted.sequence_length, adopted.training_state) == (3e5, 1024, True)
    assert adopted.location == "/store/checkpoint/0"
    assert {gate.phase for gate in made.gates} == {"sft"} and made.evaluation == recipe.evaluation
    assert made.lengths == recipe.lengths and not made.continual and made.trained_length("sft") == 1024
    source = made.corpus.sources[-1]
    assert (source.name, source.domain, source.licence, source.heldout) == ("batch/a", "chat", "CC0-1.0", 0.1)


def test_text_goes_on_from_the_base_and_fine_tuning_is_run_again_with_all_dialogues() -> None:
    recipe = changed(tune_again=0.5, epochs=2.0)
    champion = model(1, (LIFECYCLE, "old"), {BASE: SEEN_BASE, TUNED: {**SEEN_TUNED, "batch/old": 40.0}})
    state = line(("old", BatchKind.TUNED), ("text", BatchKind.BASE), ("new", BatchKind.TUNED), champion=champion)
    counts = {"old": batch("old", 20), "text": batch("text", 30_000), "new": batch("new", 50)}
    made = continued(recipe, state, Began(2, "", BatchKind.BASE, ("text", "new"), 1), counts)
    base, tuned = made.phases
    assert (base.name, base.parent, base.steps, base.rope_theta, base.sequence_length) == (
        "mid_4",
        CHAMPION,
        59,
        3e5,
        1024,
    )
    assert (tuned.name, tuned.parent, tuned.steps) == ("sft", "mid_4", 225)
    assert tuned.optimizer == recipe.phase("sft").optimizer, "it starts as in the lifecycle"
    assert tuned.schedule == ScheduleConfig(ScheduleShape.COSINE, 22, 0.1)
    assert shares(made, "mid_4") == pytest.approx(
        {"batch/text": 0.5, **{name: 0.5 * tokens / 4690 for name, tokens in SEEN_BASE.items()}}
    )
    whole = 1000 + 2 * 20 + 2 * 50
    assert shares(made, "sft") == pytest.approx(
        {**{name: t / whole for name, t in SEEN_TUNED.items()}, "batch/old": 40 / whole, "batch/new": 100 / whole}
    )
    assert base.mixing.min_short == pytest.approx(0.15), "the rule on short documents is held by the replay"
    assert made.adopted[0].sequence_length == 1024 and {gate.phase for gate in made.gates} == {"mid_4", "sft"}


def test_few_new_data_take_as_many_steps_as_leave_every_replayed_source_two_documents() -> None:
    recipe, state = changed(), line(("a", BatchKind.TUNED))
    counts = {"a": batch("a", 10), LIFECYCLE: {name: Counts(3000, 10, "chat") for name in SEEN_TUNED}}
    (phase,) = continued(recipe, state, Began(1, "", BatchKind.TUNED, ("a",), 0), counts).phases
    assert phase.steps == math.ceil(3 * 600 / 0.5 / 2048)
    found = {entry.source: entry.weight for entry in phase.mixture}
    # Each of the six that are replayed has 600 of its tokens at least, or a sixth of the replay.
    least = min(600 / phase.tokens, 0.5 / 6)
    raw = {"chat/tools": 0.5 * 0.75 * 0.6, "chat/facts": 0.5 * 0.75 * 0.3, "prose": least}
    whole = 1.0 - 0.5 * 0.75 * 0.1 + least
    assert {name: found[name] for name in raw} == pytest.approx({name: one / whole for name, one in raw.items()})


def test_without_replay_new_data_are_all_there_is() -> None:
    made = tuned_turn(changed(replay=0.0, epochs=1.0), tokens=20_000)
    assert shares(made, "sft") == {"batch/a": 1.0} and made.phases[0].steps == math.ceil(20_000 / 2048)


def test_a_turn_stays_within_its_tokens_and_never_has_no_step() -> None:
    bounded = changed(guard=GuardConfig(max_tokens=50_000), base="")
    validate_recipe(bounded)
    assert tuned_turn(bounded, 1_000_000).phases[0].steps == 50_000 // 2048
    assert planned_tokens(bounded, BatchKind.TUNED, 1_000_000) == 24 * 2048
    assert tuned_turn(bounded, 1).phases[0].steps == 1
    both = changed(guard=GuardConfig(max_tokens=1_000_000))
    state = line(("a", BatchKind.BASE))
    made = continued(both, state, Began(1, "", BatchKind.BASE, ("a",), 0), {"a": batch("a", 10_000_000)})
    assert sum(phase.tokens for phase in made.phases) == planned_tokens(both, BatchKind.BASE, 1e7) == 488 * 2048


def test_seeds_and_batches_of_turns_differ_and_rates_do_not_compound() -> None:
    recipe = changed()
    one, two = tuned_turn(recipe, turn=1).phases[0], tuned_turn(recipe, turn=2).phases[0]
    assert one.seed != two.seed and replace(one, seed=0) == replace(two, seed=0)


def test_an_infinite_schedule_stays_on_its_constant() -> None:
    recipe = changed(rewarming=Rewarming.INFINITE, peak=0.4)
    phase = tuned_turn(recipe).phases[0]
    rates = {learning_rate(s, phase.steps, phase.optimizer.lr, phase.schedule) for s in range(phase.steps)}
    assert rates == {1.5e-3 * 0.4} and phase.keep_optimizer_state
    fresh = tuned_turn(changed(rewarming=Rewarming.INFINITE, keep_optimizer_state=False)).phases[0]
    assert fresh.schedule.warmup_steps == 4 and not fresh.keep_optimizer_state
    row = replace(
        recipe.phase("sft"),
        schedule=ScheduleConfig(ScheduleShape.INFINITE, 45, cooldown_steps=50, constant_fraction=0.3),
    )
    own = replace(recipe, phases=(*recipe.phases[:-1], row))
    assert tuned_turn(own).phases[0].optimizer.lr == pytest.approx(1.5e-3 * 0.3), "the constant the lifecycle ended on"


def test_shares_of_a_known_plan_are_those_asked_for() -> None:
    made = tuned_turn(changed())
    plan = plan_mixture(made.phase("sft"), {})
    assert sum(portion.share or 0 for portion in plan.portions) == pytest.approx(1.0)
    assert plan.weighted == pytest.approx(made.phase("sft").tokens)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: tuned_turn(changed(), 0), r"hold no tokens; the guard should have let it rest"),
        (
            lambda: continued(
                changed(),
                line(("a", BatchKind.TUNED), ("b", BatchKind.BASE)),
                Began(1, "", BatchKind.TUNED, ("a", "b"), 0),
                {"a": batch("a", 9), "b": batch("b", 9)},
            ),
            "goes on with fine-tuning alone, but its batches hold batch/b",
        ),
        (
            lambda: continued(
                changed(),
                line(("a", BatchKind.TUNED)),
                Began(1, "", BatchKind.TUNED, ("a",), 0),
                {"a": batch("a", 9, {"64": 1, "256": 5})},
            ),
            r"most documents of batch/a are longer than a row of phase 'sft' \(128 tokens\)",
        ),
        (
            lambda: continued(
                changed(),
                replace(line(("a", BatchKind.TUNED)), models={0: model(seen={})}),
                Began(1, "", BatchKind.TUNED, ("a",), 0),
                {"a": batch("a", 9)},
            ),
            "does not say what the lifecycle's model was trained on.*continual.replay=0",
        ),
    ],
)
def test_what_cannot_be_continued_is_said(act: Callable[[], Recipe], told: str) -> None:
    with pytest.raises(ContinuationError, match=told):
        act()


def test_k2_itself_can_be_planned_with_buckets_epochs_and_copies_as_tokens() -> None:
    recipe = load_recipe("k2_70b")
    row = recipe.phase("sft")
    assert any(entry.copies for entry in row.mixture)
    seen = {
        BASE: {e.source: 1e9 * (1 + i) for i, e in enumerate(recipe.phase("pretrain").mixture)},
        TUNED: {e.source: 1e8 * (1 + i) for i, e in enumerate(row.mixture)},
    }
    first = model(seen=seen)
    state = replace(line(("text", BatchKind.BASE)), models={0: first})
    made = continued(recipe, state, Began(1, "", BatchKind.BASE, ("text",), 0), {"text": batch("text", 10**10)})
    base, tuned = made.phases
    assert base.steps == math.ceil(1e10 / (0.75 * base.tokens_per_step)) and tuned.steps == row.steps
    assert set(seen[BASE]) < set(shares(made, "mid_4")) and set(seen[TUNED]) == set(shares(made, "sft"))
    assert not any(entry.bucket or entry.copies or entry.epochs for phase in made.phases for entry in phase.mixture)
    assert sum(shares(made, "mid_4").values()) == pytest.approx(1.0)
    assert base.parallelism == recipe.phase("mid_4").parallelism


def test_a_source_fits_a_row_if_most_of_its_documents_do() -> None:
    recipe = changed()
    row = recipe.phase("sft")
    assert not fits(row, None, recipe, "retrieval/256") and fits(row, None, recipe, "facts")
    assert fits(row, Counts(9, 9, "logic", {"128": 4, "64": 5}), recipe, "x")
    assert not fits(row, Counts(9, 9, "logic", {"128": 5, "64": 4}), recipe, "x")
    assert fits(replace(row, sequence_length=192), Counts(9, 9, "logic", {"128": 9}), recipe, "x")
    long_text = Counts(9, 9, "code", {"1024": 9})
    assert fits(row, long_text, recipe, "x") and fits(row, long_text, recipe, "prose")
    assert not fits(replace(row, long_documents=LongDocuments.SKIP), long_text, recipe, "x")


def test_the_averaging_timescale_is_said_in_steps_tokens_and_shares() -> None:
    phase = changed().phase("sft")
    phase = replace(phase, steps=100, schedule=ScheduleConfig(ScheduleShape.CONSTANT))
    phase = replace(phase, optimizer=replace(phase.optimizer, lr=0.02, weight_decay=0.05))
    found = timescale(phase)
    assert (found.steps, found.tokens) == pytest.approx((1000, 2_048_000))
    assert found.kept == pytest.approx(0.999**100)
    said = found.sentence(new=20_480, seen=4_096_000)
    assert "over 1,000 steps, 2.05M tokens (100 times the new data, 0.5 times what the champion has seen)" in said
    assert "after its 100 steps 90.48% of that average is what it started from" in said and "Muon's matrices" in said
    plain = replace(phase, optimizer=replace(phase.optimizer, name=OptimizerName.ADAMW, weight_decay=0.0))
    assert "average nothing" in timescale(plain).sentence()


def test_a_turn_says_so_of_its_phases_beside_its_new_data_and_what_the_champion_has_seen() -> None:
    recipe, state = changed(), line(("a", BatchKind.BASE), ("b", BatchKind.TUNED))
    began = Began(1, "", BatchKind.BASE, ("a", "b"), 0)
    made = continued(recipe, state, began, {"a": batch("a", 300_000), "b": batch("b", 9_000)})
    batches = {name: replace(one, tokens=9_000 if name == "b" else 300_000) for name, one in state.batches.items()}
    state, new, seen = replace(state, batches=batches), 300_000, sum(state.models[0].seen["base"].values())
    said = timescales(made, state, began)
    assert said == (timescale(made.phases[0]).sentence(new, seen), timescale(made.phases[1]).sentence())
    assert "times the new data" in said[0] and "new data" not in said[1]


# Real tokens: a lifecycle of two phases, and three turns after it


TEXTS: dict[str, tuple[str, Callable[[random.Random], list[Segment]], int]] = {
    "batch/day1": ("chat", corpora.chat, 200),
    "batch/day2": ("chat", corpora.chat, 120),
    "batch/day3": ("chat", corpora.chat, 160),
    "batch/text": ("rivers", corpora.prose, 220),
}


def small() -> Recipe:
    smoke = load_recipe("smoke")
    recipe = replace(smoke, continual=ContinualConfig(tuned="sft", base="mid_4"))
    mixtures = {"mid_4": {"prose": 5, "facts": 2, "arithmetic/think": 3}, "sft": {"chat/tools": 8, "prose": 2}}
    phases = tuple(
        replace(
            recipe.phase(name),
            parent="" if name == "mid_4" else "mid_4",
            steps=20,
            sequence_length=128,
            global_batch=8,
            mixing=replace(recipe.phase(name).mixing, min_short=0.2 if name == "mid_4" else 0.3),
            mixture=tuple(MixtureEntry(source, float(weight)) for source, weight in mixture.items()),
        )
        for name, mixture in mixtures.items()
    )
    sources = tuple(SourceConfig(name) for name in corpora.SOURCES)
    continual = replace(recipe.continual, epochs=2.0, tune_again=1.0)
    return replace(
        recipe,
        corpus=replace(recipe.corpus, sources=sources),
        phases=phases,
        gates=(),
        evaluation=replace(recipe.evaluation, families=()),
        continual=continual,
    )


@pytest.fixture(scope="module")
def kept(
    tmp_path_factory: pytest.TempPathFactory, corpus: Path, tokenizer: K2Tokenizer
) -> tuple[Store, dict[str, Corpus], ArtifactRef]:
    """A store with the tokens of the lifecycle and of each batch, and all of them in one artifact."""
    root = tmp_path_factory.mktemp("line")
    store, everything, found = Store.open(root / "store"), root / "all", {}
    shutil.copytree(corpus, everything)

    def put(name: str, folder: Path) -> ArtifactRef:
        def produce(target: Path) -> dict[str, float]:
            tokenize_folder(folder, tokenizer, target)
            return {}

        return store.build(Identity("tokens", "1", {"of": name}), produce)

    def valid(name: str) -> ArtifactRef:
        def produce(target: Path) -> dict[str, float]:
            (target / "statistics.json").write_text(json.dumps({"train": {"by_licence": {"CC0-1.0": {}}}}))
            return {}

        return store.build(Identity("corpus_valid", "1", {"of": name}), produce)

    found[LIFECYCLE] = Corpus(LIFECYCLE, None, valid(LIFECYCLE), put(LIFECYCLE, corpus))
    for source, (domain, write, count) in TEXTS.items():
        name, rng = source.removeprefix("batch/"), random.Random(source)
        documents = [make_document(source, domain, "CC0-1.0", f"{name} {i}", write(rng)) for i in range(count)]
        stem = source.replace("/", "-")
        for folder in (root / name, everything):
            write_documents(folder / "train" / stem / "00000.parquet", documents[10:])
            write_documents(folder / "heldout" / stem / "00000.parquet", documents[:10])
        found[name] = Corpus(name, None, valid(name), put(name, root / name))
    return store, found, put("all", everything)


def pack(store: Store, recipe: Recipe, tokens: ArtifactRef) -> dict[str, ArtifactRef]:
    most = recipe.validation.max_epochs
    return {
        f"{phase.name}/sequences": make(store, sequences_step(store, phase, tokens, most)) for phase in recipe.phases
    }


def composition(store: Store, packed: ArtifactRef) -> tuple[dict[str, dict[str, float]], float]:
    """What the rows hold of each source, and how full they are."""
    found = json.loads(store.read(packed, "composition.json"))
    return found["sources"], 1 - found["padding"]


def test_turns_after_each_other_forget_no_source_and_give_new_data_their_share(
    kept: tuple[Store, dict[str, Corpus], ArtifactRef],
) -> None:
    store, found, tokens = kept
    recipe = small()
    validate_recipe(recipe)
    packed = pack(store, recipe, tokens)
    seen = {part: realised(store, packed[f"{name}/sequences"]) for part, name in ((BASE, "mid_4"), (TUNED, "sft"))}
    assert seen[TUNED]["prose"] == composition(store, packed["sft/sequences"])[0]["prose"]["tokens"]
    champion = Model(0, model().made, (LIFECYCLE,), seen)
    kinds = {"day1": BatchKind.TUNED, "day2": BatchKind.TUNED, "day3": BatchKind.TUNED, "text": BatchKind.BASE}
    batches = {name: Batch(name, kind, name, Standing.WAITING) for name, kind in kinds.items()}
    state = State("small", models={0: champion}, champion=0, corpora=found, batches=batches)
    turns = [
        (BatchKind.TUNED, ("day1",), "sft", "batch/day1"),
        (BatchKind.BASE, ("text", "day2"), "mid_4", "batch/text"),
        (BatchKind.TUNED, ("day3",), "sft", "batch/day3"),
    ]
    for number, (kind, names, name, new) in enumerate(turns, 1):
        began = Began(number, "", kind, names, champion.turn)
        made = continuation(store, recipe, state, began)
        assert continuation(store, recipe, state, began) == made
        assert exact_types(made, Recipe, "made") == [], "it comes back from an orchestrator as it was given"
        packed = pack(store, made, tokens)
        drawn, full = composition(store, packed[f"{name}/sequences"])
        share = drawn[new]["tokens"] / sum(one["tokens"] for one in drawn.values())
        assert share == pytest.approx(0.5, abs=0.03) and drawn[new]["epochs"] == pytest.approx(2.0 * full, abs=0.1)
        for source, one in drawn.items():
            assert one["share"] == pytest.approx(one["share_wanted"], abs=0.03), source
        for phase in made.phases:
            assert sum(entry.weight for entry in phase.mixture) == pytest.approx(1.0)
        after = seen_after(store, made, champion, began, packed)
        assert set(champion.seen[kind.value]) <= set(drawn), "what the champion has seen is seen again"
        assert set().union(*champion.seen.values()) <= set().union(*after.values())
        grown = sum(after[kind.value].values()) - sum(champion.seen[kind.value].values())
        assert grown == sum(one["tokens"] for one in drawn.values())
        champion = Model(number, champion.made, (*champion.corpora, *names), after)
        before = (*state.before, number - 1)
        state = replace(state, models={**state.models, number: champion}, champion=number, before=before)
    again, _ = composition(store, pack(store, continuation(store, recipe, state, began), tokens)["sft/sequences"])
    assert {"batch/day1", "batch/day2", "batch/day3", "batch/text", "chat/tools", "prose", "facts"} <= set(again)
    assert {source for source in champion.seen[TUNED]} >= {"batch/day1", "batch/day2", "batch/day3"}


ANNEAL = {"rewarming": Rewarming.INFINITE, "anneal": 0.25, "peak": 0.5}


def test_an_anneal_is_of_replay_alone_and_a_base_is_tuned_again(
    kept: tuple[Store, dict[str, Corpus], ArtifactRef],
) -> None:
    store, found, tokens = kept
    recipe = small()
    infinite = replace(recipe, continual=replace(recipe.continual, **ANNEAL))
    seen = {BASE: {"prose": 300.0, "facts": 100.0}, TUNED: {"chat/tools": 50.0}}
    state = State("small", models={0: model(seen=seen)}, champion=0, corpora=found)
    made = continuation(store, infinite, state, Began(0, "", BatchKind.BASE, (), 0))
    base, tuned = made.phases
    assert shares(made, "mid_4") == {"prose": 0.75, "facts": 0.25} and shares(made, "sft") == {"chat/tools": 1.0}
    peak = 0.5 * recipe.phase("mid_4").optimizer.lr
    assert rates(base) == pytest.approx([peak * 0.1 ** (step / 5) for step in (1, 2, 3, 4, 5)])
    assert tuned.steps == 20 and set(pack(store, made, tokens)) == {"mid_4/sequences", "sft/sequences"}
    assert tuned.schedule == recipe.phase("sft").schedule, "it comes down by itself"


def rates(phase: PhaseConfig) -> list[float]:
    return [learning_rate(step, phase.steps, phase.optimizer.lr, phase.schedule) for step in range(phase.steps)]


def test_an_anneal_has_no_new_data_whatever_the_share_of_replay_and_draws_other_rows_than_its_turn() -> None:
    for replay in (0.0, 0.5):
        made = continued(changed(**ANNEAL, replay=replay), line(), Began(0, "", BatchKind.TUNED, (), 0), {})
        (tuned,) = made.phases
        assert sum(shares(made, "sft").values()) == pytest.approx(1.0)
        assert (tuned.parent, tuned.seed) == (CHAMPION, 1_000_000)
        assert rates(tuned)[-1] == pytest.approx(0.1 * 0.5 * 1.5e-3) and tuned.keep_optimizer_state
    (fresh,) = continued(
        changed(**ANNEAL, keep_optimizer_state=False), line(), Began(0, "", BatchKind.TUNED, (), 0), {}
    ).phases
    assert fresh.schedule.warmup_steps > 0 and rates(fresh)[-1] == pytest.approx(0.1 * 0.5 * 1.5e-3)


def test_fine_tuning_again_that_would_end_on_a_constant_is_annealed_too() -> None:
    recipe = changed(**ANNEAL)
    steady = ScheduleConfig(ScheduleShape.INFINITE, 45, cooldown_steps=50, constant_fraction=0.3)
    own = replace(recipe, phases=(*recipe.phases[:-1], replace(recipe.phase("sft"), schedule=steady)))
    made = continued(own, line(), Began(0, "", BatchKind.BASE, (), 0), {})
    tuned = made.phase("sft")
    peak = recipe.phase("sft").optimizer.lr
    assert rates(tuned)[-1] == pytest.approx(0.1 * 0.3 * peak)
    constant = [one for one in rates(tuned) if one == pytest.approx(0.3 * peak)]
    assert constant and tuned.schedule.anneal_steps == round(0.25 * tuned.steps)
