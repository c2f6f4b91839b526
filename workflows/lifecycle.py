"""The whole life of a K2 model as one DAG.

    pyflyte run workflows/lifecycle.py full_lifecycle

The recipe is chosen at registration by `K2_RECIPE` (default `laptop`); single fields are changed with
`--overrides '{"phases.sft.optimizer.lr": 1e-5}'`.
"""

from flytekit import workflow

from tasks._platform import RECIPE
from tasks.release import assemble, release, report, summarize
from tasks.resolve import resolve
from workflows.data import run_data_steps
from workflows.phase import Data, PhaseOutputs, run_phase


@workflow
def full_lifecycle(overrides: dict = {}) -> str:  # noqa: B006  Flyte reads the default, nothing mutates it
    """Corpus, tokenizer, six phases each trained, evaluated and registered, then report and release.

    Args:
        overrides: dotted recipe fields to change, for example {"phases.sft.optimizer.lr": 1e-5}

    Returns:
        where report, release and tracking store are
    """
    plan = resolve(overrides=overrides)
    data = run_data_steps(plan)
    shared = Data(data.corpus, data.tokens, data.tokenizer)
    done: dict[str, PhaseOutputs] = {}
    for row in RECIPE.phases:
        done[row.name] = run_phase(plan, row.name, shared, row.parent, done.get(row.parent))

    outputs = list(done.values())
    result = assemble(
        recipe=plan.recipe,
        data=list(data),
        sequences=[phase.sequences for phase in outputs],
        checkpoints=[phase.checkpoint for phase in outputs],
        exports=[phase.export for phase in outputs],
        scores=[phase.scores for phase in outputs],
        registrations=[phase.registration for phase in outputs],
    )
    return summarize(
        store=plan.store,
        result=result,
        report=report(store=plan.store, result=result),
        release=release(store=plan.store, result=result),
    )
