"""The champion asked everything, at leisure: what its recipe asks, what its canary is asked, and `continual.evaluated`.

A turn asks what its verdict needs. Between turns the whole matrix is of interest, public suites among it, and nobody
waits for it. All are cells like any other: what a turn or a canary has measured is not measured again.
"""

from collections.abc import Sequence
from datetime import datetime

from k2model.artifacts import Store
from k2model.continual.canary import canary_cells
from k2model.continual.start import NoChampion
from k2model.continual.state import TUNED, Model, State
from k2model.continual.turn import opened
from k2model.evals.cells import Cell, missing, rows_of
from k2model.evals.choice import Questions
from k2model.evals.references import Known, subject_of
from k2model.evals.scores import ScoreRow
from k2model.evals.step import measure_together
from k2model.lifecycle import LifecyclePlan
from k2model.recipe import Recipe
from k2model.recipe.task_files import questions_of
from k2model.registry.gates import RegistryError

EVALUATED = "k2.evaluated"  # tag of a champion's run: when it was last asked everything, and how much of that there was


def everything(store: Store, recipe: Recipe, state: State) -> list[Cell]:
    """Every cell of the champion, each once. Raises EvaluationError for a name in `continual.evaluated` that is
    nothing that can be asked, NoChampion where there is none."""
    model, tuned = _champion(state), recipe.continual.tuned
    made = {name: model.made[name] for name in ("corpus_valid", "tokens", "tokenizer")}
    known = Known(recipe, made | {f"{tuned}/export": model.made[f"{TUNED}/export"]}, {})
    subject = subject_of(tuned, store, known)
    chosen, own = questions_of(recipe.continual.evaluated)
    asked = [Questions(known, store)] + ([Questions(known, store, chosen, own)] if chosen or own else [])
    cells = [Cell(subject, measure) for questions in asked for measure in questions.of(subject, tuned)]
    if recipe.continual.canary.items and state.before:
        cells += [cell for cell in canary_cells(store, recipe, state) if cell.subject.key == subject.key]
    return list({cell.identity.key: cell for cell in cells}.values())


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
    return bool(missing(store, everything(store, line.recipe, state)))


def measure(line: LifecyclePlan) -> str:
    """Measures what is missing; every worker of a job calls it. Says how many cells there are."""
    store = Store.open(line.store)
    cells = everything(store, line.recipe, opened(line).state())
    measure_together(store, cells, line.recipe.evaluation.tensor)
    return f"{len(cells)} cells"


def tell(line: LifecyclePlan, kickoff: datetime, tracking_uri: str) -> str:
    """Gives MLflow the champion's scores, as metrics `evaluation/<score>` of its run, and says what there is."""
    store = Store.open(line.store)
    try:
        state = opened(line).state()
    except NoChampion as nobody:
        return f"nothing was asked: {nobody}"
    cells = everything(store, line.recipe, state)
    found = [(cell, store.find(cell.identity)) for cell in cells]
    rows = [row for _, ref in found if ref for row in rows_of(store, ref, line.recipe.continual.tuned)]
    there = sum(ref is not None for _, ref in found)
    said = f"{_champion(state).name} model has {there} of {len(cells)} cells, {len(rows)} scores"
    try:
        return f"{said}; {_log(tracking_uri, line.recipe, _champion(state), rows, kickoff)}"
    except RegistryError as error:
        return f"{said}. MLflow was not told, the next evaluation tells it: {error}"


def _log(tracking_uri: str, recipe: Recipe, model: Model, rows: Sequence[ScoreRow], kickoff: datetime) -> str:
    """Metrics of the run that the champion's version came from, once for each kickoff."""
    from mlflow.entities import Metric

    from k2model.registry.live import BATCH
    from k2model.registry.phase_record import CHAMPION, allowed
    from k2model.registry.tracking import tracking

    name, when = f"k2-{recipe.name}", kickoff.isoformat()
    with tracking(tracking_uri) as client:
        held = client.get_registered_model(name).aliases.get(CHAMPION)
        version = client.get_model_version(name, held) if held else None
        if version is None or version.tags.get("k2.checkpoint.digest") != model.made[f"{TUNED}/checkpoint"].digest:
            return f"the alias {CHAMPION} of {name} in MLflow is not on that model yet; a turn moves it"
        run = client.get_run(version.run_id)
        told = f"version {held} of {name} in MLflow has them"
        if run.data.tags.get(EVALUATED, "").startswith(f"{when}:"):
            return told
        moment = round(kickoff.timestamp() * 1000)
        day = moment // 86_400_000  # of the step, so that evaluations stand apart
        metrics = [Metric(allowed(f"evaluation/{row.score}"), row.value, moment, day) for row in rows]
        for start in range(0, len(metrics), BATCH):
            client.log_batch(run.info.run_id, metrics=metrics[start : start + BATCH], synchronous=True)
        client.set_tag(run.info.run_id, EVALUATED, f"{when}: {len(rows)} scores")
    return told
