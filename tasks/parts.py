"""Steps made part by part, as Flyte map tasks: every part a pod of its own, retried and resumed on its own.

Three tasks serve every step: what parts are missing, one of them, and gathering all; `tasks.gates` has others for the
last. A step that is made already lacks no parts, so that nothing is started for it. Which parts are there is asked of
the store alone: parts of what is not finished are in no ledger, so Flyte's cache would not learn that they are gone.

Listing tells the key of the step's identity, which holds all that the step is made from, what lies at the places that
the recipe names as well. That key is what Flyte caches the last task by, and nothing is finished under another one.
"""

import functools
from typing import Any, NamedTuple

from flytekit import map_task

from k2model.artifacts import ArtifactRef, Part
from k2model.planning import DataPlan, StoreRef
from tasks._platform import by_identity, data_task
from tasks._types import Artifact

#: Pods of one step at the same time; more parts wait.
CONCURRENCY = 256


class Listed(NamedTuple):
    """The key of a step's identity (64 hex digits), and its parts that are to be made."""

    identity: str
    parts: list[Part]


@data_task(cache=False)
def list_parts(step: str, store: StoreRef, data: DataPlan, inputs: list[ArtifactRef]) -> Listed:
    """The parts that are to be made; none when the step's artifact is there."""
    from k2model.artifacts import missing_parts
    from k2model.planning.data_steps import parted_step

    opened = store.open()
    parted = parted_step(step, opened, data, inputs)
    return Listed(parted.identity.key, missing_parts(opened, parted))


@data_task(cache=False)
def make_one(step: str, store: StoreRef, data: DataPlan, inputs: list[ArtifactRef], identity: str, part: Part) -> str:
    """Makes one part where it will stay, and returns its name."""
    from k2model.artifacts import artifact_name, make_part
    from k2model.planning.data_steps import parted_step

    opened = store.open()
    return make_part(opened, parted_step(step, opened, data, inputs), part, artifact_name(step, identity)).name


@data_task(cache=by_identity())
def gather_parts(
    step: str, store: StoreRef, data: DataPlan, inputs: list[ArtifactRef], identity: str, made: list[str]
) -> Artifact:
    """Finishes the artifact from its parts; `made` are those that it waits for."""
    return finish(step, store, data, inputs, identity)


def finish(step: str, store: StoreRef, data: DataPlan, inputs: list[ArtifactRef], identity: str) -> ArtifactRef:
    """Of every task that gathers: raises InputsChanged when the step is not any more what was listed."""
    from k2model.artifacts import gather
    from k2model.planning.data_steps import parted_step

    opened = store.open()
    return gather(opened, parted_step(step, opened, data, inputs), identity)


def fan_out(plan: Any, step: str, inputs: list[Any], gather: Any = gather_parts) -> Any:
    """Composes the three tasks; `plan` is the promise of a `LifecyclePlan`.

    Returns the promise of what `gather` gives, a task with the signature of `gather_parts`.
    """
    listed = list_parts(step=step, store=plan.store, data=plan.data, inputs=inputs)
    one = functools.partial(
        make_one, step=step, store=plan.store, data=plan.data, inputs=inputs, identity=listed.identity
    )
    made = map_task(one, concurrency=CONCURRENCY)(part=listed.parts)
    return gather(step=step, store=plan.store, data=plan.data, inputs=inputs, identity=listed.identity, made=made)
