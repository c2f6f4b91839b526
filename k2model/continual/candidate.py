"""A release of a line's champion: its whole life, the lifecycle's phases and then those of the turns it comes from.

The recipe of such a release is the line's own with a row for each phase that a turn has trained, `turn_3_sft`, whose
parent is the row that its weights came from, and one for each that the anneal has, `annealed_sft`; fine-tunings that a
later turn began anew behind a base are left out. So report, card, scores and lineage tell the whole of it as of any
lifecycle, from random initialisation on, with what each of these phases was trained on. Beside them stand the line's
ledger as it was, by which every decision can be checked, and what the gate found of each batch.

The champion that a lifecycle has promoted has been released by it: that release is found.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import cast

from k2model.artifacts import ArtifactRef, Store, make
from k2model.artifacts.record import ref_of
from k2model.artifacts.result import LifecycleResult
from k2model.continual.anneal import annealed, on_constant, stands_for
from k2model.continual.continuation import CHAMPION, continuation
from k2model.continual.fold import fold
from k2model.continual.gate.evidence import ARRIVAL
from k2model.continual.ledger import FOLDER, Ledger
from k2model.continual.start import NoChampion
from k2model.continual.state import BASE, TUNED, Annealed, Ended, Model, Outcome, State, model_name
from k2model.continual.turn import opened
from k2model.errors import K2Error
from k2model.evals.cells import missing
from k2model.evals.step import ScoresStep
from k2model.lifecycle import LifecyclePlan
from k2model.lifecycle.steps import Work, full_name, gate_identities, inputs_of, row_called
from k2model.plain import from_plain
from k2model.recipe import PhaseConfig, Recipe
from k2model.recipe.continual import BatchKind
from k2model.release.manifest import TURNS

Made = dict[str, ArtifactRef]
ENTRIES = "line/ledger"  # in a release
ANNEAL = "anneal/verdict"  # the name of what was said of the champion's anneal


class NotReleasable(K2Error):
    """The champion's life cannot be told from what the store holds."""


@dataclass(frozen=True)
class Trained:
    """A phase that a turn or an anneal has trained: its row in the released recipe, the row and recipe it was trained
    by, and the model that came of it."""

    model: Model
    part: str  # BASE or TUNED
    row: PhaseConfig
    own: PhaseConfig
    recipe: Recipe


@dataclass(frozen=True)
class Candidate:
    """What a release of the champion is made of, as of an entry of the ledger.

    entries: of the ledger by then. plan: the released recipe. made: by name in it, all but what `complete` adds.
    released: the lifecycle's own release, where that is what is released.
    """

    entries: int
    plan: LifecyclePlan
    made: Made
    released: ArtifactRef | None = None


def candidate(line: LifecyclePlan, champion: int | None = None, unannealed: str = "") -> Candidate:
    """Freezes what is released: the champion, or the model of turn `champion` where that was it until another was
    promoted; annealed, where that was no worse. unannealed: why no anneal was made, for the card.

    Raises NoChampion, and NotReleasable where the lifecycle's artifacts are gone or its recipe is not what they were
    made by any more.
    """
    store, ledger = Store.open(line.store), opened(line)
    state = _stood(ledger, champion)
    if state.model is None:
        raise NoChampion(f"line '{state.line}' has no champion to release")
    anneal = annealed(line.recipe, ledger, state.model.turn)
    released, made = _lifecycle(store, line.recipe, state.root)
    if state.model.turn <= 0 and not stands_for(anneal):
        return Candidate(state.entries, line, made, released)
    trained = _trained(store, line.recipe, ledger, state, anneal)
    recipe = _told_recipe(store, line.recipe, trained, state, anneal, unannealed)
    for one in trained:
        model = one.model
        made |= {f"{one.row.name}/{kind}": model.made[f"{one.part}/{kind}"] for kind in ("sequences", "checkpoint")}
        made |= {f"{one.row.name}/{kind}": model.made[kind] for kind in ("corpus_valid", "tokens")}
        made[f"{one.row.name}/export"] = model.made[f"{one.part}/export"]
        if one.part == TUNED and f"{TUNED}/safety" in model.made:
            made[f"{one.row.name}/safety"] = model.made[f"{TUNED}/safety"]
    made |= {f"turn_{one.turn}/verdict": one.verdict for one in _turns(state) if one.verdict}
    if anneal is not None and anneal.ended.verdict is not None:
        made[ANNEAL] = anneal.ended.verdict
    made |= {f"batch_{number}/arrival": ref for number, ref in enumerate(_arrivals(state).values(), 1)}
    made |= {name: state.model.made[name] for name in ("corpus_valid", "tokens")}
    items = row_called("evaluation_items")
    made["evaluation_items"] = make(store, items.build(Work(store, recipe, None, inputs_of(items, None, made))))
    made.pop("overlap")  # of the lifecycle's corpus; the champion's is looked up anew
    return Candidate(state.entries, LifecyclePlan(recipe, line.store), made)


