"""The K2 lifecycle library: everything the pipeline does, free of any orchestrator.

Its rooms follow the life of a model, from recipe and artifacts to the lifecycle as a whole. Imports point one way,
from later rooms to earlier ones (`docs/architecture.md`).
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(package: str, exports: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose names cost seconds to import: a name's module is loaded when it is used.

    package: the package's `__name__`. exports: for each name its module, relative to the package.
    """

    def resolve(name: str) -> Any:
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{exports[name]}"), name)

    return resolve
