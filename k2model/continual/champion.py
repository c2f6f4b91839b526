"""The champion asked everything, at leisure: what its recipe asks, what its canary is asked, and `continual.evaluated`.

A turn asks what its verdict needs. Between turns the whole matrix is of interest, public suites among it, and nobody
waits for it. All are cells like any other: what a turn or a canary has measured is not measured again.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from k2model.artifacts import Store
from k2model.continual.start import NoChampion
from k2model.continual.state import TUNED, Model, State, moment
from k2model.continual.turn import opened
from k2model.continual.verdict.canary import canary_cells
from k2model.evals.cells import Cell, missing, rows_of
from k2model.evals.choice import Questions
from k2model.evals.references import Known, subject_of
from k2model.evals.step import measure_together
from k2model.lifecycle import LifecyclePlan
from k2model.recipe import Recipe
from k2model.recipe.task_files import questions_of
from k2model.registry.gates import RegistryError

EVALUATED = "k2.evaluated"  # tag of a champion's run: when it was last asked everything, and how much of that there was


def everything(store: Store, recipe: Recipe, state: State) -> dict[str, list[Cell]]:
    """Every cell of the champion, each once: those of the `evaluation`, and those of the `canary`, whose scores have
    the same names and are on other items.

    Raises EvaluationError for a name in `continual.evaluated` that is nothing that can be asked, NoChampion where there
    is no champion.
    """
    model, tuned = _champion(state), recipe.continual.tuned
    made = {name: model.made[name] for name in ("corpus_valid", "tokens", "tokenizer")}
    known = Known(recipe, made | {f"{tuned}/export": model.made[f"{TUNED}/export"]}, {})
    subject = subject_of(tuned, store, known)
    chosen, own = questions_of(recipe.continual.evaluated)
    asked = [Questions(known, store)] + ([Questions(known, store, chosen, own)] if chosen or own else [])
    cells = [Cell(subject, measure) for questions in asked for measure in questions.of(subject, tuned)]
    watched = canary_cells(store, recipe, state) if recipe.continual.canary.items and state.before else []
    return {
        "evaluation": list({cell.identity.key: cell for cell in cells}.values()),
        "canary": [cell for cell in watched if cell.subject.key == subject.key],
    }


def _all(cells: Mapping[str, Sequence[Cell]]) -> list[Cell]:
    return [cell for those in cells.values() for cell in those]


def _champion(state: State) -> Model:
    if state.model is None:
        raise NoChampion(f"line '{state.line}' has no champion; run its lifecycle to the end, then a turn")
    return state.model


def is_unmeasured(line: LifecyclePlan) -> bool:
    """Whether a cell of the champion is missing. Without a champion there is nothing to measure."""
    try:
        state = opened(line).state()
    except NoChampion:
        return False
    store = Store.open(line.store)
    return bool(missing(store, _all(everything(store, line.recipe, state))))


def measure(line: LifecyclePlan) -> str:
    """Measures what is missing; every worker of a job calls it. Says how many cells there are."""
    store = Store.open(line.store)
    cells = _all(everything(store, line.recipe, opened(line).state()))
    measure_together(store, cells, line.recipe.evaluation.tensor)
    return f"{len(cells)} cells"


def tell(line: LifecyclePlan, kickoff: datetime, tracking_uri: str) -> str:
    """Gives MLflow the champion's scores, as metrics `evaluation/<score>` and `canary/<score>` of its run, and says
    what there is."""
    store = Store.open(line.store)
    try:
        state = opened(line).state()
    except NoChampion as nobody:
        return f"nothing was asked: {nobody}"
    cells = everything(store, line.recipe, state)
    found = [(group, store.find(cell.identity)) for group, those in cells.items() for cell in those]
    scores = {f"{group}/{row.score}": row.value for group, ref in found if ref for row in rows_of(store, ref)}
    there = sum(ref is not None for _, ref in found)
    said = f"{_champion(state).name} model has {there} of {len(found)} cells, {len(scores)} scores"
    try:
        return f"{said}; {_log(tracking_uri, line.recipe, _champion(state), scores, kickoff)}"
    except RegistryError as error:
        return f"{said}. MLflow was not told, the next evaluation tells it: {error}"


def _log(tracking_uri: str, recipe: Recipe, model: Model, scores: Mapping[str, float], kickoff: datetime) -> str:
    """Metrics of the run that the champion's version came from, once for each kickoff."""
    from mlflow.entities import Metric

    from k2model.registry.live import BATCH
    from k2model.registry.phase_record import CHAMPION, allowed
    from k2model.registry.tracking import tracking

    name, when = f"k2-{recipe.name}", moment(kickoff)
    with tracking(tracking_uri) as client:
        held = client.get_registered_model(name).aliases.get(CHAMPION)
        version = client.get_model_version(name, held) if held else None
        if version is None or version.tags.get("k2.checkpoint.digest") != model.made[f"{TUNED}/checkpoint"].digest:
            return f"the alias {CHAMPION} of {name} in MLflow is not on that model yet; a turn moves it"
        run = client.get_run(str(version.run_id))
        told = f"version {held} of {name} in MLflow has them"
        if run.data.tags.get(EVALUATED, "").startswith(f"{when.isoformat()}:"):
            return told
        milliseconds = round(when.timestamp() * 1000)
        day = milliseconds // 86_400_000  # as the step, so that evaluations stand apart
        metrics = [Metric(allowed(name), value, milliseconds, day) for name, value in scores.items()]
        for start in range(0, len(metrics), BATCH):
            client.log_batch(run.info.run_id, metrics=metrics[start : start + BATCH], synchronous=True)
        client.set_tag(run.info.run_id, EVALUATED, f"{when.isoformat()}: {len(scores)} scores")
    return told