def _anneal(line: LifecyclePlan, ledger: Ledger, state: State, candidate: Candidate) -> Annealed | None:
    """What a candidate was frozen with. Raises NotReleasable where the same champion was annealed by other settings
    since."""
    if (verdict := candidate.made.get(ANNEAL)) is None or state.champion is None:
        return None
    found = annealed(line.recipe, ledger, state.champion)
    if found is None or found.ended.verdict is None or found.ended.verdict.digest != verdict.digest:
        raise NotReleasable(f"{model_name(state.champion)} model was annealed anew meanwhile; make the candidate again")
    return found


def _stood(ledger: Ledger, champion: int | None) -> State:
    """The ledger as it stands; or as it stood when turn `champion` was last the champion's, if another was promoted
    since. One that was rolled back is not gone back to."""
    state = ledger.state()
    if champion is None or champion == state.champion or champion not in state.before:
        return state
    last = then = State(ledger.line)
    for entry in ledger.entries():
        found = replace(fold(then, [entry.content]), entries=entry.number, head=entry.digest)
        if then.champion == champion != found.champion:
            last = then
        then = found
    return last


def unscored(candidate: Candidate) -> bool:
    """Whether something is to be asked for the scores of a turn's phase, as of each base: a verdict is on what was
    tuned."""
    store = Store.open(candidate.plan.store)
    steps = [_scores(store, candidate, phase) for phase in _of_turns(candidate)]
    return any(store.find(step.identity) is None and missing(store, step.cells()) for step in steps)


def score(candidate: Candidate) -> Made:
    """By name the scores of each phase of a turn, on the corpus of that turn; every worker of a job calls it."""
    store = Store.open(candidate.plan.store)
    return {f"{one.name}/scores": make(store, _scores(store, candidate, one)) for one in _of_turns(candidate)}


def _scores(store: Store, candidate: Candidate, phase: PhaseConfig) -> ScoresStep:
    row = row_called("scores")
    work = Work(store, candidate.plan.recipe, phase, inputs_of(row, phase, _as_then(candidate, phase)))
    return cast(ScoresStep, row.build(work))


def _as_then(candidate: Candidate, phase: PhaseConfig) -> Made:
    """What was made, with corpus and tokens of the phase's turn."""
    made = candidate.made
    return made | {kind: made[f"{phase.name}/{kind}"] for kind in ("corpus_valid", "tokens")}


def _of_turns(candidate: Candidate) -> list[PhaseConfig]:
    return [phase for phase in candidate.plan.recipe.phases if f"{phase.name}/corpus_valid" in candidate.made]


