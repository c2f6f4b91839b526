"""The rows of the table of steps (`k2model.lifecycle.steps`) as Flyte tasks, and how a workflow composes them.

A few tasks serve all rows: they are told which row, and of which phase. A step that is made part by part is a map task
over shares of its parts, between one that shares out what is missing and one that gathers; a step that takes
accelerators starts only after a small task has asked the store whether it is there already. Only trainings have a task
for each phase (`tasks.training`), since their nodes are fixed when a workflow is registered.

Flyte caches nothing: the store knows by identity what is there, whole and of which content, and a second cache could
only differ from it.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from flytekit import conditional, map_task

from k2model.artifacts import (
    ArtifactRef,
    PartedStep,
    Store,
    artifact_name,
    confirmed,
    gather,
    make_share,
    shared_out,
)
from k2model.artifacts import make as make_step
from k2model.lifecycle import LifecyclePlan
from k2model.lifecycle.steps import Owner, RunsOn, StepRow, full_name, inputs_of, row_called
from k2model.recipe import PhaseConfig
from k2model.settings import home
from tasks._platform import RECIPE, TRAIN_IMAGE, data_task, evaluation_task, show_deck
from tasks.pods import Kind, check_gpus, evaluation_pod
from tasks.training import train_task

#: Pods of one step at the same time; more wait.
CONCURRENCY = 256
#: Items of a map task: propeller keeps the state of each in the object of its workflow, and those who map over more
#: than 5,000 report trouble (flyteorg/flyte#3709, #4514).
MOST_ITEMS = 4_000
#: Parts that a pod makes at a time, and takes at least.
PART_WORKERS = RECIPE.cluster.part.cpus


@data_task(Kind.WHOLE)
def make(step: str, phase: str, plan: LifecyclePlan, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """Makes a step as a whole, unless it is there."""
    return make_step(*plan.build(step, phase, inputs))


@data_task(Kind.WHOLE, enable_deck=True)
def make_and_show(step: str, phase: str, plan: LifecyclePlan, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """Makes a step that has something to show; a gate gives back what it guards, so that what needs it waits."""
    store, built = plan.build(step, phase, inputs)
    return _shown(row_called(step), store, inputs, lambda: make_step(store, built))


@data_task(Kind.MODEL, container_image=TRAIN_IMAGE)
def make_with_model(step: str, phase: str, plan: LifecyclePlan, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """Makes a step that needs torch and room for the weights, and no accelerator."""
    return make_step(*plan.build(step, phase, inputs))


class Listed(NamedTuple):
    """The key of a step's identity (64 hex digits), and the names of shares of its parts that are to be made."""

    identity: str
    shares: list[str]


@data_task(Kind.ASK)
def list_parts(step: str, phase: str, plan: LifecyclePlan, inputs: dict[str, ArtifactRef]) -> Listed:
    """Shares out the parts that are to be made; none when the step's artifact is there."""
    store, built = _parted(step, phase, plan, inputs)
    return Listed(built.identity.key, shared_out(store, built, PART_WORKERS, MOST_ITEMS))


@data_task(Kind.PART)
def make_parts(
    step: str, phase: str, plan: LifecyclePlan, inputs: dict[str, ArtifactRef], identity: str, share: str
) -> str:
    """Makes the parts of a share where they will stay, and returns its name. The identity is not asked for anew by
    every pod: that may mean to read all that the step is made from."""
    make_share(*_parted(step, phase, plan, inputs), artifact_name(step, identity), share, PART_WORKERS)
    return share


@data_task(Kind.WHOLE)
def gather_parts(
    step: str, phase: str, plan: LifecyclePlan, inputs: dict[str, ArtifactRef], identity: str, made: list[str]
) -> ArtifactRef:
    """Finishes the artifact from its parts; `made` are the shares that it waits for.

    Raises InputsChanged when the step is not any more what was listed: nothing is finished under another identity.
    """
    return gather(*_parted(step, phase, plan, inputs), identity)


