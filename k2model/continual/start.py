"""What a line begins with: the model that its recipe's lifecycle has promoted, and the corpus that it was trained on.

The lifecycle is found as `k2 plan` finds it: each step's identity is computed from the recipe, and the store is asked.
Steps that were made and whose artifact is gone are known by the store's record of them, since what was made of them may
still be there: of a corpus whose signatures were deleted to save room, the rest is used.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from k2model.artifacts import ArtifactRef, Store
from k2model.artifacts.record import ref_of
from k2model.continual.entries import Start
from k2model.continual.state import BASE, TUNED, Corpus, Model, State, corpus_name
from k2model.errors import K2Error
from k2model.lifecycle.plan import decide
from k2model.lifecycle.steps import ADOPTED, Owner, StepRow, Work, data_rows, full_name, inputs_of, phase_rows
from k2model.recipe import PhaseConfig, Recipe
from k2model.recipe.schema import AdoptedModel
from k2model.tokens import read_composition

PARTS = ("checkpoint", "export")  # of each phase that is continued
TESTED = ("scores", "safety")  # of the tuned one; the second where the recipe tests it


class NoChampion(K2Error):
    """The lifecycle of a line has promoted no model that is still there."""


@dataclass(frozen=True)
class _Found:
    """Of the steps that a line's model came of, by full name: artifacts that are there, and ones that were."""

    here: Mapping[str, ArtifactRef]
    lost: Mapping[str, ArtifactRef]


def start(store: Store, recipe: Recipe, state: State) -> Start:
    """The champion of a line where a recipe's lifecycle in `store` has made it, and what that was trained on.

    Raises NoChampion, which says what is missing and how to get it.
    """
    config = recipe.continual
    if not config:
        raise NoChampion(f"recipe '{recipe.name}' is of no line: name the phase that is gone on with (continual.tuned)")
    for name in filter(None, (config.tuned, config.base)):
        if name not in [phase.name for phase in recipe.phases]:
            phases = ", ".join(phase.name for phase in recipe.phases)
            raise NoChampion(f"continual names the phase '{name}', and recipe '{recipe.name}' has {phases}")
    found = _find(store, recipe)
    tuned = recipe.phase(config.tuned)
    champion = _champion(recipe, state, _here(found, f"{tuned.name}/checkpoint"))
    made = {f"{TUNED}/{part}": _here(found, f"{tuned.name}/{part}") for part in PARTS}
    for part in TESTED[: 1 + (tuned.name in recipe.safety_tested)]:
        made[f"{TUNED}/{part}"] = _here(found, f"{tuned.name}/{part}")
    seen = {TUNED: _tokens_by_source(store, found, [tuned])}
    if config.base:
        made |= {f"{BASE}/{part}": _here(found, f"{config.base}/{part}") for part in PARTS}
        seen[BASE] = _tokens_by_source(store, found, [*_line_of(recipe, recipe.phase(config.base))])
    made |= {name: _here(found, name) for name in ("corpus_valid", "tokens", "tokenizer")}
    corpus = Corpus(corpus_name(champion.turn), found.here.get("corpus_clean"), made["corpus_valid"], made["tokens"])
    return Start(Model(champion.turn, made, (corpus.name,), seen, champion.version), corpus)


def _steps(recipe: Recipe) -> Iterator[tuple[StepRow, Owner]]:
    """What the tuned model came of, in order: no gates, since what they guard stands where they have passed."""
    phases = [*_line_of(recipe, recipe.phase(recipe.continual.tuned))][::-1]
    yield from ((row, model) for model in recipe.adopted for row in ADOPTED)
    yield from ((row, owner) for row, owner in data_rows(recipe) if not row.guards)
    yield from ((row, phase) for phase in phases for row in phase_rows(recipe, phase) if not row.guards)


def _line_of(recipe: Recipe, phase: PhaseConfig) -> Iterator[PhaseConfig]:
    """A phase and those that it was trained from, up to the first one or a model that was adopted."""
    row: PhaseConfig | AdoptedModel = phase
    while isinstance(row, PhaseConfig):
        yield row
        if not row.parent:
            return
        row = recipe.row(row.parent)


def _find(store: Store, recipe: Recipe) -> _Found:
    """Raises NoChampion for the first step of which neither an artifact nor a record is there."""
    here: dict[str, ArtifactRef] = {}
    lost: dict[str, ArtifactRef] = {}
    for row, owner in _steps(recipe):
        name = full_name(row, owner)
        identity = row.build(Work(store, recipe, owner, inputs_of(row, owner, {**here, **lost}))).identity
        if found := store.find(identity):
            here[name] = found
            continue
        record = next((one for one in store.records(identity.step) if one["identity"] == identity.key), None)
        if record is None:
            raise NoChampion(f"{_not_there(recipe, store)}: {_why(store, recipe, name)}. {_remedy(recipe)}")
        lost[name] = ref_of(record, store.uri)
    return _Found(here, lost)


def _here(found: _Found, name: str) -> ArtifactRef:
    if name not in found.here:
        raise NoChampion(
            f"{name} of the lifecycle was made, and its artifact {found.lost[name].uri} is gone. Bring it back, or run "
            "`make lifecycle` again, which makes it anew"
        )
    return found.here[name]


def _champion(recipe: Recipe, state: State, checkpoint: ArtifactRef) -> Model:
    """The line's champion, which must be of the recipe's own checkpoint."""
    tuned, judged = recipe.continual.tuned, state.judged.get(checkpoint.digest)
    if state.model is not None and state.model.made[f"{TUNED}/checkpoint"].digest == checkpoint.digest:
        return state.model
    other = f"; champion is {state.called(state.model)}, of another checkpoint" if state.model is not None else ""
    if judged is not None:
        raise NoChampion(
            f"phase '{tuned}' of recipe '{recipe.name}' was trained and is not the champion ({judged.outcome.value}: "
            f"{judged.reason}){other}. Look at its gates (`k2 gates {judged.name} --recipe {recipe.name}`); `k2 "
            f"promote {judged.name}` judges it anew"
        )
    raise NoChampion(
        f"phase '{tuned}' of recipe '{recipe.name}' was trained, and no gate has judged it{other}. {_remedy(recipe)}"
    )


def _tokens_by_source(store: Store, found: _Found, phases: list[PhaseConfig]) -> dict[str, float]:
    """Tokens of each source in the rows that `phases` were trained on."""
    seen: dict[str, float] = {}
    for phase in phases:
        composition = read_composition(store, _here(found, f"{phase.name}/sequences"))
        source_of = {entry.name: entry.source for entry in phase.mixture}
        for name, one in composition["sources"].items():
            source = source_of[name]
            seen[source] = seen.get(source, 0.0) + float(one["tokens"])
    return seen


def _why(store: Store, recipe: Recipe, name: str) -> str:
    """What `k2 plan` says of a step that is to be made."""
    told: list[Any] = [decision for decision, _ in decide(store, recipe, [*_steps(recipe)]) if decision.name == name]
    return f"{name} {told[0].reason}"


def _not_there(recipe: Recipe, store: Store) -> str:
    return f"the lifecycle of recipe '{recipe.name}' is not in {store.uri}"


def _remedy(recipe: Recipe) -> str:
    return (
        f"Run `make lifecycle RECIPE={recipe.name}`, or choose the recipe that was run (`k2 plan` shows it as cached)"
    )
