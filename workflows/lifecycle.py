"""The whole life of a K2 model as one DAG.

    pyflyte run workflows/lifecycle.py full_lifecycle

The recipe is chosen at registration by `K2_RECIPE` (default `laptop`) and changed by `K2_OVERRIDES`; a run changes
fields that decide over no task with `--overrides '{"phases.sft.optimizer.lr": 1e-5}'`. What is made and in which order
stands in `k2model/lifecycle/steps.py`.
"""

from typing import Any

from flytekit import workflow

from k2model.lifecycle.steps import ADOPTED, END, data_rows, phase_rows
from tasks._platform import RECIPE
from tasks.run import register, resolve, summarize
from tasks.steps import compose_all


@workflow
def full_lifecycle(overrides: dict = {}) -> str:  # noqa: B006  Flyte reads the default, nothing mutates it
    """Corpus, tokenizer, every phase trained, evaluated and registered, then report and release.

    Args:
        overrides: dotted recipe fields to change, for example {"phases.sft.optimizer.lr": 1e-5}

    Returns:
        where report, release and tracking store are
    """
    plan = resolve(overrides=overrides)
    made: dict[str, Any] = {}
    registered: dict[str, Any] = {}
    for model in RECIPE.adopted:
        compose_all(ADOPTED, model, plan, made)
    for row, owner in data_rows(RECIPE):
        compose_all((row,), owner, plan, made)
    data = {name: ref for name, ref in made.items() if "/" not in name or name.endswith("/synthesis")}
    for phase in RECIPE.phases:
        compose_all(phase_rows(RECIPE, phase), phase, plan, made)
        own = {part: made[f"{phase.name}/{part}"] for part in ("sequences", "checkpoint", "export", "scores")}
        parent, origin = registered.get(phase.parent), RECIPE.origin(phase.name)
        adopted = made[f"{origin.name}/checkpoint"] if origin else None
        registered[phase.name] = register(
            plan=plan, phase=phase.name, corpus=made["corpus_valid"], parent=parent, adopted=adopted,
            safety=made.get(f"{phase.name}/safety"), data=data, **own,
        )  # fmt: skip
    compose_all(END, None, plan, made)
    return summarize(plan=plan, made=made, registrations=list(registered.values()))
