"""The sandbox's front: a program is run in a jail of its own, on a machine that can make one."""

import subprocess
from collections.abc import Mapping, Sequence

from k2model.sandbox.command import TASK, Limits, python
from k2model.sandbox.jail import Jail, Result, launch
from k2model.sandbox.needs import require


def start(
    argv: Sequence[str],
    files: Mapping[str, bytes] | None = None,
    limits: Limits = Limits(),  # noqa: B008
    stdin: bytes | int = b"",
    stdout: int = subprocess.PIPE,
) -> Jail:
    """Start `argv` in a jail of its own; its `wait` gives what came of it, and is to be called at once.

    files: name to content, to be read below /task. stdin, stdout: an open file in their place is handed on as it is,
    and stays open here. The jail ends with the thread that started it, at the latest.

    Raises EvaluationError where this machine cannot make a jail, and says what is missing.
    """
    require()
    return launch(argv, files or {}, limits, stdin, stdout)


def run(
    argv: Sequence[str],
    files: Mapping[str, bytes] | None = None,
    limits: Limits = Limits(),  # noqa: B008
    stdin: bytes | int = b"",
) -> Result:
    """Run `argv` to its end, or to that of what it may take. Raises as `start` does."""
    return start(argv, files, limits, stdin).wait()


def run_python(code: str, limits: Limits = Limits(), stdin: bytes = b"") -> Result:  # noqa: B008
    """Run a program that uses Python's standard library alone; it starts in an empty /tmp. Raises as `start` does."""
    source = code.encode("utf-8", "surrogatepass")
    return run([*python(), f"{TASK}/main.py"], {"main.py": source}, limits, stdin)
