"""A line of models that goes on: what has arrived, a turn of training, the champion's evaluation, a release candidate.

    pyflyte run workflows/continual.py continual_arrivals --kickoff 2026-11-03T01:00:00 --overrides '{}'
    pyflyte run workflows/continual.py continual_turn --kickoff 2026-11-03T02:00:00 --overrides '{}'

By hand `make continual RECIPE=laptop INBOX=...` runs the first two, one after the other. On a cluster they are started
by `workflows/schedules.py`; a schedule gives its own time as `kickoff`, and a scheduled workflow has no defaults. A
node with accelerators is asked for only behind a small pod that has found something for it to do. What a recipe's line
does not have is in no graph: a recipe without one can be packaged, and its workflows say so when they are run.
"""

from datetime import datetime, timedelta
from typing import Any

from flytekit import approve, conditional, workflow

from k2model.artifacts import ArtifactRef
from k2model.continual.state import BASE, TUNED
from k2model.continual.turn import Turn
from k2model.lifecycle.steps import row_called
from tasks import champion
from tasks import continual as tasks
from tasks._platform import RECIPE
from tasks.steps import compose, make
from tasks.training import train_task

Made = dict[str, ArtifactRef]
LINE = RECIPE.continual
DAYS_TO_APPROVE = 7


@workflow(on_failure=champion.tell_failed)
def continual_arrivals(kickoff: datetime, overrides: dict) -> str:
    """Judge what has arrived in the inbox and enter it into the ledger.

    Args:
        kickoff: the schedule's time
        overrides: dotted recipe fields to change

    Returns:
        what became of each batch
    """
    line = tasks.resolve_line(overrides=overrides)
    names = tasks.list_arrivals(line=line)
    there = tasks.any_of(names=names)
    judged = (
        conditional("judge").if_(there.is_true()).then(tasks.judge_arrivals(line=line, names=names))
        .else_().then(tasks.judged_none(names=names))
    )  # fmt: skip
    unknown = tasks.any_unmeasured(line=line, judged=judged)
    losses = (
        conditional("measure").if_(unknown.is_true()).then(tasks.measure_arrivals(line=line, judged=judged))
        .else_().then(tasks.measured_before(line=line, judged=judged))
    )  # fmt: skip
    return tasks.enter_arrivals(line=line, kickoff=kickoff, names=names, judged=judged, losses=losses)


def _trained(part: str, turn: Any, made: Any) -> Any:
    """The promise of what is made when a phase of the challenger is trained and exported."""
    phase = RECIPE.phase(LINE.base if part == BASE else LINE.tuned)
    prepared = tasks.prepare_rows(turn=turn, part=part, made=made)
    there = tasks.is_trained(turn=turn, part=part, made=prepared.made)
    told = {"step": "checkpoint", "phase": phase.name, "plan": prepared.plan, "inputs": prepared.training}
    checkpoint = (
        conditional(f"{part}_checkpoint").if_(there.is_true()).then(make(**told))
        .else_().then(train_task(phase)(**told))
    )  # fmt: skip
    return tasks.export_challenger(turn=turn, part=part, made=prepared.made, checkpoint=checkpoint)


def _decided(turn: Any, made: Any) -> Any:
    """The promise of what is made when there is a verdict on a challenger that is there."""
    there = tasks.is_examined(turn=turn, made=made)
    examined = (
        conditional("examine").if_(there.is_true()).then(tasks.examined_before(turn=turn, made=made))
        .else_().then(tasks.examine(turn=turn, made=made))
    )  # fmt: skip
    return tasks.decide(turn=turn, made=examined)


def _judged(turn: Any, made: Any) -> Any:
    """The promise of how a turn ended whose challenger is there."""
    ended = tasks.commit(turn=turn, made=_decided(turn, made))
    if not LINE.approve:
        return ended.said
    return (
        conditional("person").if_(ended.outcome == "held").then(ask_person(turn=turn, said=ended.said))
        .else_().then(tasks.say(said=ended.said))
    )  # fmt: skip


@workflow
def ask_person(turn: Turn, said: str) -> str:
    """Waits until a person has approved the challenger, in Flyte's console; `k2 promote` does the same."""
    asked = tasks.say(said=said)
    approved = approve(asked, "promote", timeout=timedelta(days=DAYS_TO_APPROVE))
    return tasks.promote_held(turn=turn, said=approved)