def complete(line: LifecyclePlan, candidate: Candidate, scores: Made, overlap: ArtifactRef) -> ArtifactRef:
    """The release, kind `release`, with its report; where the lifecycle has released the champion, that one."""
    from k2model.release import release_step
    from k2model.reporting import report_step

    if candidate.released is not None:
        return candidate.released
    store, ledger = Store.open(line.store), Ledger.open(Store.open(line.store), line.recipe.name)
    made = candidate.made | scores | {"overlap": overlap}
    seen = row_called("items_seen")
    for phase in _of_turns(candidate):
        read = inputs_of(seen, phase, made | {"tokens": made[f"{phase.name}/tokens"]})
        made[full_name(seen, phase)] = make(store, seen.build(Work(store, candidate.plan.recipe, phase, read)))
    state = state_after(ledger, candidate.entries)
    anneal = _anneal(line, ledger, state, candidate)
    trained = _trained(store, line.recipe, ledger, state, anneal)
    _, first = _lifecycle(store, line.recipe, state.root)
    gates = gate_identities(store, line.recipe, first)
    checks = row_called("sequences_checks")
    for one in trained:
        work = Work(store, one.recipe, one.own, {"sequences": made[f"{one.row.name}/sequences"]})
        gates[full_name(checks, one.row)] = checks.build(work).identity
    result = LifecycleResult(candidate.plan.recipe, made)
    made["report"] = make(store, report_step(store, result, gates))
    return make(store, release_step(store, LifecycleResult(result.recipe, made), _line(store, ledger, state, anneal)))


def state_after(ledger: Ledger, entries: int) -> State:
    """What the first entries of a ledger add up to."""
    contents = [*islice(ledger.entries(), entries)]
    state = fold(State(ledger.line), (entry.content for entry in contents))
    return replace(state, entries=entries, head=contents[-1].digest if contents else "")


def _turns(state: State) -> list[Ended]:
    return [one for one in state.turns if one.turn in state.descent]


def _arrivals(state: State) -> dict[str, ArtifactRef]:
    """By batch what the gate found of each that the champion was trained on, in the order of its corpora."""
    names = state.model.corpora if state.model else ()
    found = {name: state.batches[name].arrival for name in names if name in state.batches}
    return {name: ref for name, ref in found.items() if ref is not None}


def _lifecycle(store: Store, recipe: Recipe, model: Model) -> tuple[ArtifactRef, Made]:
    """The release of the lifecycle that a line began with, and what it was made of by name."""
    digest, name = model.made[f"{TUNED}/checkpoint"].digest, f"{recipe.continual.tuned}.checkpoint"
    found = [
        one for one in store.records("release")
        if one["inputs"].get(name, {}).get("digest") == digest and "line" not in one["config"]
    ]  # fmt: skip
    if not found:
        raise NotReleasable(
            f"{store.uri} has no release of the lifecycle that line '{recipe.name}' began with; run that lifecycle to "
            "its end (make lifecycle)"
        )
    kinds = {one["kind"] for one in found[-1]["inputs"].values()}
    records = {(kind, one["digest"]): one for kind in kinds for one in store.records(kind)}
    made = {
        role.replace(".", "/"): ref_of(records[source["kind"], source["digest"]], store.uri)
        for role, source in found[-1]["inputs"].items()
    }
    made.pop("report")
    row = row_called("checkpoint")
    for phase in recipe.phases:
        ref = made.get(f"{phase.name}/checkpoint")
        if (
            ref is None
            or ref.identity != row.build(Work(store, recipe, phase, inputs_of(row, phase, made))).identity.key
        ):
            raise NotReleasable(
                f"phase '{phase.name}' of recipe '{recipe.name}' is not what the lifecycle trained that the line began "
                "with, so a release would tell it wrongly; change a line by `continual`, its phases in another recipe"
            )
    return ref_of(found[-1], store.uri), made


def _trained(store: Store, recipe: Recipe, ledger: Ledger, state: State, anneal: Annealed | None) -> list[Trained]:
    """The phases of turns that the released weights come from, and of the anneal, in the order in which they were
    trained."""
    config = recipe.continual
    last = {BASE: config.base, TUNED: config.tuned}
    beginnings = [
        (began, then, state.models[began.turn])
        for began, then in ledger.beginnings()
        if then.entries <= state.entries and began.turn in state.descent
    ]
    if anneal is not None and stands_for(anneal) and anneal.ended.challenger is not None:
        beginnings.append((anneal.began, state, anneal.ended.challenger))
    found = []
    for began, then, model in beginnings:
        own = continuation(store, recipe, then, began)
        names = {CHAMPION: last[BASE if began.kind is BatchKind.BASE else TUNED]}
        for phase in own.phases:
            part = BASE if phase.name == config.base else TUNED
            names[phase.name] = f"turn_{began.turn}_{phase.name}" if began.batches else f"annealed_{phase.name}"
            trained = _as_trained(store, model, part, phase)
            row = replace(trained, name=names[phase.name], parent=names[phase.parent])
            found.append(Trained(model, part, row, trained, own))
            last[part] = row.name
    parents = {one.row.name: one.row.parent for one in found}
    ancestry = [last[TUNED]]
    while (parent := parents.get(ancestry[-1])) is not None:
        ancestry.append(parent)
    return [one for one in found if one.row.name in ancestry]


