"""Recipes as Flyte types, described once.

Flytekit derives a JSON schema of a dataclass anew wherever a task names it. The recipe is a deep type
and many tasks take it, so that alone would cost every `pyflyte` command seconds.
"""

import functools

from flytekit.core.type_engine import TypeEngine


def remember_dataclass_schemas() -> None:
    """Let flytekit answer from memory when the same dataclass is described again in this process."""
    transformer = TypeEngine._DATACLASS_TRANSFORMER
    transformer.get_literal_type = functools.cache(transformer.get_literal_type)
