"""Makers that are stopped, woken and killed at every boundary of their work, by real processes, by a seeded schedule.

    python -m tests.artifacts.schedules --schedules 200 --jobs 4 --seed 0

Each schedule has two or three makers of one artifact, as a whole, in parts, or by training a tiny phase, in a local
store or on an S3 service. All but the last are stopped or killed before their n-th operation on the storage; who was
stopped is long enough away for another one to take over, and wakes before, while or after the last one works. Whatever
happens there is one winner, all digests are equal, a loser says why it lost, and nothing that is finished changes.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from k2model.artifacts import (
    Identity,
    JobStep,
    Part,
    PartedStep,
    PartRecord,
    Store,
    gather,
    lease,
    make,
    make_part,
    missing_parts,
    steps,
    totals,
)
from k2model.artifacts.files import LocalFiles, RemoteFiles, files_at
from k2model.artifacts.manifest import files_of, read_manifest
from k2model.errors import LeaseHeld, LeaseLost

SUBJECTS = ("build", "parts", "gather", "make", "train")
BRIEF = {"HEARTBEAT_SECONDS": 0.1, "STALE_SECONDS": 0.5, "_POLL_SECONDS": 0.05}  # of leases, in the makers
PATIENCE = 120.0  # seconds that a maker waits for another one
LIMIT = 900.0  # seconds of a schedule
LOCAL = ("rename", "link", "replace", "fsync", "mkdir", "unlink", "rmdir")
STORE = ("read", "read_range", "sizes", "exists", "write", "create", "put", "remove")
IDENTITY = Identity("corpus", "1", {"seed": 0})
PARTS = tuple(Part(f"train/{number:05d}") for number in range(3))


@dataclass(frozen=True)
class Schedule:
    """`acts`: of each maker but the last, what happens to it (`stop`, `kill`) and before which of its operations, as a
    fraction of all that an undisturbed one does; `stop@rename`: before the first one of that name. together: the first
    two begin at once. wake: when the stopped ones are woken."""

    seed: str
    subject: str
    remote: bool
    acts: tuple[tuple[str, float], ...]
    together: bool
    wake: str

    @classmethod
    def of(cls, seed: int, number: int, subjects: Sequence[str], remote: bool) -> "Schedule":
        """The `number`-th of a seed."""
        name = f"{seed}/{number}"
        rng = random.Random(name)
        subject = subjects[number // 2 % len(subjects)]
        acts = tuple((rng.choice(("stop", "stop", "kill")), rng.random()) for _ in range(rng.choice((1, 1, 2))))
        wake = rng.choice(("before", "while", "after"))
        return cls(name, subject, remote and number % 2 == 1, acts, rng.random() < 0.4, wake)


def produce(folder: Path) -> dict[str, float]:
    """Files that bear the digest and one that tells who made them."""
    (folder / "train").mkdir()
    for name in ("prose", "code"):
        (folder / "train" / f"{name}.txt").write_text(name * 100)
    (folder / "attachments").mkdir()
    (folder / "attachments" / "maker.txt").write_text(str(os.getpid()))
    (folder / "attachments" / f"{os.getpid()}.txt").write_text("only this one has it")
    return {"documents": 2}


def produce_part(part: Part, folder: Path) -> dict[str, Any]:
    (folder / f"{part.name}.txt").parent.mkdir(parents=True)
    (folder / f"{part.name}.txt").write_text(part.name * 50)
    (folder / "attachments").mkdir()
    (folder / "attachments" / f"{part.name.replace('/', '-')}.log").write_text(str(os.getpid()))
    return {"documents": 1}


def finish(records: Sequence[PartRecord], folder: Path) -> dict[str, float]:
    (folder / "funnel.json").write_text(json.dumps([record.name for record in records]))
    (folder / "attachments").mkdir()
    (folder / "attachments" / "gathered.txt").write_text(str(os.getpid()))
    return totals(records)


PARTED = PartedStep(lambda: IDENTITY, lambda: PARTS, produce_part, finish)


def checkpoint_step(store: Store) -> JobStep:
    from k2model.training import train
    from tests.training.job import MODEL, phase, sequences

    config = phase(steps=4, checkpoints={"save_every": 2}, workers_per_node=1)
    return train.checkpoint_step(store, MODEL, config, sequences(store, config))


def work(subject: str, uri: str) -> str:
    """What a maker does; the digest of what it finds or makes."""
    store = Store.open(uri)
    if subject == "build":
        return store.build(IDENTITY, produce, wait_seconds=PATIENCE).digest
    if subject == "make":
        return make(store, PARTED).digest
    if subject == "train":
        return make(store, checkpoint_step(store)).digest
    if subject == "parts":
        for part in missing_parts(store, PARTED):
            make_part(store, PARTED, part)
    return gather(store, PARTED).digest


def prepare(subject: str, uri: str) -> None:
    """What is there before any maker begins."""
    store = Store.open(uri)
    if subject == "gather":
        for part in PARTS:
            make_part(store, PARTED, part)
    if subject == "train":
        checkpoint_step(store)  # and its rows


def identity_of(subject: str, store: Store) -> Identity:
    return checkpoint_step(store).identity if subject == "train" else IDENTITY


class Boundaries:
    """Counts this process's operations on the storage, those of a lease's heart left out, and acts before one."""

    def __init__(self, act: Callable[[], None], at: int, only: str = "") -> None:
        self._act, self._at, self._only, self.count = act, at, only, 0

    def install(self) -> None:
        owners: list[tuple[Any, Sequence[str]]] = [(os, LOCAL), (LocalFiles, STORE), (RemoteFiles, STORE)]
        for owner, names in owners:
            for name in names:
                if self._only in ("", name):
                    setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            if not threading.current_thread().name.startswith("lease"):
                self.count += 1
                if self.count == self._at:
                    self._act()
            return operation(*arguments, **keywords)

        return counted


def maker(
    subject: str,
    uri: str,
    told: Path,
    act: str,
    at: int,
    environment: dict[str, str],
    change: Callable[[], None] | None,
) -> None:
    """A process of its own: makes, and leaves what came of it in the file `told`. `change` is called before."""
    os.environ.clear()
    os.environ.update(environment)
    if change is not None:
        change()
    for name, seconds in BRIEF.items():
        setattr(lease, name, seconds)
    steps.PATIENCE_SECONDS = PATIENCE
    if subject == "train":
        from k2model.training import train

        train.STALE_SECONDS = PATIENCE / 1.5
    what, _, only = act.partition("@")
    send = signal.SIGKILL if what == "kill" else signal.SIGSTOP
    boundaries = Boundaries(lambda: os.kill(os.getpid(), send), at, only)
    boundaries.install()
    try:
        said = {"digest": work(subject, uri)}
    except BaseException as error:
        said = {"error": type(error).__name__, "text": str(error), "trace": traceback.format_exc()}
    told.write_text(json.dumps({**said, "operations": boundaries.count}))
    os._exit(0)


def state(pid: int) -> str:
    """As /proc has it (`T`: stopped), "" of one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


