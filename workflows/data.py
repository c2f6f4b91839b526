"""The data of a lifecycle as one DAG: from sources to validated tokens, every part of them a task of its own.

    pyflyte run workflows/data.py prepare_data

`full_lifecycle` composes the same steps, so what was prepared here is found there and not made again.
"""

from typing import Any, NamedTuple

from flytekit import workflow

from tasks.data import find_duplicates, summarize_data
from tasks.gates import pass_gate, publish_checked
from tasks.parts import fan_out
from tasks.resolve import resolve
from tasks.tokens import train_tokenizer


class PreparedData(NamedTuple):
    """Promises of what every phase is made from, and of what that was made from."""

    raw: Any
    curated: Any
    corpus: Any
    tokenizer: Any
    tokens: Any


def run_data_steps(plan: Any) -> PreparedData:
    """Compose the tasks from sources to tokens; `plan` is the promise of a `LifecyclePlan`."""
    read = fan_out(plan, "corpus_raw", [])
    raw = fan_out(plan, "raw_checks", [read], pass_gate)
    clean = fan_out(plan, "corpus_clean", [raw])
    exact = fan_out(plan, "exact_links", [clean])
    bands = fan_out(plan, "band_links", [clean, exact])
    duplicates = find_duplicates(store=plan.store, config=plan.recipe.corpus, clean=clean, exact=exact, bands=bands)
    curated = fan_out(plan, "corpus", [raw, clean, duplicates])
    corpus = fan_out(plan, "corpus_valid", [curated], publish_checked)
    tokenizer = train_tokenizer(store=plan.store, data=plan.data, corpus=corpus)
    encoded = fan_out(plan, "tokens", [corpus, tokenizer])
    tokens = fan_out(plan, "tokens_checks", [encoded], pass_gate)
    return PreparedData(raw, curated, corpus, tokenizer, tokens)


@workflow
def prepare_data(overrides: dict = {}) -> str:  # noqa: B006  Flyte reads the default, nothing mutates it
    """Ingest, curate, validate and tokenise every source of the recipe.

    Args:
        overrides: dotted recipe fields to change, for example {"corpus.part_bytes": 64000000}

    Returns:
        documents and tokens, and where they are
    """
    plan = resolve(overrides=overrides)
    data = run_data_steps(plan)
    return summarize_data(artifacts=[data.raw, data.curated, data.corpus, data.tokens])
