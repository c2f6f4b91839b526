"""Brings the points of a training to MLflow while it runs: a process beside rank 0, which reads the log of its steps.

The training writes a row a step to a file anyway, and that file is all there is between the two: an outage of MLflow
lets it grow, and costs the training nothing. What MLflow has, it is asked itself (`k2model.registry.live`), so that
neither a restart of it nor one of the training loses a step or logs one twice. Rows keep the times at which they were
written, so a request that was answered too late may even be sent again.

It is a process of its own since loading MLflow and talking to it would hold up a thread of the training's process. It
ends with the training, in whatever way that ends: its standard input is a pipe from rank 0, which is told what to read.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from k2model import settings
from k2model.plain import NotPlain
from k2model.registry.database import try_lock
from k2model.registry.gates import RegistryError
from k2model.registry.live import LiveRun, begin_run, last_step, log_steps
from k2model.registry.tracking import tracking
from k2model.training.background import say
from k2model.training.log import StepMetrics, TrainingRun, parse_row, with_timestamps
from k2model.training.observer import Observer

PERIOD = 5.0  # seconds between two looks at the log
ROWS = 1000  # of the log at a time
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between attempts while MLflow does not answer, doubled each time
LAST_SECONDS = 3.0  # for what is left when the training has ended; what is late is logged when it is registered
KILL_SECONDS = 2.0


class Shipper(Observer):
    """Rank 0's end of the pipe."""

    def __init__(self, live: LiveRun) -> None:
        self.live = live
        self._process: subprocess.Popen[bytes] | None = None
        self._finished = False

    def began(self, run: TrainingRun, start: int, log: Path | None) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
            )
            self._send({"live": self.live.record()})
        self._send({"log": str(log), "started": run.started})

    def finished(self) -> None:
        self._finished = True

    def close(self) -> None:
        """Wait a little for what is left, and never longer."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # type: ignore[union-attr]
            pipe.write(json.dumps({"finished": self._finished}).encode() + b"\n")
        for seconds, stop in ((LAST_SECONDS, process.terminate), (KILL_SECONDS, process.kill)):
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                stop()
        process.wait()

    def _send(self, message: dict) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()


class Orders:
    """What rank 0 said last: the log to read, and that it is over. Its end of the pipe closes with it."""

    def __init__(self) -> None:
        self.live = LiveRun(**json.loads(sys.stdin.readline())["live"])
        self.log: LogReader | None = None
        self.over = False  # nothing is written any more
        self.finished = False  # the last step was taken
        self._news = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def wait(self, seconds: float) -> None:
        """Until something is said, or time is over."""
        self._news.wait(seconds)
        self._news.clear()

    def _listen(self) -> None:
        for line in sys.stdin:
            said = json.loads(line)
            if "log" in said:
                self.log = LogReader(Path(said["log"]), said["started"])
            else:
                self.finished = said["finished"]
            self._news.set()
        self.over = True
        self._news.set()


class LogReader:
    """Reads on where what was read last has arrived."""

    def __init__(self, path: Path, started: float) -> None:
        self.path, self.started = path, started
        self._arrived, self._read = (0, 0.0), (0, 0.0)  # place in the file, seconds of the steps before it

    def rows(self) -> list[StepMetrics]:
        """The next ones behind those that have arrived; a line that is being written is left for later."""
        place, elapsed = self._arrived
        found: list[StepMetrics] = []
        with self.path.open("rb") as file:
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n") or len(found) == ROWS:
                    break
                try:
                    found.append(parse_row(line.decode()))
                except (ValueError, NotPlain):
                    break  # the file was written anew behind a rollback, which rank 0 is about to say
                place += len(line)
        self._read = place, elapsed + sum(row.seconds for row in found)
        return list(with_timestamps(found, self.started + elapsed))

    def arrived(self) -> None:
        """What was read last need not be read again."""
        self._arrived = self._read


def ship(orders: Orders) -> None:
    """Until the training is over and all of it has arrived, or MLflow does not answer then."""
    pause = FIRST_PAUSE
    while True:
        try:
            with tracking(settings.tracking_uri()) as client:
                run = begin_run(client, settings.tracking_uri(), orders.live)
                if run is None:
                    return  # it was registered before, and is trained again
                run_id, last = run.info.run_id, last_step(run)
                if pause > FIRST_PAUSE:
                    say("MLflow takes the points of this training again")
                pause = FIRST_PAUSE
                while True:
                    over, log = orders.over, orders.log
                    while log is orders.log and log is not None and (rows := log.rows()):
                        ahead = [row for row in rows if row.step > last]
                        log_steps(client, run_id, ahead, orders.live.tokens_before)
                        log.arrived()
                        last = max(last, rows[-1].step)
                    if over:
                        if not orders.finished:
                            client.update_run(run_id, status="KILLED")
                        return
                    orders.wait(PERIOD)
        except RegistryError as error:
            if orders.over:
                return say("MLflow lacks the last points of this training; they are logged when it is registered")
            if pause == FIRST_PAUSE:
                why = settings.masked_text(str(error.__cause__ or error))[:300]
                say(
                    f"MLflow at {settings.masked(settings.tracking_uri())} does not take the points of this training, "
                    f"which wait in its log; training goes on. {why}"
                )
            orders.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


@contextlib.contextmanager
def _alone(orders: Orders) -> Iterator[bool]:
    """Whether no other process of this machine ships the same training: the one of a job that was killed ends within
    its request, and is waited for."""
    lock = settings.home() / f".shipper-{orders.live.training[:16]}.lock"  # TMPDIR is another in each command
    lock.parent.mkdir(parents=True, exist_ok=True)
    while (held := try_lock(lock, 0o600)) is None and not orders.over:
        orders.wait(0.2)
    try:
        yield held is not None
    finally:
        if held is not None:
            lock.unlink(missing_ok=True)
            os.close(held)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends to all; rank 0 says when it is over
    os.nice(10)
    orders = Orders()
    with _alone(orders) as alone:
        if alone:
            ship(orders)


if __name__ == "__main__":
    main()
