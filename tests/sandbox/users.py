"""The same machine as an ordinary user sees it: for tests that root runs, of what holds without root as well."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ORDINARY = 65_499  # nobody's


def as_ordinary_user(argv: Sequence[str], timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    """Run this Python with `argv` as a user without rights; as the user that we are, where that is one."""
    drop = [f"--reuid={_ORDINARY}", f"--regid={_ORDINARY}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    return with_rights([*drop, "--no-new-privs"], argv, timeout)


def with_rights(drop: Sequence[str], argv: Sequence[str], timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    """Run this Python with `argv` and those of root's rights that `drop`, words of setpriv's, leaves.

    A Python or packages that lie where another user may not walk (below /root) are shown to it in mounts of its own.
    """
    words = [sys.executable, *argv]
    if os.geteuid() == 0:
        words = [*_shown(), "setpriv", *drop, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": "/tmp"}
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout, env=environment, cwd="/")


def _shown() -> list[str]:
    """What opens the way to this Python: its parents as empty folders of mode 0755, and nothing else in them."""
    from k2model.sandbox.command import bwrap

    words: list[str] = []
    for place in dict.fromkeys([Path(sys.base_prefix), Path(sys.prefix), ROOT]):
        closed = [one for one in reversed(place.parents) if not one.stat().st_mode & 0o001]
        if closed:
            inside = [one for one in reversed(place.parents) if closed[0] in one.parents]
            words += [] if str(closed[0]) in words else ["--perms", "0755", "--tmpfs", str(closed[0])]
            words += [word for one in inside for word in ("--perms", "0755", "--dir", str(one))]
            words += ["--ro-bind", str(place), str(place)]
    return [str(bwrap()), "--dev-bind", "/", "/", *words, "--"] if words else []
