"""math-verify in a process of its own, asked whether two answers are equal, and ended when it is too slow.

In a thread math-verify raises, and it has no time limit that a power tower heeds. So it is asked in processes
(`verifier`) that are kept from one comparison to the next, and replaced when one had to be ended.
"""

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from k2model.errors import EvaluationError

SECONDS = 3.0  # of a processor's time, for one comparison


def equal_mathematics(wanted: str, answer: str, seconds: float = SECONDS) -> bool | None:
    """Whether two are equal, read as LaTeX; False where that takes longer than `seconds` or too much memory, None where
    `wanted` cannot be read. Raises EvaluationError without math-verify."""
    with _verifiers.one() as verifier:
        said = verifier.ask(wanted, answer, seconds)
    if said is None:
        return False
    return None if "broken" in said else bool(said["equal"])


def library_versions() -> dict[str, str]:
    """The versions of the libraries that say so. Raises EvaluationError without math-verify."""
    with _verifiers.one() as verifier:
        return verifier.versions


class _Verifier:
    """One process of `verifier`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-B", str(Path(__file__).with_name("verifier.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
            | {"PYTHONHASHSEED": "0"},  # sympy orders sets by hashes
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._asks, self._answers, self._errors = self._process.stdin, self._process.stdout, self._process.stderr
        if not (line := self._answers.readline()):
            said = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
            self.end()
            raise EvaluationError(
                f"mathematics cannot be verified ({' '.join(said)}): pip install math-verify==0.9.0 "
                "latex2sympy2_extended==1.11.0"
            )
        self.versions: dict[str, str] = json.loads(line)["versions"]
        self.ended = False

    def ask(self, gold: str, answer: str, seconds: float) -> dict[str, object] | None:
        """What it says; None where it has ended over it, by the clock or for want of memory."""
        said = b""
        with contextlib.suppress(BrokenPipeError):
            self._asks.write(json.dumps({"gold": gold, "answer": answer, "seconds": seconds}).encode() + b"\n")
            self._asks.flush()
            said = self._answers.readline()
        if said.endswith(b"\n"):
            return dict(json.loads(said))
        self.end()
        return None

    def runs(self) -> bool:
        """Whether it is there to be asked: one that nothing is asked of may be killed for want of memory."""
        return not self.ended and self._process.poll() is None

    def end(self) -> None:
        self.ended = True
        self._process.kill()
        self._process.wait()
        for stream in (self._asks, self._answers, self._errors):
            with contextlib.suppress(OSError):
                stream.close()


class _Verifiers:
    """As many as are asked at once, started when they are wanted and kept until they end over a question."""

    def __init__(self) -> None:
        self._idle: queue.LifoQueue[_Verifier] = queue.LifoQueue()
        atexit.register(self.end)

    @contextlib.contextmanager
    def one(self) -> Iterator[_Verifier]:
        verifier = None
        while verifier is None:
            try:
                idle = self._idle.get_nowait()
            except queue.Empty:
                verifier = _Verifier()
                break
            if idle.runs():
                verifier = idle
            else:
                idle.end()
        try:
            yield verifier
        except BaseException:
            verifier.end()
            raise
        if not verifier.ended:
            self._idle.put(verifier)

    def end(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().end()


_verifiers = _Verifiers()