if LINE:

    @workflow
    def tune(turn: Turn, made: dict[str, ArtifactRef]) -> str:
        """Fine-tuning goes on from the champion."""
        return _judged(turn, _trained(TUNED, turn, made))

    @workflow
    def anneal_tuned(turn: Turn, made: dict[str, ArtifactRef]) -> str:
        """What is tuned comes down from its constant rate."""
        return champion.enter_anneal(turn=turn, made=_decided(turn, _trained(TUNED, turn, made)))


if LINE and LINE.base:

    @workflow
    def continue_base(turn: Turn, made: dict[str, ArtifactRef]) -> str:
        """The base goes on from the champion's, and is fine-tuned again."""
        return _judged(turn, _trained(TUNED, turn, _trained(BASE, turn, made)))

    @workflow
    def anneal_base(turn: Turn, made: dict[str, ArtifactRef]) -> str:
        """The base comes down from its constant rate, and is fine-tuned again."""
        return champion.enter_anneal(turn=turn, made=_decided(turn, _trained(TUNED, turn, _trained(BASE, turn, made))))


@workflow(on_failure=champion.tell_failed)
def continual_turn(kickoff: datetime, overrides: dict) -> str:
    """One turn: look, decide, train, compare, promote or refuse.

    Args:
        kickoff: the schedule's time
        overrides: dotted recipe fields to change

    Returns:
        how the turn ended, and why
    """
    line = tasks.resolve_line(overrides=overrides)
    wanted = tasks.canary_wanted(line=line, kickoff=kickoff)
    canary = (
        conditional("canary").if_(wanted.is_true()).then(tasks.measure_canary(line=line))
        .else_().then(tasks.no_canary())
    )  # fmt: skip
    begun = tasks.begin_turn(line=line, kickoff=kickoff, canary=canary)
    if not LINE:
        return tasks.end_idle(turn=begun.turn)
    cases = conditional("turn").if_(begun.go == TUNED).then(tune(turn=begun.turn, made=begun.made))
    if LINE.base:
        cases = cases.elif_(begun.go == BASE).then(continue_base(turn=begun.turn, made=begun.made))
    return cases.else_().then(tasks.end_idle(turn=begun.turn))


@workflow(on_failure=champion.tell_failed)
def champion_evaluation(kickoff: datetime, overrides: dict) -> str:
    """The champion asked everything: what its recipe asks, the canary's items, and `continual.evaluated`.

    Args:
        kickoff: the schedule's time
        overrides: dotted recipe fields to change

    Returns:
        how much was asked, and where the scores are
    """
    line = tasks.resolve_line(overrides=overrides)
    lacking = champion.is_unmeasured(line=line)
    measured = (
        conditional("evaluate").if_(lacking.is_true()).then(champion.measure_champion(line=line))
        .else_().then(champion.measured_before(line=line))
    )  # fmt: skip
    return champion.tell_evaluation(line=line, kickoff=kickoff, measured=measured)


def _annealed(begun: Any) -> Any:
    """The promise of what came of the champion's anneal."""
    if not LINE:
        return tasks.end_idle(turn=begun.turn)
    cases = conditional("anneal").if_(begun.go == TUNED).then(anneal_tuned(turn=begun.turn, made=begun.made))
    if LINE.base:
        cases = cases.elif_(begun.go == BASE).then(anneal_base(turn=begun.turn, made=begun.made))
    return cases.else_().then(tasks.end_idle(turn=begun.turn))


@workflow(on_failure=champion.tell_failed)
def release_candidate(kickoff: datetime, overrides: dict) -> str:
    """A report and a release of the champion, with every decision of its line: annealed, where it is on the constant of
    an infinite schedule and no worse for it, else as it stands.

    Args:
        kickoff: the schedule's time
        overrides: dotted recipe fields to change

    Returns:
        where the release is
    """
    line = tasks.resolve_line(overrides=overrides)
    begun = champion.begin_anneal(line=line, kickoff=kickoff)
    frozen = champion.begin_release(line=line, turn=begun.turn, annealed=_annealed(begun))
    made = {"evaluation_items": frozen.evaluation_items, "corpus_valid": frozen.corpus_valid}
    overlap = compose(row_called("overlap"), None, frozen.plan, made)
    scores = (
        conditional("score").if_(frozen.lacking.is_true()).then(champion.score_phases(candidate=frozen.candidate))
        .else_().then(champion.scored_before(candidate=frozen.candidate))
    )  # fmt: skip
    return champion.release(line=line, candidate=frozen.candidate, scores=scores, overlap=overlap)
