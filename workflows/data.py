"""The data of a lifecycle as one DAG: from sources to validated tokens, every part of them a task of its own.

    pyflyte run workflows/data.py prepare_data

`full_lifecycle` composes the same steps, so what was prepared here is found there and not made again.
"""

from typing import Any

from flytekit import workflow

from k2model.lifecycle.steps import data_rows
from tasks._platform import RECIPE
from tasks.run import resolve, summarize_data
from tasks.steps import compose_all


@workflow
def prepare_data(overrides: dict = {}) -> str:  # noqa: B006  Flyte reads the default, nothing mutates it
    """Ingest, curate, validate and tokenise every source of the recipe.

    Args:
        overrides: dotted recipe fields to change, for example {"corpus.part_bytes": 64000000}

    Returns:
        documents and tokens, and where they are
    """
    plan = resolve(overrides=overrides)
    made: dict[str, Any] = {}
    for row, owner in data_rows(RECIPE):
        compose_all((row,), owner, plan, made)
    return summarize_data(made={name: made[name] for name in ("corpus_raw", "corpus", "corpus_valid", "tokens")})
