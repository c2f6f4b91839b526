"""A fault, what came of it, and the judge: equal digests, or an error that a person can act on. A traceback, a hang, a
silent success with other digests, an error without a remedy: each is a failure of the suite's subject.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

import tests.conftest  # noqa: F401  which fixes the environment: one thread a process, loopback only

CONTEXT = get_context("forkserver")  # commands are processes of their own, forked from one that has loaded them
_CHILDREN = threading.Lock()  # of two threads that ask at once how a process ended, one would get no answer
ROOT = Path(__file__).parents[2]

#: What tells a person what to do; every error must have one of these.
REMEDY = re.compile(
    r"\b(run|set|wait|free|delete|remove|move|moves|choose|give|check|restore|raise|take|bring|write|make|made anew|"
    r"install|download|get|build|unset|make sure|expected|did you mean|use|see|look at)\b",
    re.IGNORECASE,
)
_PROGRESS = re.compile(r"^(\d\d:\d\d:\d\d  .*|waiting up to .*|\w+: step \d+/.*)\n?", re.MULTILINE)


class Expected(Enum):
    """How a fault must end."""

    EQUAL = "equal digests"
    ERROR = "an error, then equal digests"
    EITHER = "equal digests or an error, then equal digests"


class Unexpected(Exception):
    """A fault that ended otherwise."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended: `status` as a shell has it (None: it did not end), what it wrote."""

    status: int | None
    out: str
    err: str

    @property
    def made(self) -> dict[str, Any]:
        """References by step, as the subject prints them."""
        found: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return found

    @property
    def digests(self) -> dict[str, str]:
        return {name: ref["digest"] for name, ref in self.made.items()}

    @property
    def said(self) -> str:
        """All but its progress."""
        return _PROGRESS.sub("", self.out + self.err).strip()


@dataclass(frozen=True)
class Seen:
    """What came of a fault. `ended`: commands that met it, but for those that were killed; `final`: the same command
    once it was over, None where there is nothing to make; `calm`: digests of a run without it."""

    ended: Sequence[Ended]
    final: Ended | None
    calm: dict[str, str]
    words: Sequence[str] = ()  # regular expressions that an error must match; the table quotes the line of the first
    outcome: str = ""  # for the table, where nothing was made and nothing told


@dataclass(frozen=True)
class Fault:
    """`run` breaks something of a bench and tells what came of it."""

    name: str
    expected: Expected
    run: Callable[["Bench"], Seen]
    fast: bool = True
    seconds: float = 600.0  # in which each of its commands ends, also on a machine that has much else to do
    alone: bool = False  # no other beside it

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]


def judge(fault: Fault, seen: Seen) -> str:
    """What is said of it in the table. Raises Unexpected."""
    told = [one for one in seen.ended if not _is_equal(one, seen.calm)]
    for one in told:
        actionable(one, seen.words)
    if told and fault.expected is Expected.EQUAL:
        raise Unexpected(f"it ended in an error: {_line(told[0].said, seen.words)}")
    if not told and fault.expected is Expected.ERROR:
        raise Unexpected("it ended as if nothing were wrong")
    if seen.final is not None and not _is_equal(seen.final, seen.calm):
        actionable(seen.final, ())
        raise Unexpected(f"the run after it ended in an error: {_first_line(seen.final.said)}")
    after = "" if seen.final is None or not told else "; then equal digests"
    return f"{_line(told[0].said, seen.words)}{after}" if told else seen.outcome or "equal digests"


def _is_equal(ended: Ended, calm: dict[str, str]) -> bool:
    """Raises Unexpected for a success with other digests."""
    if ended.status != 0:
        return False
    if not ended.out.rstrip().endswith("}}"):  # no references: a view, which has found nothing
        raise Unexpected(f"it ended as if nothing were wrong: {_first_line(ended.said)}")
    if ended.digests != calm:
        raise Unexpected(f"it ended as if nothing were wrong, with other digests: {ended.digests}, expected {calm}")
    return True


def actionable(ended: Ended, words: Sequence[str]) -> None:
    """Raises Unexpected unless a command ended with a message that names what is wrong and what to do."""
    if ended.status is None:
        raise Unexpected(f"it hung; it had said: {_first_line(ended.said)}")
    said = ended.said
    if "Traceback (most recent call last)" in said:
        raise Unexpected(f"a traceback: {said.splitlines()[-1]}")
    if ended.status not in (1, 130) or not said:
        raise Unexpected(f"exit status {ended.status}, expected 1: {_first_line(said) or 'without a word'}")
    if any(ord(one) < 32 and one not in "\n\t" for one in said):
        raise Unexpected(f"control characters in {said!r}")
    for word in words:
        if not re.search(word, said):
            raise Unexpected(f"nothing of {word!r} in: {said[:400]}")
    if not REMEDY.search(said):
        raise Unexpected(f"no remedy in: {said[:400]}")


