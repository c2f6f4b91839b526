"""Makers that are killed, stopped, woken, told to end, out of memory or descriptors, or begun twice."""

import os
import resource
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.artifacts.test_crashes import LOCAL_STEPS, die_at
from tests.chaos.bench import Bench, Command, Expected, Fault, Seen
from tests.chaos.subject import PARTS

GIB = 2**30
NOTES = ("corpus-prose", "corpus-d", "tokens-a", "tokens-c", "tokens-gathered", "joined", "scores")
PAUSE = "0.05"


def place(bench: Bench, where: str) -> str:
    """An empty store of one's own."""
    if where == "local":
        return bench.empty()
    bench.environment.update(bench.services.s3.environment)
    return f"s3://{bench.services.s3.bucket}/{bench.folder.name}"


def killed(where: str, note: str, workers: int, bench: Bench) -> Seen:
    """SIGKILL to a maker and its workers when it is about to write a file."""
    store = place(bench, where)
    maker = bench.start("subject", "line", "--store", store, "--pause", PAUSE, "--workers", str(workers))
    maker.wait_for(note)
    maker.kill()
    return Seen([], bench.line(store), bench.calm)


def die_at_operation(count: int) -> None:
    die_at(os, LOCAL_STEPS, count)


def killed_at_operations(bench: Bench) -> Seen:
    """SIGKILL at a random operation of the file system, four times over."""
    store = bench.empty()
    for _ in range(4):
        bench.line(store, prepare=partial(die_at_operation, bench.draw.randrange(1, 90)))
    return Seen([], bench.line(store), bench.calm)


def killed_alone(bench: Bench) -> Seen:
    """SIGKILL to a maker whose workers are left behind: they must end, and harm nobody who comes next."""
    store = bench.empty()
    maker = bench.start("subject", "line", "--store", store, "--pause", "0.3", "--workers", "2")
    maker.wait_for("tokens-b")
    os.kill(maker.pid, signal.SIGKILL)
    maker.over(None)
    after = bench.line(store)
    deadline = time.monotonic() + bench.seconds
    while _session(maker) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left := _session(maker):
        maker.kill()
        raise AssertionError(f"workers {left} outlived their maker")
    return Seen([], after, bench.calm)


def _session(command: Command) -> list[int]:
    """Its processes, whoever is their parent by now."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == command.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def told_to_end(number: signal.Signals, bench: Bench) -> Seen:
    """A signal that a person or an operator sends; by it or an error, the maker ends."""
    store = bench.empty()
    maker = bench.start("subject", "line", "--store", store, "--pause", PAUSE)
    maker.wait_for(bench.draw.choice(NOTES[:-1]))
    maker.send(number)
    ended = maker.wait()
    assert ended.status in (-number, 130), f"it went on: {ended}"
    assert "Traceback" not in ended.said, ended.said
    return Seen([], bench.line(store), bench.calm)


def stopped(where: str, seconds: float, bench: Bench) -> Seen:
    """SIGSTOP in the midst of an upload or a write, another maker, SIGCONT: one wins, nothing finished changes."""
    store = place(bench, where)
    first = bench.start("subject", "line", "--store", store, "--pause", "0.2")
    first.wait_for(bench.draw.choice(("corpus-a", "tokens-b")))
    first.send(signal.SIGSTOP)
    second = bench.start("subject", "line", "--store", store)
    time.sleep(seconds)
    first.send(signal.SIGCONT)
    return Seen([first.wait(), second.wait()], bench.line(store), bench.calm)


def begun_twice(where: str, count: int, bench: Bench) -> Seen:
    """The same command, several times at once."""
    store = place(bench, where)
    makers = [bench.start("subject", "line", "--store", store, "--pause", "0.02") for _ in range(count)]
    return Seen([maker.wait() for maker in makers], bench.line(store), bench.calm)


def begun_twice_and_killed(bench: Bench) -> Seen:
    """The one at work is killed while the other waits for it."""
    store = bench.empty()
    first = bench.start("subject", "line", "--store", store, "--pause", "0.2")
    first.wait_for("corpus-b")
    second = bench.start("subject", "line", "--store", store)
    time.sleep(1.0)
    first.kill()
    return Seen([second.wait()], bench.line(store), bench.calm)


def limit_memory(more: int) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, used + more))


def limit(what: int, most: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then the write itself fails, as on a full disk
    resource.setrlimit(what, (most, most))


def out_of(prepare: Callable[[], None], words: tuple[str, ...], bench: Bench) -> Seen:
    """A maker that may have less than it needs."""
    store = bench.empty()
    met = bench.line(store, "--memory", str(2 * GIB), prepare=prepare)
    return Seen([met], bench.line(store), bench.calm, words)


FAULTS = [
    *(Fault(f"kill/local, at {note}", Expected.EQUAL, partial(killed, "local", note, 1)) for note in NOTES),
    *(
        Fault(f"kill/S3, at {note}", Expected.EQUAL, partial(killed, "s3", note, 1), note in ("corpus-d", "joined"))
        for note in NOTES
    ),
    *(
        Fault(f"kill/{where}, with workers, at {note}", Expected.EQUAL, partial(killed, where, note, 2), fast=False)
        for where in ("local", "s3") for note in (f"tokens-{PARTS[1]}", f"tokens-{PARTS[3]}")
    ),
    Fault("kill/at operations of the file system", Expected.EQUAL, killed_at_operations),
    Fault("kill/the maker alone, not its workers", Expected.EQUAL, killed_alone),
    *(
        Fault(f"signal/{number.name}", Expected.EQUAL, partial(told_to_end, number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ),
    Fault("stop/local, 2 s", Expected.EITHER, partial(stopped, "local", 2.0)),
    Fault("stop/S3, 2 s", Expected.EITHER, partial(stopped, "s3", 2.0)),
    Fault("stop/local, until the lease is stale", Expected.EITHER, partial(stopped, "local", 75.0), fast=False),
    Fault("stop/S3, until the lease is stale", Expected.EITHER, partial(stopped, "s3", 75.0), fast=False),
    Fault("twice/local, four at once", Expected.EQUAL, partial(begun_twice, "local", 4)),
    Fault("twice/S3, three at once", Expected.EQUAL, partial(begun_twice, "s3", 3)),
    Fault("twice/the first is killed", Expected.EQUAL, begun_twice_and_killed),
    Fault("limit/memory", Expected.ERROR, partial(out_of, partial(limit_memory, GIB), ("memory", "ulimit"))),
    Fault(
        "limit/size of a file", Expected.ERROR,
        partial(out_of, partial(limit, resource.RLIMIT_FSIZE, 100_000), ("File too large", "ulimit")),
    ),
    Fault(
        "limit/open files", Expected.ERROR,
        partial(out_of, partial(limit, resource.RLIMIT_NOFILE, 6), ("Too many open files", "ulimit")),
    ),
]  # fmt: skip
