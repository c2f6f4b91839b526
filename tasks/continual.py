"""The tasks of a line: arrivals, turns, the canary, and the champion's evaluation and release.

Each is a call of `k2model.continual`. What a task of a turn has made travels as references by name; a node with
accelerators starts only after a small pod has asked the store whether there is something to do.
"""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from k2model.artifacts import ArtifactRef
from k2model.continual.turn import Turn
from k2model.errors import K2Error
from k2model.lifecycle import LifecyclePlan, resolve
from k2model.recipe.schema import PhaseKind
from k2model.settings import recipe_name, store_uri, tracking_uri
from tasks._platform import EVAL_IMAGE, RECIPE, TRAIN_IMAGE, data_task, evaluation_task, show_deck
from tasks.pods import Kind, check_gpus, evaluation_pod
from tasks.run import refuse_fixed


class NoLine(K2Error):
    """A recipe does not say what its models are continued by."""


class Begun(NamedTuple):
    """go: `base`, `tuned`, or "" where nothing is to be trained."""

    go: str
    turn: Turn
    made: dict[str, ArtifactRef]


class Prepared(NamedTuple):
    """made: by name. training: what the training reads. plan: the challenger's."""

    made: dict[str, ArtifactRef]
    training: dict[str, ArtifactRef]
    plan: LifecyclePlan


@data_task(Kind.ASK)
def resolve_line(overrides: dict) -> LifecyclePlan:
    """The line's recipe and store. Raises NoLine where the recipe has none, FixedAtRegistration for an override of what
    the registered tasks have taken from it."""
    line = resolve(recipe_name(), overrides, store_uri())
    refuse_fixed(line.recipe)
    if not line.recipe.continual:
        tuned = [phase.name for phase in line.recipe.phases if phase.kind is PhaseKind.SFT]
        raise NoLine(
            f"recipe '{line.recipe.name}' has no line: it names no phase whose model new data continue. Set "
            f"continual.tuned to one of its phases of fine-tuning ({', '.join(tuned)}) in the recipe, or in "
            "K2_OVERRIDES, which is read before the workflow is made"
        )
    return line


@data_task(Kind.ASK)
def list_arrivals(line: LifecyclePlan) -> list[str]:
    """Names of batches that have arrived since."""
    from k2model.continual.arrivals import new_batches

    return new_batches(line)


@data_task(Kind.WHOLE)
def judge_arrivals(line: LifecyclePlan, names: list[str]) -> dict[str, ArtifactRef]:
    """The gate of each batch, by name."""
    from k2model.continual import arrivals

    return arrivals.judge_arrivals(line, names)


@data_task(Kind.ASK)
def judged_none(names: list[str]) -> dict[str, ArtifactRef]:
    """Nothing has arrived."""
    return {}


@data_task(Kind.ASK)
def any_of(names: list[str]) -> bool:
    """Whether there is one."""
    return bool(names)


@data_task(Kind.ASK, container_image=EVAL_IMAGE)
def any_unmeasured(line: LifecyclePlan, judged: dict[str, ArtifactRef]) -> bool:
    """Whether a batch has passed whose loss under the champion is not known."""
    from k2model.continual.arrivals import unmeasured

    return bool(unmeasured(line, judged))


def _measuring() -> Callable:
    """A node with accelerators where the recipe has some; else one process, which needs no job of several."""
    pod = evaluation_pod(RECIPE)
    return evaluation_task() if pod.gpus else data_task(Kind.MODEL, container_image=EVAL_IMAGE)


@_measuring()
def measure_arrivals(line: LifecyclePlan, judged: dict[str, ArtifactRef]) -> dict[str, ArtifactRef]:
    """The loss of each batch that has passed, by name."""
    from k2model.continual import arrivals

    check_gpus(evaluation_pod(RECIPE))
    return arrivals.measure_arrivals(line, judged)


@data_task(Kind.ASK, container_image=EVAL_IMAGE)
def measured_before(line: LifecyclePlan, judged: dict[str, ArtifactRef]) -> dict[str, ArtifactRef]:
    """The same where all of it is known: no node is asked for."""
    from k2model.continual import arrivals

    return arrivals.measure_arrivals(line, judged)


@data_task(Kind.ASK)
def enter_arrivals(
    line: LifecyclePlan,
    kickoff: datetime,
    names: list[str],
    judged: dict[str, ArtifactRef],
    losses: dict[str, ArtifactRef],
) -> str:
    """Enters what was found into the ledger and tells people."""
    from k2model.continual import arrivals
    from k2model.continual.watch import told

    entered = arrivals.enter_arrivals(line, kickoff, names, judged, losses)
    said = [f"{name}: {became}" for name, became in entered.items()]
    return told(line, tracking_uri(), "\n".join(said) or arrivals.nothing_new(line))


