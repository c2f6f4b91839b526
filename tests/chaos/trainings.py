"""Trainings that are killed, stopped, told to end, begun twice, or find their checkpoints damaged: the weights are
those of a calm one.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from k2model.training.log import METRICS_SO_FAR
from tests.chaos.bench import Bench, Command, Ended, Expected, Fault, Seen, Unexpected
from tests.chaos.clocks import DAY, shift
from tests.chaos.disks import small
from tests.training.job import PHASE


def calm(bench: Bench, workers: int = 1) -> dict[str, str]:
    """Digests of a training on that many workers that nothing disturbs: how many there are decides how sums round."""

    def make(place: Path) -> dict[str, str]:
        options = ("--workers", str(workers), "--folder", str(place))
        ended = train(bench, str(place / "store"), *options).wait()
        if ended.status != 0:
            raise Unexpected(f"nothing can be trained even undisturbed: {ended.said}")
        return ended.digests

    digests: dict[str, str] = bench.services.once(f"training-{workers}", make)
    return digests


def train(
    bench: Bench, store: str, *options: str, prepare: Callable[[], None] | None = None, **environment: str
) -> Command:
    return bench.start("subject", "train", "--store", store, *options, prepare=prepare, **environment)


def held(bench: Bench, store: str, step: int, *options: str) -> Command:
    """A training that waits before a step."""
    command = train(bench, store, "--hold", str(step), *options)
    command.wait_for(f"step-{step}")
    return command


def killed(times: int, bench: Bench) -> Seen:
    """SIGKILL at random steps."""
    store, undisturbed = bench.empty(), calm(bench)
    for step in sorted(bench.draw.sample(range(1, PHASE.steps), times)):
        held(bench, store, step).kill()
    return Seen([], train(bench, store).wait(), undisturbed)


def a_worker_killed(bench: Bench) -> Seen:
    """SIGKILL to one of two; their agent begins anew."""
    store, undisturbed = bench.empty(), calm(bench, 2)
    folder = bench.folder / "job"
    folder.mkdir()
    options = ("--workers", "2", "--restarts", "1", "--folder", str(folder))
    command = held(bench, store, bench.draw.randrange(1, PHASE.steps), *options)
    os.kill(int((folder / f"worker-{bench.draw.randrange(2)}.pid").read_text()), signal.SIGKILL)
    command.go_on()
    return Seen([command.wait()], None, undisturbed)


def all_killed(bench: Bench) -> Seen:
    """SIGKILL to the agent and both workers."""
    store, undisturbed = bench.empty(), calm(bench, 2)
    folders = [bench.folder / f"job-{number}" for number in range(2)]
    for folder in folders:
        folder.mkdir()
    options = [("--workers", "2", "--folder", str(folder)) for folder in folders]
    held(bench, store, bench.draw.randrange(1, PHASE.steps), *options[0]).kill()
    return Seen([], train(bench, store, *options[1]).wait(), undisturbed)


def stopped(bench: Bench) -> Seen:
    """SIGSTOP for two seconds."""
    store, undisturbed = bench.empty(), calm(bench)
    command = held(bench, store, bench.draw.randrange(1, PHASE.steps))
    command.send(signal.SIGSTOP)
    command.go_on()
    time.sleep(2)
    command.send(signal.SIGCONT)
    return Seen([command.wait()], None, undisturbed)


def preempted(bench: Bench) -> Seen:
    """SIGTERM, as a cluster sends it before it takes a node away."""
    store, undisturbed = bench.empty(), calm(bench)
    command = held(bench, store, bench.draw.randrange(1, PHASE.steps - 1))
    command.send(signal.SIGTERM)
    command.go_on()
    return Seen([command.wait()], train(bench, store).wait(), undisturbed, ("SIGTERM|told to|Preempted",))


def twice(prepare: Callable[[], None] | None, bench: Bench) -> Seen:
    """The same training, begun a second time beside the first, which goes on when that one has ended or waits."""
    store, undisturbed = bench.empty(), calm(bench)
    first = held(bench, store, 2)
    second = train(bench, store, prepare=prepare)
    second.over(5)
    first.go_on()
    return Seen([first.wait(), second.wait()], train(bench, store).wait(), undisturbed, ("making|lease",))


def damaged(change: Callable[[Bench, Path], None], bench: Bench) -> Seen:
    """What a killed training has left is damaged before it goes on."""
    store, undisturbed = bench.empty(), calm(bench)
    held(bench, store, 9).kill()  # the save after step 8 may be on its way, the one after 4 has ended
    newest = max(Path(store).glob("checkpoint/*/checkpoints/step-*/manifest.json")).parent
    change(bench, newest)
    met = train(bench, store).wait()
    if met.status != 0:
        bench.run("k2", "check", "--repair", "--store", store)
    return Seen([met], train(bench, store).wait(), undisturbed)


def bit(bench: Bench, checkpoint: Path) -> None:
    struck = bench.draw.choice([path for path in sorted(checkpoint.iterdir()) if path.name != "manifest.json"])
    content = bytearray(struck.read_bytes())
    content[bench.draw.randrange(len(content))] ^= 1 << bench.draw.randrange(8)
    struck.write_bytes(content)


def no_shard(bench: Bench, checkpoint: Path) -> None:
    bench.draw.choice(sorted(checkpoint.glob("*.safetensors"))).unlink()


def no_manifest(bench: Bench, checkpoint: Path) -> None:
    (checkpoint / "manifest.json").unlink()


def deep_state(bench: Bench, checkpoint: Path) -> None:
    for path in checkpoint.glob("*.json"):
        path.write_bytes(b"[" * 100_000)


def cut_log(bench: Bench, checkpoint: Path) -> None:
    log = checkpoint.parents[1] / METRICS_SO_FAR
    log.write_bytes(log.read_bytes()[:-20])


def full_disk(bench: Bench) -> Seen:
    store, undisturbed = bench.empty(), calm(bench)
    met: Ended = train(bench, store, prepare=partial(small, store, "size=120k")).wait()
    shutil.rmtree(store, ignore_errors=True)
    return Seen([met], train(bench, store).wait(), undisturbed, ("No space left|more can be written",))


DAMAGES = {
    "a flipped bit": bit, "a shard is gone": no_shard, "its manifest is gone": no_manifest, "deep JSON": deep_state,
    "a cut log": cut_log,
}  # fmt: skip
FAULTS = [
    Fault("training/killed at a step", Expected.EQUAL, partial(killed, 1)),
    Fault("training/killed at three steps", Expected.EQUAL, partial(killed, 3), fast=False),
    Fault("training/one of two workers is killed", Expected.EQUAL, a_worker_killed, fast=False),
    Fault("training/agent and workers are killed", Expected.EQUAL, all_killed, fast=False),
    Fault("training/stopped for 2 s", Expected.EQUAL, stopped, fast=False),
    Fault("training/SIGTERM", Expected.EITHER, preempted),
    Fault("training/begun twice", Expected.EITHER, partial(twice, None), fast=False),
    Fault("training/begun twice, a clock a day ahead", Expected.EITHER, partial(twice, partial(shift, DAY)), False),
    *(
        Fault(f"training/newest checkpoint: {name}", Expected.EITHER, partial(damaged, change), name == "a flipped bit")
        for name, change in DAMAGES.items()
    ),
    Fault("training/full disk", Expected.ERROR, full_disk),
]  # fmt: skip
NEEDS_MOUNT = ["training/full disk"]
NEEDS = ["k2model.training.attempt", "torch.distributed.launcher.api", "tests.training.job"]
