"""The challenger's recipe, from the champion's: what a turn trains on, for how long and at which learning rate.

The anneal of a champion for a release is made of the same rows, of replay alone: a turn without batches.

A function of the line's recipe and of its ledger. The champion's checkpoint, which lies in the same store, stands in it
as an adopted model (`CHAMPION`), and the phases that go on from it are the recipe's own rows with other data, steps and
rates; so they are packed, trained, exported and scored by the rows of the table of steps as any phase.

Amounts are tokens, whatever a phase's own mixture counts in: replay is drawn source by source in proportion to the
tokens that the weights were trained on (`Model.seen`), which is what buckets, epochs and copies came to. A fine-tuning
replays the dialogues, and with `base_replay` of it what its base had seen and a row can hold.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from k2model.artifacts import ArtifactRef, Store
from k2model.continual.seen import Counts, fits, plus, read_counts, realised
from k2model.continual.state import BASE, TUNED, Began, Model, State
from k2model.errors import K2Error
from k2model.recipe.continual import BatchKind, ContinualConfig, Rewarming
from k2model.recipe.continual_problems import steps_again
from k2model.recipe.schema import (
    AdoptedModel,
    MixingConfig,
    MixtureEntry,
    PhaseConfig,
    Recipe,
    ScheduleConfig,
    ScheduleShape,
    SourceConfig,
)
from k2model.recipe.validate import validate_recipe

CHAMPION = "champion"  # the name of the adopted model that phases go on from
ANNEALS = 1_000_000  # added to the seeds of anneals; no line has so many turns
LEAST = 2  # documents that a phase has room for of every source: of one alone, the row may be left out in packing

Tokens = Mapping[str, float]  # by source


class ContinuationError(K2Error):
    """A turn cannot be made of what the ledger says."""


def continuation(store: Store, recipe: Recipe, state: State, began: Began) -> Recipe:
    """The recipe of the challenger of a turn that has begun: the phase that goes on with new data, or without batches
    the anneal of the champion's; and behind a base the fine-tuning again.

    Raises ContinuationError for batches that its phases cannot be trained on, RecipeError for a recipe that contradicts
    itself then, ArtifactError where counts of tokens cannot be read.
    """
    names = (*state.models[began.champion].corpora, *began.batches)
    counts = {name: read_counts(store, state.corpora[name]) for name in names}
    return continued(recipe, state, began, counts)


def continued(recipe: Recipe, state: State, began: Began, counts: Mapping[str, Mapping[str, Counts]]) -> Recipe:
    """The same, with what is counted of the sources of each corpus by its name: nothing is read."""
    config, model = recipe.continual, state.models[began.champion]
    known = {source: one for corpus in counts.values() for source, one in corpus.items()}
    batches = {
        kind: _tokens(counts, [name for name in began.batches if state.batches[name].kind is kind])
        for kind in BatchKind
    }
    new = batches[began.kind]
    if began.batches and not sum(new.values()):
        raise ContinuationError(
            f"turn {began.turn} is to go on with {began.kind.value} data, of which its batches "
            f"({', '.join(began.batches)}) hold no tokens; the guard should have let it rest"
        )
    if began.kind is BatchKind.TUNED and batches[BatchKind.BASE]:
        raise ContinuationError(
            f"turn {began.turn} goes on with fine-tuning alone, but its batches hold {min(batches[BatchKind.BASE])}, "
            "which the base is to be trained on"
        )
    row = recipe.phase(config.base if began.kind is BatchKind.BASE else config.tuned)
    if unfit := [source for source in new if not fits(row, known[source], recipe, source)]:
        raise ContinuationError(
            f"turn {began.turn}: most documents of {unfit[0]} are longer than a row of phase '{row.name}' "
            f"({row.sequence_length:,} tokens); refuse the batch, or give it with shorter documents"
        )
    replay = config.replay if began.batches else 1.0
    replayed = _replayed(recipe, state, model, began.kind, known) if replay else {}
    room = sum(_least(source, known) for source in replayed) / replay if replayed else 0.0
    least = math.ceil(room / row.tokens_per_step)
    if began.batches:
        steps = steps_for(recipe, began.kind, sum(new.values()), least)
    else:
        steps = max(1, least, round(config.anneal * row.steps))
    first = _continued(row, config, steps, began)
    first = _drawing(first, (1 - replay, new), (replay, replayed), known)
    phases: tuple[PhaseConfig, ...] = (first,)
    if began.kind is BatchKind.BASE:
        phases = first, _tuned_again(recipe, state, model, began, counts)
    said = f"Turn {began.turn} of {recipe.name}, from {model.name} model: {', '.join(began.batches)}"
    if not began.batches:
        said = f"{recipe.name}: {began.challenger}"
    return _recipe(recipe, model, phases, said, _sources(state, recipe, counts))


def steps_for(recipe: Recipe, kind: BatchKind, new_tokens: float, least: int = 1) -> int:
    """Steps of the phase that goes on, for so many tokens of new data: `epochs` over them beside the replay, and at
    least `least`, within `guard.max_tokens` less what fine-tuning again takes. Few steps teach little:
    `guard.min_tokens` is what makes a turn worth its while."""
    config = recipe.continual
    tuned = recipe.phase(config.tuned)
    row = recipe.phase(config.base) if kind is BatchKind.BASE else tuned
    steps = max(least, math.ceil(new_tokens * config.epochs / ((1 - config.replay) * row.tokens_per_step)))
    if config.guard.max_tokens:
        again = steps_again(tuned, config) * tuned.tokens_per_step if kind is BatchKind.BASE else 0
        steps = min(steps, (config.guard.max_tokens - again) // row.tokens_per_step)
    return max(1, steps)


def planned_tokens(recipe: Recipe, kind: BatchKind, new_tokens: float) -> int:
    """Tokens that a turn trains on for so many of new data, replay and fine-tuning again among them."""
    config = recipe.continual
    tuned = recipe.phase(config.tuned)
    if kind is BatchKind.TUNED:
        return steps_for(recipe, kind, new_tokens) * tuned.tokens_per_step
    base = steps_for(recipe, kind, new_tokens) * recipe.phase(config.base).tokens_per_step
    return base + steps_again(tuned, config) * tuned.tokens_per_step


def seen_after(
    store: Store, recipe: Recipe, champion: Model, began: Began, made: Mapping[str, ArtifactRef]
) -> dict[str, dict[str, float]]:
    """`Model.seen` of a challenger, whose recipe is `recipe`, from the rows that it was really trained on
    (`made["<phase>/sequences"]`)."""
    drawn = [realised(store, made[f"{phase.name}/sequences"]) for phase in recipe.phases]
    seen = {part: dict(tokens) for part, tokens in champion.seen.items()}
    if began.kind is BatchKind.TUNED:
        return seen | {TUNED: plus(seen.get(TUNED, {}), drawn[0])}
    return seen | {BASE: plus(seen.get(BASE, {}), drawn[0]), TUNED: drawn[-1]}


def _tokens(counts: Mapping[str, Mapping[str, Counts]], corpora: list[str]) -> dict[str, float]:
    return {source: float(one.tokens) for name in corpora for source, one in counts[name].items()}


def _replayed(recipe: Recipe, state: State, model: Model, kind: BatchKind, known: Mapping[str, Counts]) -> Tokens:
    """Shares, 1 in all, of the sources that a continuation draws its replay from."""
    seen = model.seen.get(kind.value, {})
    row = recipe.phase(recipe.continual.base if kind is BatchKind.BASE else recipe.continual.tuned)

    def fitting(tokens: Tokens) -> Tokens:
        return {s: amount for s, amount in tokens.items() if fits(row, known.get(s), recipe, s)}

    if kind is BatchKind.BASE:
        found = _shares((1.0, fitting(seen)))
    else:
        first = state.root.seen.get(TUNED, {})  # what fine-tuning itself takes of those sources
        before = fitting({s: amount for s, amount in model.seen.get(BASE, {}).items() if s not in first})
        own = fitting({source: tokens for source, tokens in seen.items() if source not in before})
        found = _shares((1 - recipe.continual.base_replay, own), (recipe.continual.base_replay, before))
    if not found:
        raise ContinuationError(
            f"line '{state.line}': the ledger does not say what {model.name} model was trained on, so that nothing of "
            "it can be replayed; start the line again, or set continual.replay=0, which forgets"
        )
    return found


def _shares(*parts: tuple[float, Tokens]) -> dict[str, float]:
    """Shares of tokens by source, 1 in all: each part's in proportion to its tokens; one without tokens leaves its
    share to the others."""
    given = [(share, tokens, sum(tokens.values())) for share, tokens in parts]
    whole = sum(share for share, _, total in given if total)
    found: dict[str, float] = {}
    for share, tokens, total in given:
        if share and total:
            found = plus(found, {source: share * one / total / whole for source, one in tokens.items() if one})
    return found


def _schedule(row: PhaseConfig, config: ContinualConfig, steps: int, began: Began) -> ScheduleConfig:
    """Warmed up again and decayed; or the constant of an infinite schedule, with a warm-up where the optimizer's state
    is not kept, whose averages the first steps make; or the anneal from that constant to `final` of it."""
    warmup = min(round(config.warmup * steps), steps - 1)
    if config.rewarming is Rewarming.INFINITE or not began.batches:
        first = 0 if config.keep_optimizer_state else warmup
        constant = ScheduleConfig(ScheduleShape.INFINITE, first, constant_fraction=1.0)
        return constant if began.batches else replace(constant, anneal_steps=steps - first, final_fraction=config.final)
    linear = row.schedule.shape is ScheduleShape.LINEAR
    return ScheduleConfig(ScheduleShape.LINEAR if linear else ScheduleShape.COSINE, warmup, config.final)


def ends_on_constant(schedule: ScheduleConfig) -> bool:
    """Whether a phase ends at the rate that the next one goes on at."""
    return schedule.shape is ScheduleShape.INFINITE and not schedule.anneal_steps


def _continued(row: PhaseConfig, config: ContinualConfig, steps: int, began: Began) -> PhaseConfig:
    """A row of the recipe that goes on from the champion."""
    peak, schedule = config.peak, _schedule(row, config, steps, began)
    if schedule.shape is ScheduleShape.INFINITE and row.schedule.shape is ScheduleShape.INFINITE:
        peak = row.schedule.constant_fraction  # the rate at which the lifecycle ended
    return replace(
        row,
        parent=CHAMPION,
        steps=steps,
        optimizer=replace(row.optimizer, lr=row.optimizer.lr * peak),
        schedule=schedule,
        keep_optimizer_state=config.keep_optimizer_state,
        seed=_seed(row, began),
        checkpoints=replace(row.checkpoints, keep_every=0),
    )


def _seed(row: PhaseConfig, began: Began) -> int:
    """Each turn, and each anneal, has its own order and draws."""
    return row.seed + began.turn + (0 if began.batches else ANNEALS)


def _drawing(
    phase: PhaseConfig, new: tuple[float, Tokens], replay: tuple[float, Tokens], known: Mapping[str, Counts]
) -> PhaseConfig:
    """A phase that draws its tokens in shares of new and replayed sources, of each of the latter `LEAST` documents or
    what all of them alike would have. The rule on short documents is held by the replay: how long new documents are is
    not ours to choose."""
    shares = _shares(new, replay)
    for source in replay[1]:
        if source in shares:
            shares[source] = max(shares[source], min(_least(source, known) / phase.tokens, replay[0] / len(replay[1])))
    whole = sum(shares.values())
    mixing = MixingConfig(short_tokens=phase.mixing.short_tokens, min_short=phase.mixing.min_short * replay[0])
    mixture = tuple(MixtureEntry(source, share / whole) for source, share in shares.items())
    return replace(phase, mixture=mixture, mixing=mixing)


def _least(source: str, known: Mapping[str, Counts]) -> float:
    """Tokens of `LEAST` documents of a source; 0 where its documents were not counted."""
    one = known.get(source)
    return LEAST * one.tokens / one.documents if one and one.documents else 0.0


def _tuned_again(
    recipe: Recipe, state: State, model: Model, began: Began, counts: Mapping[str, Mapping[str, Counts]]
) -> PhaseConfig:
    """Fine-tuning on the continued base: as in the lifecycle, with all dialogues accepted so far and those of this
    turn beside what the recipe has, each as often as in a turn of its own."""
    config = recipe.continual
    row = recipe.phase(config.tuned)
    steps = steps_again(row, config)
    names = [name for name in (*model.corpora, *began.batches) if name in state.batches]
    dialogues = _tokens(counts, [name for name in names if state.batches[name].kind is BatchKind.TUNED])
    own = state.root.seen.get(TUNED, {})
    if not own:
        raise ContinuationError(
            f"line '{state.line}': the ledger does not say what phase '{row.name}' was trained on, so that it cannot "
            "be run again; start the line again from its lifecycle"
        )
    drawn = plus(own, {source: config.epochs * tokens for source, tokens in dialogues.items()})
    known = {source: one for corpus in counts.values() for source, one in corpus.items()}
    scaled = {
        name: round(getattr(row.schedule, name) * steps / row.steps)
        for name in ("warmup_steps", "cooldown_steps", "anneal_steps")
    }
    scaled["warmup_steps"] = min(scaled["warmup_steps"], steps - 1)
    schedule = replace(row.schedule, **scaled)
    if not began.batches and ends_on_constant(schedule):
        left = steps - schedule.warmup_steps - schedule.cooldown_steps
        final = config.final * schedule.constant_fraction
        anneal = max(1, min(left, round(config.anneal * steps)))
        schedule = replace(schedule, anneal_steps=anneal, final_fraction=final)
    again = replace(
        row,
        parent=config.base,
        steps=steps,
        schedule=schedule,
        seed=_seed(row, began),
        checkpoints=replace(row.checkpoints, keep_every=0),
    )
    return _drawing(again, (0.0, {}), (1.0, drawn), known)


def _sources(state: State, recipe: Recipe, counts: Mapping[str, Mapping[str, Counts]]) -> tuple[SourceConfig, ...]:
    """The recipe's sources, and those of batches: their accepted documents, where they lie."""
    own = {source.name for source in recipe.corpus.sources}
    more = [
        SourceConfig(
            source, location=state.corpora[name].valid.uri, domain=one.domain, licence=one.licence, heldout=one.heldout
        )
        for name, corpus in counts.items()
        for source, one in corpus.items()
        if source not in own
    ]
    return (*recipe.corpus.sources, *more)


def _recipe(
    recipe: Recipe, model: Model, phases: tuple[PhaseConfig, ...], said: str, sources: tuple[SourceConfig, ...]
) -> Recipe:
    """A whole recipe of these phases, checked. It is no line of its own."""
    first, names = phases[0], {phase.name for phase in phases}
    part = BASE if first.name == recipe.continual.base else TUNED
    champion = AdoptedModel(
        CHAMPION,
        licence=recipe.licence,
        rope_theta=first.rope_theta,
        sequence_length=recipe.trained_length(first.name),
        location=model.made[f"{part}/checkpoint"].uri,
        source=f"{recipe.name}, {model.name} {part} model",
        training_state=first.keep_optimizer_state,
    )
    kinds = {phase.kind.value for phase in phases}
    made = replace(
        recipe,
        description=said,
        corpus=replace(recipe.corpus, sources=sources),
        phases=phases,
        gates=tuple(gate for gate in recipe.gates if gate.phase in names),
        adopted=(champion,),
        safety=replace(recipe.safety, kinds=tuple(kind for kind in recipe.safety.kinds if kind in kinds)),
        scored_lengths=tuple(recipe.lengths),
        continual=ContinualConfig(),
    )
    validate_recipe(made)
    return made
