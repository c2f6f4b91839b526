"""Every gate of a challenger, in the order in which it is told: its scores, the champion beside it, its artifacts."""

from dataclasses import replace

from k2model.artifacts import ArtifactRef, Store, fingerprint
from k2model.artifacts.record import ref_of
from k2model.continual.state import TUNED, WAIVABLE, Checked, Judged, Model
from k2model.continual.verdict.artifact_gates import Asked, artifact_gates
from k2model.errors import K2Error
from k2model.evals.scores import ScoreRow, load_scores
from k2model.promotion.comparison import Contest, compared
from k2model.promotion.evidence import contamination, scores_gates
from k2model.recipe import Recipe
from k2model.recipe.schema import PhaseConfig
from k2model.registry import Registration
from k2model.registry.register import safety_scores

BEFORE = "gates of phases before"


class NotPromotable(K2Error):
    """What was asked for cannot be promoted or judged."""


def model_of(
    store: Store, registration: Registration, sequences: ArtifactRef, corpus: ArtifactRef, checkpoint: ArtifactRef,
    export: ArtifactRef, scores: ArtifactRef, safety: ArtifactRef | None,
) -> Model:  # fmt: skip
    """A registered phase as a model of its line; what it was packed and exported from is read from the store's records.
    Its `turn` is 0 until it is promoted."""
    made = {"checkpoint": checkpoint, "export": export, "scores": scores, "sequences": sequences}
    made |= {"safety": safety} if safety is not None else {}
    whole = {f"{TUNED}/{name}": ref for name, ref in made.items()}
    whole |= {"corpus_valid": corpus, "tokens": _input(store, sequences, "tokens")}
    return Model(0, whole | {"tokenizer": _input(store, export, "tokenizer")}, (), version=registration.version)


def _input(store: Store, ref: ArtifactRef, name: str) -> ArtifactRef:
    said = store.record(ref)["inputs"][name]
    record = next((one for one in store.records(said["kind"]) if one["digest"] == said["digest"]), None)
    if record is None:
        raise NotPromotable(f"{ref.name} was made of a {said['kind']} of which {store.uri} has no record; run k2 check")
    return ref_of(record, store.uri)


def before_of(phase: PhaseConfig, parent: Registration | None, adopted: bool) -> Checked:
    """What the phases that it was trained from have passed; of an adopted model nothing was asked."""
    if parent is None and (adopted or not phase.parent):
        return Checked(BEFORE, True, "there is no phase before it")
    if parent is None:
        return Checked(BEFORE, False, f"phase {phase.parent} was never registered", measured=False)
    said = f"{parent.gates_so_far} gates of them, " + ("all passed" if parent.passed else "not all passed")
    return Checked(BEFORE, parent.passed, said)


def checked(contest: Contest, before: Checked, waived: frozenset[str] = frozenset()) -> tuple[
    tuple[Checked, ...], ArtifactRef | None
]:  # fmt: skip
    """Every gate that the recipe asks, and the comparison with the champion. waived: names that a person lets pass.

    Raises EvaluationError where a gate is on a safety score whose judge agrees too little with labelled answers, and
    the store's errors where scores cannot be read.
    """
    compared_gates, verdict = compared(contest)
    found = [*own_gates(contest), before, *compared_gates]
    if contest.recipe.promotion.contamination:
        found.append(contamination(contest.store, contest.recipe, contest.phase, contest.model, _rows(contest)))
    found += _artifacts(contest)
    return tuple(replace(one, waived=one.gate in waived and not one.passed) for one in found), verdict


def own_gates(contest: Contest) -> list[Checked]:
    """The recipe's gates on the challenger's own scores."""
    return scores_gates(contest.recipe.gates, contest.phase, _rows(contest))


def _rows(contest: Contest) -> list[ScoreRow]:
    store, made, phase = contest.store, contest.model.made, contest.phase.name
    safety = safety_scores(store, phase, made.get(f"{TUNED}/safety"), contest.recipe.gates)
    return [*load_scores(store, [made[f"{TUNED}/scores"]]), *safety]


def _artifacts(contest: Contest) -> list[Checked]:
    return artifact_gates(
        Asked(contest.store, contest.recipe, contest.model, f"k2 promote REF --waive {WAIVABLE[0]}", contest.remedy,
              contest.measure)
    )  # fmt: skip


def asked_of(recipe: Recipe, phase: PhaseConfig, model: Model, champion: str, before: Checked) -> str:
    """Fingerprint of all that a decision follows from: what is asked, of which artifacts, beside whom."""
    gates = [gate for gate in recipe.gates if gate.phase == phase.name]
    line = recipe.continual
    bounds = [line.allowed_loss, line.default_loss, line.confidence]
    made = {name: ref.digest for name, ref in sorted(model.made.items())}
    return fingerprint([gates, recipe.promotion, bounds, made, champion, before.passed])


def failing(gates: tuple[Checked, ...]) -> list[Checked]:
    return [one for one in gates if not (one.passed or one.waived)]


def before_in(judged: Judged) -> Checked:
    """What was found of the phases before it when it was judged."""
    return next(one for one in judged.gates if one.gate == BEFORE)
