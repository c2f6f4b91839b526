"""Every gate of a challenger, in the order in which it is told: its scores, the champion beside it, its artifacts."""

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec

from k2model.artifacts import ArtifactRef, Store, fingerprint, make
from k2model.artifacts.record import ref_of
from k2model.continual.state import TUNED, Checked, Judged, Model
from k2model.errors import K2Error
from k2model.evals.scores import ScoreRow, load_scores
from k2model.promotion.comparison import Contest, compared
from k2model.promotion.evidence import contamination, manifests, provenance, scores_gates
from k2model.promotion.parity import parity_step, read_parity
from k2model.recipe import Recipe
from k2model.recipe.schema import PhaseConfig
from k2model.registry import Registration
from k2model.registry.register import safety_scores

BEFORE = "gates of phases before"
WAIVABLE = ("provenance",)  # gates that a person may let pass by name: they say nothing of what the model does


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
    found = [*own_gates(contest), before, *compared_gates, *_artifacts(contest)]
    return tuple(replace(one, waived=one.gate in waived and not one.passed) for one in found), verdict


def own_gates(contest: Contest) -> list[Checked]:
    """The recipe's gates on the challenger's own scores."""
    return scores_gates(contest.recipe.gates, contest.phase, _rows(contest))


def _rows(contest: Contest) -> list[ScoreRow]:
    store, made, phase = contest.store, contest.model.made, contest.phase.name
    safety = safety_scores(store, phase, made.get(f"{TUNED}/safety"), contest.recipe.gates)
    return [*load_scores(store, [made[f"{TUNED}/scores"]]), *safety]


def _artifacts(contest: Contest) -> Iterator[Checked]:
    store, recipe, model = contest.store, contest.recipe, contest.model
    asked = recipe.promotion
    whole = manifests(store, model)
    if asked.contamination:
        yield contamination(store, recipe, contest.phase, model, _rows(contest))
    if asked.parity:
        yield _parity(contest) if whole.passed else Checked("parity", False, "its files are damaged", measured=False)
    if asked.provenance:
        yield provenance(store, model)
    yield whole


def _parity(contest: Contest) -> Checked:
    made, bound = contest.model.made, contest.recipe.promotion.parity
    step = parity_step(contest.store, contest.recipe.model, made[f"{TUNED}/checkpoint"], made[f"{TUNED}/export"])
    found = contest.store.find(step.identity)
    if found is None and not contest.measures:
        why = "" if find_spec("torch") else " (torch is not installed here)"
        said = f"not measured{why}: checkpoint beside export; {contest.remedy}"
        return Checked("parity", False, said, measured=False)
    told = read_parity(contest.store, found or make(contest.store, step))
    apart, length = told["difference"], int(told["length"])
    said = f"at the end of {length:,} tokens the export differs by up to {apart:.2g} nats, at most {bound:g} is allowed"
    return Checked("parity", apart <= bound, said, apart, 0.0, bound)


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
