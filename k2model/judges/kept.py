"""The calls of a judge, kept beside the artifacts: in `_judges/<model>/` of the store, whoever judges.

What several artifacts need of one judge, its agreement with labelled answers, is asked once, and one folder serves all
wordings. How calls are kept while they are made is `k2model.synthesis.teachers.kept`.
"""

import re

from k2model.artifacts import Store
from k2model.artifacts.files import Files
from k2model.recipe.safety import JudgeConfig
from k2model.synthesis.teachers.kept import kept_calls

__all__ = ["calls_of", "kept_calls"]

FOLDER = "_judges"


def calls_of(store: Store, config: JudgeConfig) -> Files:
    """Where the calls of a judge are kept in a store."""
    return store.files_of(f"{FOLDER}/{re.sub(r'[^A-Za-z0-9._-]+', '-', config.model)}")
