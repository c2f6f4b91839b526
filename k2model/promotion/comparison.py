"""A challenger beside the champion of its line, on the same items: the verdict that turns are held to as well.

Where both were scored on one corpus by one recipe, all is there. Else the champion is to be asked what the challenger
was asked: in place where the model is small (`IN_PLACE`), by `k2 gates REF --measure` on a machine that holds it
otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from k2model.artifacts import ArtifactRef, JobStep, Step, Store, make
from k2model.continual.state import TUNED, Checked, Model, State
from k2model.continual.verdict.artifact_gates import SHOWN, measured_in_place
from k2model.continual.verdict.capabilities import Row
from k2model.continual.verdict.comparison import Side, compared_step, read_verdict
from k2model.continual.verdict.verdict import told
from k2model.errors import EvaluationError
from k2model.evals.cells import Cell, missing
from k2model.evals.material import Material
from k2model.evals.measures import losses_of
from k2model.evals.references import exported
from k2model.evals.step import measure_together, scores_step
from k2model.recipe import Recipe
from k2model.recipe.safety import SAFETY
from k2model.recipe.schema import PhaseConfig
from k2model.safety import answers_step, safety_step


@dataclass(frozen=True)
class Contest:
    """What is compared: the challenger's phase and model, by its name, and the champion of `state`. measure: whether
    what is missing is measured, whatever it takes; a small model's always is."""

    store: Store
    recipe: Recipe
    phase: PhaseConfig
    name: str
    model: Model
    state: State
    measure: bool = False

    @property
    def measures(self) -> bool:
        return self.measure or measured_in_place(self.recipe)

    @property
    def is_tested(self) -> bool:
        return self.phase.name in self.recipe.safety_tested

    @property
    def remedy(self) -> str:
        return f"k2 gates {self.name} --measure does it, on a machine that holds the model"


class NotMeasured(EvaluationError):
    """Something of the two was not measured, and is not measured in place."""


def compared(contest: Contest) -> tuple[tuple[Checked, ...], ArtifactRef | None]:
    """The gates `capability` and `safety`, as far as the recipe asks them, and the verdict that they are read from."""
    asked, champion = contest.recipe.promotion, contest.state.model
    wanted = {"capability": asked.capability, SAFETY: asked.safety}
    if champion is None:
        said = "there is no champion to compare with: it is the first of its line"
        return tuple(_first(contest, name, said) for name, one in wanted.items() if one), None
    try:
        verdict = make(contest.store, _step(contest, champion))
    except EvaluationError as error:
        return tuple(Checked(name, False, str(error), measured=False) for name, one in wanted.items() if one), None
    rows = [row for row in read_verdict(contest.store, verdict).rows if row.decides]
    beside = contest.state.called(champion)
    safety = [row for row in rows if row.score.startswith(f"{SAFETY}/")]
    found = {"capability": [row for row in rows if row not in safety], SAFETY: safety}
    if not contest.is_tested:
        found[SAFETY] = []
    return tuple(_checked(name, found[name], beside) for name, one in wanted.items() if one), verdict


def _first(contest: Contest, name: str, said: str) -> Checked:
    if name != SAFETY:
        return Checked(name, True, said)
    if not contest.is_tested:
        return Checked(name, True, _untested(contest.phase.name))
    tested = f"{TUNED}/safety" in contest.model.made
    return Checked(name, tested, said if tested else "it was not tested for safety", measured=tested)


def _untested(phase: str) -> str:
    return f"the recipe tests phase {phase} for nothing (safety.kinds)"


def _checked(name: str, rows: list[Row], beside: str) -> Checked:
    failing = [row for row in rows if not row.passed]
    if not rows:
        return Checked(name, True, f"nothing was asked of it and of {beside} that decides")
    if failing:
        more = f"; and {len(failing) - SHOWN} more" if len(failing) > SHOWN else ""
        said = "; ".join(f"{row.score} {told(row)}" for row in failing[:SHOWN])
        return Checked(name, False, f"against {beside} {said}{more}", float(len(failing)), 0.0, 0.0)
    worst = min(rows, key=lambda row: row.gain)
    said = f"no worse than {beside} on all {len(rows)}; the lowest is {worst.score} {told(worst)}"
    return Checked(name, True, said, 0.0, 0.0, 0.0)