@data_task(Kind.WHOLE, enable_deck=True)
def gather_and_show(
    step: str, phase: str, plan: LifecyclePlan, inputs: dict[str, ArtifactRef], identity: str, made: list[str]
) -> ArtifactRef:
    """The same for a step that has something to show, as `make_and_show`: a breach is only decided on here."""
    store, built = _parted(step, phase, plan, inputs)
    return _shown(row_called(step), store, inputs, lambda: gather(store, built, identity))


@data_task(Kind.ASK)
def is_made(step: str, phase: str, plan: LifecyclePlan, inputs: dict[str, ArtifactRef]) -> bool:
    """Whether the store has the step's artifact: asked before accelerators are. Raises CorruptArtifact for one that is
    not what it was."""
    store, built = plan.build(step, phase, inputs)
    found = store.find(built.identity)
    return found is not None and bool(confirmed(store, found))


@evaluation_task()
def evaluate(step: str, phase: str, plan: LifecyclePlan, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """A step that all workers of one node make together."""
    check_gpus(evaluation_pod(RECIPE))
    return make_step(*plan.build(step, phase, inputs))


def compose(row: StepRow, phase: Owner, plan: Any, made: Mapping[str, Any]) -> Any:
    """The promise of what `row` gives; `plan` is that of a `LifecyclePlan`, `made` those of the rows before.

    Nodes are named by their step, as Flyte's console shows them: `mid_1-export`, `tokens-parts`.
    """
    name = full_name(row, phase)
    told = {
        "step": row.name,
        "phase": phase.name if phase else "",
        "plan": plan,
        "inputs": inputs_of(row, phase, made),
    }

    def node(promise: Any, part: str = "") -> Any:
        return promise.with_overrides(node_name=name.replace("/", "-") + part)

    if row.parted:
        listed = node(list_parts(**told), "-list")
        one = functools.partial(make_parts, **told, identity=listed.identity)
        pieces = node(map_task(one, concurrency=CONCURRENCY)(share=listed.shares), "-parts")
        gathered = (gather_and_show if row.page else gather_parts)(**told, identity=listed.identity, made=pieces)
        return node(gathered)
    if row.runs_on in (RunsOn.TRAINING, RunsOn.EVALUATION):
        trained = phase if row.runs_on is RunsOn.TRAINING and isinstance(phase, PhaseConfig) else None
        job = train_task(trained) if trained else evaluate
        there = node(is_made(**told), "-ask")
        return conditional(name).if_(there.is_true()).then(make(**told)).else_().then(job(**told))
    if row.runs_on is RunsOn.MODEL:
        return node(make_with_model(**told))
    return node((make_and_show if row.page else make)(**told))


def compose_all(rows: Any, phase: Owner, plan: Any, made: dict[str, Any]) -> None:
    """Compose `rows` one after the other and enter their promises into `made`, by full name.

    What a gate guards is from then on what the gate hands on.
    """
    for row in rows:
        promise = compose(row, phase, plan, made)
        prefix = f"{phase.name}/" if phase else ""
        made[f"{prefix}{row.guards or row.name}"] = promise


def _parted(step: str, phase: str, plan: LifecyclePlan, inputs: dict[str, ArtifactRef]) -> tuple[Store, PartedStep]:
    store, built = plan.build(step, phase, inputs)
    assert isinstance(built, PartedStep), f"the table says that {step} is made part by part"
    return store, built


def _shown(row: StepRow, store: Store, inputs: dict[str, ArtifactRef], work: Any) -> ArtifactRef:
    """Does `work` and shows the page of what it made; that of a gate which is not passed also stays in `K2_HOME`."""
    from k2model.validation import ValidationFailed

    try:
        reference: ArtifactRef = work()
    except ValidationFailed as failed:
        home().mkdir(parents=True, exist_ok=True)
        (home() / "validation_failed.html").write_text(failed.html, encoding="utf-8")
        show_deck(row.name, failed.html)
        raise
    show_deck(row.name, store.read(reference, row.page).decode())
    return inputs[row.guards] if row.guards else reference