def _line(text: str, words: Sequence[str]) -> str:
    """The first that matches the first of `words`, or the first."""
    found = [line.strip() for line in text.splitlines() if words and re.search(words[0], line)]
    return found[0] if found else _first_line(text)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


@dataclass
class Command:
    """A command at work in a process and session of its own."""

    process: BaseProcess
    folder: Path
    seconds: float

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        """To it and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.over(None)

    def over(self, seconds: float | None) -> bool:
        """Whether it ends within some seconds."""
        if not connection.wait([self.process.sentinel], seconds):
            return False
        with _CHILDREN:
            self.process.join()
        return True

    def wait(self) -> Ended:
        """How it ended; it is killed if it does not."""
        if not self.over(self.seconds):
            self.kill()
            status = None
        else:
            status = self.process.exitcode
        return Ended(status, *((self.folder / name).read_text(errors="replace") for name in ("out", "err")))

    def wait_for(self, note: str) -> None:
        """Until it is about to do this. Raises Unexpected where it ends or hangs before."""
        deadline = time.monotonic() + self.seconds
        while not (self.folder / "notes" / note).exists():
            if self.over(0) or time.monotonic() > deadline:
                raise Unexpected(f"it never came to {note}: {self.wait().said[-400:]}")
            time.sleep(0.005)

    def go_on(self) -> None:
        """Of a training that waits before a step."""
        (self.folder / "notes" / "go").touch()


@dataclass
class Bench:
    """Where one fault is tried: a folder, a draw of its own, and services that all share."""

    folder: Path
    draw: Random
    services: Any
    template: Path  # a store with the undisturbed line
    calm: dict[str, str]
    seconds: float = 600.0
    environment: dict[str, str] = field(default_factory=dict)
    _count: int = 0

    def store(self) -> Path:
        """A copy of the store that holds the undisturbed line."""
        return Path(shutil.copytree(self.template, self.folder / "store", dirs_exist_ok=True))

    def empty(self) -> str:
        return str(self.folder / "store")

    def start(self, *arguments: str, prepare: Callable[[], None] | None = None, **environment: str) -> Command:
        """Begins `k2 ...` or `subject ...`; `prepare` runs in its process before it, and can be pickled."""
        self._count += 1
        place = self.folder / f"command-{self._count}"
        (place / "notes").mkdir(parents=True)
        if arguments[:2] in (("subject", "line"), ("subject", "train")):
            arguments = (*arguments, "--notes", str(place / "notes"))
        (self.folder / "tmp").mkdir(exist_ok=True)
        own = {"K2_HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp"), **self.environment}
        given = (arguments, {**base_environment(), **own, **environment}, str(place), prepare)
        process = CONTEXT.Process(target=_work, args=given)
        with _CHILDREN:
            process.start()
        return Command(process, place, self.seconds)

    def run(self, *arguments: str, prepare: Callable[[], None] | None = None, **environment: str) -> Ended:
        return self.start(*arguments, prepare=prepare, **environment).wait()

    def line(self, store: str | Path, *options: str, prepare: Callable[[], None] | None = None, **env: str) -> Ended:
        return self.run("subject", "line", "--store", str(store), *options, prepare=prepare, **env)


def base_environment() -> dict[str, str]:
    """This process's, without what leads a command elsewhere."""
    foreign = ("K2_", "AWS_", "MLFLOW_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(ROOT)}


def _work(
    arguments: tuple[str, ...], environment: dict[str, str], place: str, prepare: Callable[[], None] | None
) -> None:
    """In the command's own process."""
    os.setsid()
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{place}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    os.chdir(place)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what was started in the background
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as of nohup
    if prepare is not None:
        prepare()
    from k2model.cli.main import main
    from tests.chaos.subject import subject

    command = {"k2": main, "subject": subject}[arguments[0]]
    command.main(list(arguments[1:]), prog_name=arguments[0])


class Services:
    """What faults share: servers, and what takes long to make; each made when it is first asked for, in a folder of its
    own, and ended with the suite."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ends = folder, contextlib.ExitStack()
        self._made: dict[str, Any] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def once(self, name: str, make: Callable[[Path], Any]) -> Any:
        """What `make` gives, which is told an empty folder; called by the first who asks. Others wait for it."""
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._made:
                place = self.folder / f"shared-{name}"
                place.mkdir(exist_ok=True)
                self._made[name] = make(place)
            return self._made[name]

    @property
    def s3(self) -> Any:
        """SeaweedFS."""
        from tests.servers import run_s3

        return self.once("s3", lambda place: self.ends.enter_context(run_s3(place)))


@contextlib.contextmanager
def opened_services(folder: Path) -> Iterator[Services]:
    services = Services(folder)
    with services.ends:
        yield services


def preload(modules: Sequence[str]) -> None:
    """What every command's process has loaded when it begins."""
    CONTEXT.set_forkserver_preload([*modules, "tests.chaos.bench", "tests.chaos.subject"])
    sys.stdout.flush()