class Maker:
    """A maker's process, as whoever plays the schedule sees it. It is forked from one without threads: a storage's
    client keeps one, which a fork of this process would wait for."""

    def __init__(
        self, subject: str, uri: str, told: Path, act: str = "", at: int = 0, change: Callable[[], None] | None = None
    ) -> None:
        self.told = told
        arguments = (subject, uri, told, act, at, dict(os.environ), change)
        self.process = get_context("forkserver").Process(target=maker, args=arguments)
        self.process.start()
        self.ended = self.stopped = False

    def look(self) -> None:
        """Notes whether it has ended or stopped since."""
        if not self.ended:
            self.ended = not self.process.is_alive()
            self.stopped = not self.ended and state(self.pid) == "T"

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def wait(self, until: float) -> None:
        """For it to stop or end."""
        while not self.ended and not self.stopped:
            if time.monotonic() > until:
                raise TimeoutError("a maker neither ends nor stops")
            self.look()
            time.sleep(0.005)

    def wake(self) -> None:
        if self.stopped and not self.ended:
            self.stopped = False
            os.kill(self.pid, signal.SIGCONT)
            while state(self.pid) == "T":  # or it would count as stopped again
                time.sleep(0.001)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.ended = True

    @property
    def outcome(self) -> dict[str, Any]:
        return json.loads(self.told.read_text()) if self.told.exists() else {"killed": True}


