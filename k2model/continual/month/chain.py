"""What a month's turns would have come to without replay, and what a model comes to that is trained from scratch.

Both are trained on the batches that were accepted, by the same rows of the table of steps, and scored on the champion's
items; no gate looks at them. They are for the report alone: their artifacts are named by no ledger.

*Without replay*: each turn that was promoted once more, from the model that the chain has come to, with
`continual.replay` 0: as many steps at the same rates, all of them on the new data.

*From scratch*: the lifecycle's own phases with the batches among their data: text where the base is continued,
dialogues in fine-tuning, each as often as the month has passed over it. Phases before those are the lifecycle's: same
data, same seeds, so the store has them. Their tokens count, all the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from k2model.artifacts import ArtifactRef, Store, make
from k2model.continual.continuation import seen_after
from k2model.continual.state import BASE, LIFECYCLE, TUNED, Began, Ended, Model, Outcome, State
from k2model.continual.turn import Turn, corpora_of, finish, prepare, resumed
from k2model.evals.step import scores_step
from k2model.lifecycle import LifecyclePlan
from k2model.lifecycle.steps import Work, full_name, inputs_of, row_called
from k2model.recipe import Recipe
from k2model.recipe.continual import BatchKind
from k2model.recipe.schema import MixtureEntry, PhaseConfig
from k2model.tokens.shards import counts_of

Made = Mapping[str, ArtifactRef]


@dataclass(frozen=True)
class Trained:
    """A model beside the line: its scores on the champion's items after each step of its making, and the tokens that it
    was trained on."""

    scores: tuple[tuple[int, ArtifactRef], ...]  # by the turn
    tokens: int

    @property
    def last(self) -> ArtifactRef:
        return self.scores[-1][1]


def promoted(state: State) -> list[Ended]:
    """The turns that the champion comes from."""
    line = {*state.before, state.champion}
    return [one for one in state.turns if one.outcome is Outcome.PROMOTED and one.turn in line]


def without_replay(store: Store, recipe: Recipe, state: State) -> Trained:
    """The promoted turns again, one after the other."""
    champion = state.model
    assert champion is not None, "a line that has ended its month has a champion"
    model, scores, tokens = state.root, [], 0
    epochs = recipe.continual.epochs / (1 - recipe.continual.replay)
    alone = replace(recipe, continual=replace(recipe.continual, replay=0.0, epochs=epochs))
    for ended in promoted(state):
        line = LifecyclePlan(alone, store.uri)
        chain = replace(state, models={state.root.turn: state.root, model.turn: model})
        kind = state.batches[ended.batches[0]].kind
        began = Began(ended.turn, ended.kickoff, kind, ended.batches, model.turn)
        model, trained = _turn(store, line, chain, began)
        tokens += trained
        scores.append((ended.turn, scored(store, recipe, champion, model.made[f"{TUNED}/export"])))
    return Trained(tuple(scores), tokens)


def _turn(store: Store, line: LifecyclePlan, state: State, began: Began) -> tuple[Model, int]:
    """Trains the phases of a turn, and gives the model as the ledger would have it, with its tokens."""
    turn, made = resumed(line, state, began)
    champion = state.models[began.champion]
    parts = (BASE, TUNED) if began.kind is BatchKind.BASE else (TUNED,)
    for part in parts:
        made = _trained(turn, part, made)
    kept = dict(champion.made)
    for part in parts:
        phase = turn.phase(part).name
        kept |= {f"{part}/{kind}": made[f"{phase}/{kind}"] for kind in ("sequences", "checkpoint", "export")}
    kept |= {name: made[name] for name in ("corpus_valid", "tokens", "tokenizer")}
    seen = seen_after(store, turn.plan.recipe, champion, began, made)
    return Model(began.turn, kept, corpora_of(champion, began), seen), sum(
        one.tokens for one in turn.plan.recipe.phases
    )


def _trained(turn: Turn, part: str, made: dict[str, ArtifactRef]) -> dict[str, ArtifactRef]:
    done, _ = prepare(turn, part, made)
    row, phase = row_called("checkpoint"), turn.phase(part)
    work = Work(turn.store, turn.plan.recipe, phase, inputs_of(row, phase, done))
    return finish(turn, part, done, make(turn.store, row.build(work)))


def from_scratch(store: Store, recipe: Recipe, state: State) -> Trained:
    """The lifecycle's phases on everything that was accepted."""
    champion = state.model
    assert champion is not None, "a line that has ended its month has a champion"
    whole = scratch_recipe(store, recipe, state)
    made = {"tokenizer": champion.made["tokenizer"]}
    for phase in whole.phases:
        as_it_was = phase == recipe.phase(phase.name)
        made["tokens"] = state.corpora[LIFECYCLE].tokens if as_it_was else champion.made["tokens"]
        for name in ("sequences", "checkpoint", "export"):
            row = row_called(name)
            work = Work(store, whole, phase, inputs_of(row, phase, made))
            made[full_name(row, phase)] = make(store, row.build(work))
    scores = scored(store, recipe, champion, made[f"{recipe.continual.tuned}/export"])
    return Trained(((champion.turn, scores),), sum(phase.tokens for phase in whole.phases))


def scratch_recipe(store: Store, recipe: Recipe, state: State) -> Recipe:
    """The recipe with the accepted batches in its base and its fine-tuning: as many steps more as their tokens take."""
    config, champion = recipe.continual, state.model
    assert champion is not None
    counts = counts_of(store, champion.made["tokens"])["train"]
    taken = [state.batches[name] for ended in promoted(state) for name in ended.batches]
    new: dict[str, dict[str, float]] = {config.base: {}, config.tuned: {}}
    for batch in taken:
        of = config.base if batch.kind is BatchKind.BASE else config.tuned
        new[of][f"batch/{batch.name}"] = counts[f"batch/{batch.name}"]["tokens"] * config.epochs
    phases = tuple(_with(phase, new.get(phase.name, {})) for phase in recipe.phases)
    return replace(recipe, phases=phases)


def _with(phase: PhaseConfig, new: Mapping[str, float]) -> PhaseConfig:
    """A phase that trains on so many tokens of further sources, and on as many of its own as before."""
    if not new:
        return phase
    more = sum(new.values())
    weights = sum(entry.weight for entry in phase.mixture)
    entries = tuple(MixtureEntry(source, weights * tokens / phase.tokens) for source, tokens in new.items())
    steps = phase.steps + -(-int(more) // phase.tokens_per_step)
    return replace(phase, steps=steps, mixture=(*phase.mixture, *entries))


def scored(store: Store, recipe: Recipe, champion: Model, export: ArtifactRef) -> ArtifactRef:
    """Scores of a fine-tuned model on the items that the champion was asked last."""
    made, row = champion.made, recipe.phase(recipe.continual.tuned)
    return make(
        store,
        scores_step(
            store, recipe.evaluation, row, made["corpus_valid"], made["tokens"], made["tokenizer"], export,
            lengths=recipe.lengths,
        ),
    )  # fmt: skip