def _step(contest: Contest, champion: Model) -> Step:
    """Raises EvaluationError where the two cannot be compared, or one was not measured."""
    ours, theirs = champion.made["tokenizer"], contest.model.made["tokenizer"]
    if ours.digest != theirs.digest:
        raise EvaluationError(
            f"{contest.name} has another tokenizer than {contest.state.called(champion)}, so that what they say of one "
            "text cannot be compared. It begins a line of its own: give its recipe another name"
        )
    first = _side(contest, contest.state.called(champion), champion)
    second = _side(contest, contest.name, contest.model)
    config = replace(contest.recipe.continual, tuned=contest.phase.name, targets=(), approve=False)
    return compared_step(contest.store, first, second, config, contest.recipe.gates, lifecycle=True)


def _side(contest: Contest, name: str, model: Model) -> Side:
    """One of the two, asked as the challenger was: on its corpus, by its recipe."""
    store, recipe, phase = contest.store, contest.recipe, contest.phase
    made, export = contest.model.made, model.made[f"{TUNED}/export"]
    corpus, tokens, tokenizer = (made[part] for part in ("corpus_valid", "tokens", "tokenizer"))
    scores = scores_step(store, recipe.evaluation, phase, corpus, tokens, tokenizer, export, lengths=recipe.lengths)
    subject = exported(export, tokenizer, store, phase.name, phase.sequence_length)
    texts = losses_of(recipe.evaluation, Material(store, corpus, tokens), subject.bounds)
    losses = [Cell(subject, measure) for measure in texts]
    if lacking := missing(store, losses):
        _check_measured(contest, f"the losses of {name} on the challenger's corpus")
        measure_together(store, lacking, recipe.evaluation.tensor)
    cells = {(cell.measure.name, ""): ref for cell in losses if (ref := store.find(cell.identity)) is not None}
    return Side(name, _made(contest, scores, f"the scores of {name} on the challenger's items"), cells,
                _safety(contest, name, model))  # fmt: skip


def _safety(contest: Contest, name: str, model: Model) -> ArtifactRef | None:
    """The safety scores of one of the two, by the judge and the tests of the recipe; None where it tests none."""
    store, config, phase = contest.store, contest.recipe.safety, contest.phase
    if not contest.is_tested:
        return None
    tokenizer = contest.model.made["tokenizer"]
    subject = exported(model.made[f"{TUNED}/export"], tokenizer, store, phase.name, phase.sequence_length)
    answers = _made(contest, answers_step(store, config, subject), f"the answers of {name} to the safety tests")
    return make(store, safety_step(store, config.judge, answers, config.data))


def _made(contest: Contest, step: JobStep, what: str) -> ArtifactRef:
    if (found := contest.store.find(step.identity)) is not None:
        return found
    _check_measured(contest, what)
    return make(contest.store, step)


def _check_measured(contest: Contest, what: str) -> None:
    if not contest.measures:
        raise NotMeasured(f"not measured: {what}; {contest.remedy}")


def shown_beside(store: Store, verdict: ArtifactRef | None) -> list[Mapping[str, object]]:
    """Every row of a comparison, as tables show it: score, items, champion, challenger, and what came of it."""
    rows = read_verdict(store, verdict).rows if verdict is not None else ()
    return [
        {
            "score": row.score, "n": row.n, "champion": row.champion, "challenger": row.challenger, "gain": row.gain,
            "at_worst": row.bound, "allowed": -row.allowed, "decides": row.decides, "outcome": row.outcome,
        }
        for row in rows
    ]  # fmt: skip