def snapshot(store: Store, identity: Identity) -> dict[str, str] | None:
    """Everything of a finished artifact by path, with its hash; None where there is none."""
    ref = store.find(identity)
    if ref is None:
        return None
    manifest, root = read_manifest(ref.uri), files_at(store.uri)
    files = files_of(ref.uri, manifest)
    found = {entry.path: sha256(files.read(entry.path)).hexdigest() for entry in manifest.files}
    for path in (f"{ref.name}/manifest.json", f"{ref.name}/artifact.json", f"_ledger/{ref.kind}/{ref.identity}.json"):
        found[path] = sha256(root.read(path)).hexdigest()
    return found


def play(
    schedule: Schedule, uri: str, folder: Path, operations: int, digest: str, change: Callable[[], None] | None = None
) -> str:
    """What is wrong, "" for nothing. operations, digest: of an undisturbed maker; change: of what makers do."""
    folder.mkdir(parents=True)
    prepare(schedule.subject, uri)
    store = Store.open(uri)
    identity = identity_of(schedule.subject, store)
    rng, until = random.Random(f"{schedule.seed}/play"), time.monotonic() + LIMIT
    makers: list[Maker] = []

    def start(act: str = "", share: float = 0.0) -> Maker:
        at = 1 + int(share * operations) if act else 0
        makers.append(Maker(schedule.subject, uri, folder / f"{len(makers)}.json", act, at, change))
        return makers[-1]

    try:
        first = start(*schedule.acts[0])
        for act in schedule.acts[1:]:
            if not schedule.together:
                first.wait(until)
            start(*act).wait(until)
        first.wait(until)
        stopped = [one for one in makers if one.stopped]
        rng.shuffle(stopped)
        if schedule.wake == "before" and stopped:
            time.sleep(rng.random() * BRIEF["STALE_SECONDS"])
            stopped.pop().wake()
        last = start()
        if schedule.wake == "while":
            for one in stopped:
                time.sleep(rng.random() * 2 * BRIEF["STALE_SECONDS"])
                one.wake()
        last.wait(until)
        before = snapshot(store, identity)
        for one in stopped:
            one.wake()
        for one in makers:
            one.wait(until)
        return judge(store, identity, makers, before, digest)
    except TimeoutError as error:
        return str(error)
    finally:
        for one in makers:
            one.kill()


def judge(store: Store, identity: Identity, makers: Sequence[Maker], before: dict[str, str] | None, digest: str) -> str:
    """What is wrong with what the makers left."""
    outcomes = [one.outcome for one in makers]
    for outcome in outcomes:
        if outcome.get("digest", digest) != digest:
            return f"another digest: {outcomes}"
        if "error" in outcome and outcome["error"] not in (LeaseHeld.__name__, LeaseLost.__name__):
            return f"a loser that does not say so: {outcome['trace']}"
    after = snapshot(store, identity)
    if "digest" not in outcomes[-1] and after is None:
        return f"nobody won: {outcomes}"
    if before is None or after != before:
        changed = [
            path for path in {*(before or {}), *(after or {})} if (before or {}).get(path) != (after or {}).get(path)
        ]
        return f"what was finished has changed: {changed}"
    ref = store.find(identity)
    assert ref is not None
    if ref.digest != digest:
        return f"it has the digest {ref.digest}, expected {digest}"
    store.fetch(ref)
    from k2model.inspect.check import check

    if faults := [fault for fault in check(store, workers=1, fresh=True).faults if fault.kind != "changed"]:
        return f"the check finds {faults}"
    store.build(Identity("other", "1", {}), produce)  # whoever comes next takes away what the dead left
    left = [path for path in files_at(store.uri).sizes() if path.startswith(("_scratch/", "_parts/"))]
    return f"left: {left}" if left else ""