@data_task(Kind.ASK, container_image=EVAL_IMAGE)
def canary_wanted(line: LifecyclePlan, kickoff: datetime) -> bool:
    """Whether the champion has not been looked at since it was promoted."""
    from k2model.continual.watch import wants_canary

    return wants_canary(line, kickoff)


@evaluation_task()
def measure_canary(line: LifecyclePlan) -> str:
    """Asks the champion and the model before it what no decision was made on."""
    from k2model.continual import watch

    check_gpus(evaluation_pod(RECIPE))
    return watch.measure_canary(line)


@data_task(Kind.ASK)
def no_canary() -> str:
    """There is nothing to look at."""
    return ""


@data_task(Kind.WHOLE, container_image=EVAL_IMAGE)
def begin_turn(line: LifecyclePlan, kickoff: datetime, canary: str) -> Begun:
    """Looks and decides; `canary` is what it waits for."""
    from k2model.continual.turn import begin

    found, made = begin(line, kickoff)
    return Begun(found.go, found, made)


@data_task(Kind.WHOLE)
def prepare_rows(turn: Turn, part: str, made: dict[str, ArtifactRef]) -> Prepared:
    """Packs the rows of `base` or `tuned`."""
    from k2model.continual.turn import prepare

    return Prepared(*prepare(turn, part, made), turn.plan)


@data_task(Kind.ASK)
def is_trained(turn: Turn, part: str, made: dict[str, ArtifactRef]) -> bool:
    """Whether the store has the checkpoint: asked before accelerators are."""
    from k2model.continual import turn as turns

    return turns.is_trained(turn, part, made)


@data_task(Kind.MODEL, container_image=TRAIN_IMAGE)
def export_challenger(
    turn: Turn, part: str, made: dict[str, ArtifactRef], checkpoint: ArtifactRef
) -> dict[str, ArtifactRef]:
    """The weights of `base` or `tuned` in Hugging Face's form."""
    from k2model.continual.turn import finish

    return finish(turn, part, made, checkpoint)


@data_task(Kind.ASK, container_image=EVAL_IMAGE)
def is_examined(turn: Turn, made: dict[str, ArtifactRef]) -> bool:
    """Whether champion and challenger have been asked everything."""
    from k2model.continual import turn as turns

    return turns.is_examined(turn, made)


@evaluation_task()
def examine(turn: Turn, made: dict[str, ArtifactRef]) -> dict[str, ArtifactRef]:
    """Champion and challenger on the same items, by all workers of a node."""
    from k2model.continual import turn as turns

    check_gpus(evaluation_pod(RECIPE))
    return turns.examine(turn, made)


@data_task(Kind.WHOLE, container_image=EVAL_IMAGE)
def examined_before(turn: Turn, made: dict[str, ArtifactRef]) -> dict[str, ArtifactRef]:
    """The same where all of it is in the store."""
    from k2model.continual import turn as turns

    return turns.examine(turn, made)


@data_task(Kind.WHOLE, container_image=EVAL_IMAGE, enable_deck=True)
def decide(turn: Turn, made: dict[str, ArtifactRef]) -> dict[str, ArtifactRef]:
    """The verdict, with its page."""
    from k2model.continual import turn as turns
    from k2model.continual.verdict.comparison import PAGE

    decided = turns.decide(turn, made)
    show_deck("verdict", turn.store.read(decided["verdict"], PAGE).decode())
    return decided


class Committed(NamedTuple):
    """outcome: how the turn ended. said: a sentence on it."""

    outcome: str
    said: str


@data_task(Kind.ASK)
def commit(turn: Turn, made: dict[str, ArtifactRef]) -> Committed:
    """Enters the verdict into the ledger, moves the champion where it is promoted, tells MLflow and people."""
    from k2model.continual import turn as turns

    return Committed(*turns.commit(turn, made, tracking_uri()))


@data_task(Kind.ASK)
def end_idle(turn: Turn) -> str:
    """Nothing is trained. What earlier turns could not tell MLflow and people is told again."""
    from k2model.continual.watch import told

    return told(turn.line, tracking_uri(), turn.reason)


@data_task(Kind.ASK)
def promote_held(turn: Turn, said: str) -> str:
    """A person has said yes to what was held."""
    from k2model.continual.watch import promote

    return promote(turn.line, turn.number, "approved in Flyte", tracking_uri())


@data_task(Kind.ASK)
def say(said: str) -> str:
    """What the person who started it is told."""
    return said
