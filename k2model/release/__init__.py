"""Releases: a finished lifecycle as one folder that needs neither store nor pipeline any more.

`release_step` makes the artifact, `verify_release` checks any copy of it offline. Imports nothing heavy until
something is built.
"""

from k2model import lazy_exports
from k2model.release.manifest import MANIFEST, ReleaseDamaged, Verification, released, verify_release

__all__ = ["MANIFEST", "ReleaseDamaged", "Verification", "released", "verify_release"]

__getattr__ = lazy_exports(__name__, {"release_step": "bundle"})