def undisturbed(subject: str, uri: str, folder: Path) -> tuple[int, str]:
    """How many operations a maker does whom nobody disturbs, and the digest of what it makes."""
    folder.mkdir(parents=True, exist_ok=True)
    prepare(subject, uri)
    one = Maker(subject, uri, folder / "calm.json")
    one.wait(time.monotonic() + LIMIT)
    outcome = one.outcome
    if "digest" not in outcome:
        raise RuntimeError(f"an undisturbed maker fails: {outcome}")
    return outcome["operations"], outcome["digest"]


def run(
    seed: int, numbers: Sequence[int], subjects: Sequence[str], s3: str, folder: Path
) -> dict[int, tuple[Schedule, str]]:
    """What is wrong, by the number of each schedule. s3: a prefix for stores on a service, "" for local ones alone."""
    os.environ["K2_HOME"] = str(folder / "home")
    needed = ["k2model.training.attempt", "tests.training.job"] if "train" in subjects else []
    get_context("forkserver").set_forkserver_preload([__name__, "s3fs", *needed])  # so that makers need not
    calm: dict[tuple[str, bool], tuple[int, str]] = {}
    found = {}
    for number in numbers:
        schedule = Schedule.of(seed, number, subjects, bool(s3))
        own = folder / f"{number}"
        place = f"{s3}/{folder.name}-{number}" if schedule.remote else str(own)
        key = schedule.subject, schedule.remote
        if key not in calm:
            calm[key] = undisturbed(schedule.subject, f"{place}/calm", own)
        found[number] = schedule, play(schedule, f"{place}/store", own / "told", *calm[key])
        print(f"{number}: {schedule.subject}: {found[number][1] or 'well'}", file=sys.stderr, flush=True)
        if not found[number][1]:
            shutil.rmtree(own, ignore_errors=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays schedules and tells what came of them; ends with 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2, help="schedules that are played at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first one, to play one again")
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    parser.add_argument("--local", action="store_true", help="no S3 service")
    asked = parser.parse_args(arguments)
    import tests.conftest  # noqa: F401  one thread a process
    from tests.servers import run_s3

    folder = Path(tempfile.mkdtemp(prefix="k2-schedules-"))
    numbers = range(asked.first, asked.first + asked.schedules)
    subjects = asked.subjects.split(",")
    began, wrong, told = time.monotonic(), 0, {}
    with run_s3(folder) as server:
        os.environ.update(server.environment)
        s3 = "" if asked.local else f"s3://{server.bucket}/schedules"
        with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
            shares = [numbers[start :: 4 * asked.jobs] for start in range(4 * asked.jobs)]
            jobs = [
                pool.submit(run, asked.seed, list(share), subjects, s3, folder / str(place))
                for place, share in enumerate(shares) if share
            ]  # fmt: skip
            for job in jobs:
                for number, (schedule, problem) in job.result().items():
                    key = f"{schedule.subject} on {'s3' if schedule.remote else 'a folder'}"
                    told[key] = told.get(key, 0) + 1
                    if problem:
                        wrong += 1
                        print(f"{number}: {schedule}\n  {problem}", flush=True)
    for key, count in sorted(told.items()):
        print(f"{count:5} {key}")
    print(f"{len(numbers)} schedules in {time.monotonic() - began:.0f} s, seed {asked.seed}: {wrong} wrong")
    if not wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
