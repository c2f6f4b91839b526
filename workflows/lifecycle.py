"""The whole life of a K2 model as one DAG.

    pyflyte run workflows/lifecycle.py full_lifecycle

The recipe is chosen at registration by `K2_RECIPE` (default `laptop`); single fields are changed with
`--overrides '{"phases.sft.optimizer.lr": 1e-5}'`.
"""

from flytekit import workflow

from tasks._platform import RECIPE
from tasks.data import find_duplicates, validate
from tasks.parts import fan_out
from tasks.release import assemble, release, report, summarize
from tasks.resolve import resolve
from tasks.tokens import train_tokenizer, validate_tokens
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
    raw = fan_out(plan, "corpus_raw", [])
    clean = fan_out(plan, "corpus_clean", [raw])
    duplicates = find_duplicates(store=plan.store, config=plan.data.corpus, raw=raw, clean=clean)
    curated = fan_out(plan, "corpus", [raw, clean, duplicates])
    corpus = validate(
        store=plan.store,
        config=plan.recipe.validation,
        mixtures=plan.data.mixtures,
        phase_tokens=plan.data.phase_tokens,
        curation=plan.recipe.corpus,
        corpus=curated,
    )
    tokenizer = train_tokenizer(store=plan.store, config=plan.recipe.tokenizer, corpus=corpus)
    encoded = fan_out(plan, "tokens", [corpus, tokenizer])
    tokens = validate_tokens(store=plan.store, config=plan.recipe.validation, tokens=encoded)

    data = Data(corpus, tokens, tokenizer)
    done: dict[str, PhaseOutputs] = {}
    for row in RECIPE.phases:
        done[row.name] = run_phase(plan, row.name, data, row.parent, done.get(row.parent))

    outputs = list(done.values())
    result = assemble(
        recipe=plan.recipe,
        data=[raw, curated, corpus, tokenizer, tokens],
        sequences=[phase.sequences for phase in outputs],
        checkpoints=[phase.checkpoint for phase in outputs],
        exports=[phase.export for phase in outputs],
        scores=[phase.scores for phase in outputs],
        registrations=[phase.registration for phase in outputs],
    )
    return summarize(
        store=plan.store,
        tracking_uri=plan.tracking_uri,
        result=result,
        report=report(store=plan.store, result=result),
        release=release(store=plan.store, result=result),
    )
