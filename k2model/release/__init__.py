"""Releases: a finished lifecycle as one folder that needs neither store nor pipeline any more.

`release_step` makes the artifact, `verify_release` checks any copy of it offline. Imports nothing
heavy until something is built.
"""

from typing import Any

from k2model.release.manifest import MANIFEST, ReleaseDamaged, Verification

__all__ = ["MANIFEST", "ReleaseDamaged", "Verification", "release_step", "verify_release"]

_LATER = {"release_step": "k2model.release.bundle", "verify_release": "k2model.release.verify"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATER[name]), name)
