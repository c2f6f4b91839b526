"""Whether an answer is mathematically the one that is wanted: `\\frac{1}{2}`, `0.5` and `1/2` are the same.

What the final answer is, is found here; math-verify, which would make a set of all boxes it meets, is only asked
whether two of them are equal, in a process that is ended when it takes too long (`verifier`).
"""

import atexit
import contextlib
import json
import os
import queue
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from k2model.documents.families.answers import boxes
from k2model.documents.schema import Item
from k2model.errors import EvaluationError

VERSION = "1"  # another one grades otherwise
SECONDS = 5.0  # for one comparison
LONGEST = 2_000  # characters of an answer that is compared

_MARKED = re.compile(r"^[ \t]*####[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_SAID = re.compile(r"\banswer(?:\s+is\b|\s*:)[\s:*]*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\.\s|\n")
_GROUPED = re.compile(r"[-+]?\d{1,3}([, ]\d{3})+(\.\d+)?")
_SCIENTIFIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d{1,3}")
_DELIMITERS = re.compile(r"^(?:\$\$?|\\\(|\\\[)|(?:\$\$?|\\\)|\\\])$")
_SPACES = re.compile(r"\\[,!;: ]|~|\\(?:left|right|displaystyle)(?![a-zA-Z])")
_CLOCK = re.compile(r"\d{1,2}:\d\d")
_WORDS = re.compile(r"[A-Za-z][A-Za-z ]{3,}")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"([-+]?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")


def extract(answer: str) -> str | None:
    """The final answer in a text: in its last box; behind its last `####`; behind the last "answer is" or "answer:" up
    to the end of the sentence; or the text itself where it is a single line of at most 100 characters. None where there
    is none of these."""
    if filled := [box for box in boxes(answer) if box.strip()]:
        return filled[-1].strip()
    if marked := _MARKED.findall(answer):
        return _trimmed(marked[-1])
    if said := _SENTENCE_END.split(_SAID.split(answer)[-1])[0] if _SAID.search(answer) else "":
        return _trimmed(said)
    text = answer.strip()
    return _trimmed(text) if text and "\n" not in text and len(text) <= 100 else None


def _trimmed(text: str) -> str:
    """Without the marks of Markdown and the full stop around an answer."""
    return text.strip().strip("*").rstrip(".").strip("* ")


def normal(text: str) -> str:
    """An answer in one of its forms: no delimiters and spacing of LaTeX, no groups of thousands, numbers like 1e3 in
    digits, which math-verify would read as Euler's number."""
    while (bare := _DELIMITERS.sub("", text.strip())) != text:
        text = bare
    text = _SPACES.sub("", text).replace("{,}", ",").replace("\\%", "%").replace("−", "-").strip().removeprefix("\\$")
    text = text.removeprefix("$").strip()
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "").replace(" ", "")
    return f"{Decimal(text):f}" if _SCIENTIFIC.fullmatch(text) else text


def rational(text: str) -> Fraction | None:
    """The value of a plain number or a fraction of two; None of anything else."""
    if found := _FRACTION.fullmatch(text):
        text = f"{found[1]}{found[2]}/{found[3]}"
    try:
        return Fraction(text) if len(text) <= 100 else None
    except (ValueError, ZeroDivisionError):
        return None


def same(gold: str, answer: str, seconds: float = SECONDS) -> bool | None:
    """Whether two answers are equal; False where that takes longer than `seconds`, None where `gold` cannot be read.

    Raises EvaluationError without math-verify.
    """
    gold, answer = normal(gold), normal(answer)
    if gold == answer or (rational(gold) is not None and rational(gold) == rational(answer)):
        return True
    if not answer or len(answer) > LONGEST or _CLOCK.fullmatch(gold):
        return False  # a time of day would be read as a ratio
    if _WORDS.fullmatch(gold):
        return gold.casefold() == _TEXT.sub(r"\1", answer).strip().casefold()  # not as a product of letters
    if len({one for part in answer.split("=") if (one := rational(part.strip())) is not None}) > 1:
        return False  # 3=5, of which the last would be taken
    with _verifiers.one() as verifier:
        said = verifier.ask(gold, answer.replace("$", ""), seconds)
    if said is None:
        return False
    return None if "broken" in said else bool(said["equal"])


def grade(item: Item, answer: str) -> bool | None:
    """Whether the final answer is one of those that are accepted; None where no accepted one can be read. Raises as
    `same` does."""
    given = extract(answer)
    if given is None:
        return False
    accepted = json.loads(item["meta"]).get("accepted") or [item["answer"]]
    verdicts = []
    for one in accepted:
        verdicts.append(same(extract(one) or one, given))
        if verdicts[-1]:
            return True
    return False if False in verdicts else None


def grade_all(pairs: Iterable[tuple[Item, str]], workers: int | None = None) -> list[bool | None]:
    """`grade` of each (item, answer), in their order, as many at once as there are processors."""
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda pair: grade(*pair), pairs))


def grader_version() -> dict[str, str]:
    """What a grade depends on beside the item and the answer. Raises EvaluationError without math-verify."""
    with _verifiers.one() as verifier:
        return {"mathematics": VERSION, **verifier.versions}


class _Verifier:
    """One process of `verifier`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-B", str(Path(__file__).with_name("verifier.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LD_LIBRARY_PATH")},
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
        self._asks.write(json.dumps({"gold": gold, "answer": answer, "seconds": seconds}).encode() + b"\n")
        self._asks.flush()
        said = self._answers.readline()
        if said.endswith(b"\n"):
            return dict(json.loads(said))
        self.end()
        return None

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
        try:
            verifier = self._idle.get_nowait()
        except queue.Empty:
            verifier = _Verifier()
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
