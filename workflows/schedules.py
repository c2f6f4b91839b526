"""When a line goes on by itself: a launch plan for each schedule of `Recipe.continual.schedules`.

Flyte starts a plan at its cron time, gives that time as `kickoff` and the rest from its fixed inputs; two executions of
a plan never run at once. That policy has a race of its own, so the lease of the line and its ledger decide: a second
one ends in seconds, and so does every missed one that Flyte starts after an outage but the first. The plans are active
as soon as they are registered (`make register`); `k2 schedule list` shows them.
"""

from flytekit import CronSchedule, LaunchPlan, WorkflowExecutionPhase
from flytekit.core.notification import Email, Notification
from flytekit.models.concurrency import ConcurrencyLimitBehavior, ConcurrencyPolicy

from k2model.recipe.continual import FIXED_INPUTS
from tasks._platform import RECIPE
from workflows import continual

_ENDED_BADLY = [WorkflowExecutionPhase.FAILED, WorkflowExecutionPhase.TIMED_OUT, WorkflowExecutionPhase.ABORTED]
_WORKFLOWS = {
    "arrivals": continual.continual_arrivals,
    "turn": continual.continual_turn,
    "evaluation": continual.champion_evaluation,
    "release": continual.release_candidate,
}


def _notifications() -> list[Notification]:
    """What Flyte itself tells; refusals and promotions are told by the turn (`k2model.continual.notify`)."""
    to = list(RECIPE.continual.notify.email)
    return [Email(phases=_ENDED_BADLY, recipients_email=to)] if to else []


def _plan(name: str, cron: str) -> LaunchPlan:
    return LaunchPlan.get_or_create(
        _WORKFLOWS[name],
        name=f"{RECIPE.name}.{name}",
        schedule=CronSchedule(schedule=cron, kickoff_time_input_arg="kickoff"),
        fixed_inputs=FIXED_INPUTS,
        notifications=_notifications(),
        auto_activate=True,
        concurrency=ConcurrencyPolicy(max_concurrency=1, behavior=ConcurrencyLimitBehavior.SKIP),
    )


#: By the schedule's name; a recipe without a line has none.
SCHEDULES = {
    name: _plan(name, cron)
    for name in _WORKFLOWS
    if RECIPE.continual and (cron := getattr(RECIPE.continual.schedules, name))
}