def _as_trained(store: Store, model: Model, part: str, phase: PhaseConfig) -> PhaseConfig:
    """The row that a phase was trained by, as the store's records have it: how a line goes on may have changed since.
    Of the machines it is trained on a record says nothing; these are as `phase` has them."""
    packed = store.record(model.made[f"{part}/sequences"])["config"]
    trained = store.record(model.made[f"{part}/checkpoint"])["config"]["phase"]
    names = {one.name for one in fields(PhaseConfig)}
    row = from_plain(PhaseConfig, {name: one for name, one in {**packed, **trained}.items() if name in names})
    return replace(row, parallelism=phase.parallelism, checkpoints=phase.checkpoints, norms_every=phase.norms_every)


def _told_recipe(
    store: Store, recipe: Recipe, trained: list[Trained], state: State, anneal: Annealed | None, unannealed: str
) -> Recipe:
    """The line's recipe with the phases of its turns, the sources of their batches, and the gates of what is tuned."""
    rows = tuple(one.row for one in trained)
    gates = [
        replace(gate, phase=one.row.name)
        for one in trained if one.part == TUNED
        for gate in recipe.gates if gate.phase == recipe.continual.tuned
    ]  # fmt: skip
    notes = [f"Continued by {len(_turns(state))} turns from the lifecycle's model; every decision is in {ENTRIES}"]
    if anneal is not None and stands_for(anneal):
        whose = model_name(anneal.began.champion)
        notes.append(f"Annealed for this release from {whose} model, which goes on at its constant learning rate")
    elif state.model is not None and on_constant(store, state.model):
        found = "worse" if anneal is None or all(one.passed for one in anneal.ended.gates) else "refused"
        why = f"the annealed model is {found}: {anneal.ended.reason}" if anneal else unannealed
        constant = "Its learning rate is the constant of an infinite schedule: it was not annealed"
        notes.append(f"{constant}, since {why}" if why else constant)
    return replace(
        recipe,
        phases=(*recipe.phases, *rows),
        corpus=trained[-1].recipe.corpus,
        gates=(*recipe.gates, *gates),
        notes=(*recipe.notes, *notes),
    )


def _line(store: Store, ledger: Ledger, state: State, anneal: Annealed | None) -> Mapping[str, bytes]:
    """The files of a release that are its line's: every entry as it stands, bound to the one before by its hash; the
    turns that the champion comes from, and its anneal; and what the gate found of their batches."""
    entries = store.files_of(f"{FOLDER}/{ledger.line}")
    names = [f"{number:08d}.json" for number in range(1, state.entries + 1)]
    files = {f"{ENTRIES}/{name}": entries.read(f"ledger/{name}") for name in names}
    for name, ref in _arrivals(state).items():
        files[f"line/arrivals/{name}.json"] = store.read(ref, ARRIVAL)
    came_from = [*_turns(state), *([anneal.ended] if anneal and stands_for(anneal) else [])]
    turns = [
        {
            "turn": one.turn, "kickoff": one.kickoff, "batches": list(one.batches), "from": one.champion,
            "trained_tokens": one.trained_tokens, "verdict": one.reason, "annealed": one.outcome is Outcome.ANNEALED,
        }
        for one in came_from
    ]  # fmt: skip
    files[TURNS] = (
        json.dumps({"champion": state.champion, "turns": turns}, indent=1, ensure_ascii=False) + "\n"
    ).encode()
    return files
