"""A checkpoint's weights in Hugging Face's form, and back. Loads torch when a name is first used."""

from importlib import import_module
from typing import Any

_LAZY = {
    "ExportError": "k2model.export.hugging_face",
    "export_step": "k2model.export.step",
    "load_exported": "k2model.export.step",
}

__all__ = list(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
