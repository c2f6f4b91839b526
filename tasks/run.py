"""The tasks of a run that make no artifact: its plan at the beginning, a phase's registration, what the person who
started it is told at the end."""

from dataclasses import asdict

from k2model.artifacts import ArtifactRef, Store
from k2model.artifacts.result import LifecycleResult
from k2model.errors import K2Error
from k2model.lifecycle import LifecyclePlan
from k2model.lifecycle import resolve as resolve_plan
from k2model.lifecycle.missing import MissingData, missing_data
from k2model.lifecycle.steps import gate_identities
from k2model.recipe import Recipe
from k2model.registry import Registration
from k2model.settings import recipe_name, store_uri, tracking_uri
from tasks._platform import RECIPE, data_task
from tasks.pods import Kind


class FixedAtRegistration(K2Error):
    """An override names a field that was fixed when the workflow was registered."""


@data_task(Kind.ASK)
def resolve(overrides: dict) -> LifecyclePlan:
    """Raises FixedAtRegistration for an override of what the registered tasks have taken from the recipe, MissingData
    where it does not say where its data lie."""
    plan = resolve_plan(recipe_name(), overrides, store_uri())
    refuse_fixed(plan.recipe)
    if problem := missing_data(plan.recipe):
        raise MissingData(problem)
    return plan


def refuse_fixed(recipe: Recipe) -> None:
    """Raises FixedAtRegistration where a run's recipe is another than the registered one in what tasks were made of."""
    before, asked = _fixed(RECIPE), _fixed(recipe)
    for field in before:
        if before[field] != asked[field]:
            raise FixedAtRegistration(
                f"{field} cannot be overridden to {_told(asked[field])}: the workflow was made of the recipe "
                f"'{RECIPE.name}' when it was registered ({_told(before[field])}). Change it in the recipe, or in "
                "K2_OVERRIDES, which is read before the workflow is made (make lifecycle OVERRIDES=..., make package "
                "OVERRIDES=...)"
            )


def _fixed(recipe: Recipe) -> dict[str, object]:
    """Every field that decides which tasks there are, what they wait for and of which size they are, by its dotted
    name; which phases there are comes first, so that two recipes of the same have the same fields."""
    fixed: dict[str, object] = {"phases": [phase.name for phase in recipe.phases]}
    for phase in recipe.phases:
        fixed[f"phases.{phase.name}.parent"] = phase.parent
        for name in ("nodes", "workers_per_node"):
            fixed[f"phases.{phase.name}.parallelism.{name}"] = getattr(phase.parallelism, name)
    jobs = ((source.name, source.job) for source in recipe.corpus.synthesised)
    fixed["corpus.synthesised"] = [f"{name} ({job.teacher.value})" for name, job in jobs if job]
    fixed["evaluation.workers"] = recipe.evaluation.workers
    fixed["safety.kinds"] = [*recipe.safety_tested]
    fixed |= {f"continual.{name}": getattr(recipe.continual, name) for name in ("tuned", "base", "approve")}
    for name, value in asdict(recipe.cluster).items():
        sizes = value.items() if isinstance(value, dict) else ()
        fixed |= {f"cluster.{name}.{of}": one for of, one in sizes} or {f"cluster.{name}": value}
    return fixed


def _told(value: object) -> str:
    return ", ".join(value) or "none" if isinstance(value, list) else repr(value) if value == "" else str(value)


@data_task(Kind.ASK)
def register(
    plan: LifecyclePlan,
    phase: str,
    corpus: ArtifactRef,
    sequences: ArtifactRef,
    checkpoint: ArtifactRef,
    export: ArtifactRef,
    scores: ArtifactRef,
    parent: Registration | None = None,
    adopted: ArtifactRef | None = None,
    safety: ArtifactRef | None = None,
    data: dict[str, ArtifactRef] | None = None,
) -> Registration:
    """Registers a phase, one that the tracking store holds is left as it is; then a fine-tuned one is held to its
    gates. `adopted`: the checkpoint of the model from outside that its weights descend from, if any; `safety`: its
    safety scores, where the recipe has it tested. `data`: what was made before any phase, which is shown as runs of its
    own."""
    from k2model.pages import begin_lifecycle
    from k2model.promotion.decide import judge_phase
    from k2model.registry import register_phase

    store, made = Store.open(plan.store), {**(data or {}), f"{phase}/sequences": sequences}
    registered = register_phase(
        within=begin_lifecycle(tracking_uri(), store, plan.recipe, made),
        items=made.get("evaluation_items"),
        tracking_uri=tracking_uri(),
        store=store,
        recipe_name=plan.recipe.name,
        model=plan.recipe.model,
        phase=plan.recipe.phase(phase),
        gates=plan.recipe.gates,
        sequences=sequences,
        corpus=corpus,
        checkpoint=checkpoint,
        export=export,
        scores=scores,
        parent=parent,
        origin=plan.recipe.origin(phase),
        adopted=adopted,
        safety=safety,
    )
    return judge_phase(
        tracking_uri(), store, plan.recipe, registered, parent, sequences, corpus, checkpoint, export, scores, safety
    )


@data_task(Kind.ASK)
def summarize(plan: LifecyclePlan, made: dict[str, ArtifactRef], registrations: list[Registration]) -> str:
    """Complete the lifecycle's pages in MLflow, print what was kept of the data and the scores, say where everything is
    and what was promoted."""
    from k2model.pages import finish_lifecycle
    from k2model.reporting import print_summary

    store, result = Store.open(plan.store), LifecycleResult(plan.recipe, made)
    gates = gate_identities(store, plan.recipe, made)
    finish_lifecycle(tracking_uri(), store, result, registrations, gates)
    return print_summary(store, tracking_uri(), result, registrations, gates)


@data_task(Kind.ASK)
def summarize_data(made: dict[str, ArtifactRef]) -> str:
    """What a data run ends with: each artifact's counts and place."""
    return "\n".join(f"{name:14} {_counts(ref)}  {ref.uri}" for name, ref in made.items())


def _counts(ref: ArtifactRef) -> str:
    return ", ".join(f"{value:,.0f} {name}" for name, value in ref.stats.items())
