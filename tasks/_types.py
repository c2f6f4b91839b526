"""Our dataclasses as Flyte types: artifacts keyed by content, recipes described once.

Flytekit derives a JSON schema of a dataclass anew wherever a task names it. The recipe is a deep type
and many tasks take it, so that alone would cost every `pyflyte` command seconds.
"""

import functools
from typing import Annotated

from flytekit import HashMethod
from flytekit.core.type_engine import TypeEngine

from k2model.artifacts import ArtifactRef

# What a task returns. Downstream cache keys hold the kind and the digest: an artifact made again with the
# same content, wherever it lies and however long it took, is the same input.
Artifact = Annotated[ArtifactRef, HashMethod(lambda reference: f"{reference.kind}:{reference.digest}")]


def remember_dataclass_schemas() -> None:
    """Let flytekit answer from memory when the same dataclass is described again in this process."""
    transformer = TypeEngine._DATACLASS_TRANSFORMER
    transformer.get_literal_type = functools.cache(transformer.get_literal_type)
