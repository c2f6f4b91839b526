"""Jobs of several nodes for real, small: each a machine of its own on a network, its agent that of the Flyte task.

Nodes are killed, cut off and held up; what comes out is what one process trains.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import ArtifactRef, Store
from k2model.training.world import World
from tests.netns import Network, network
from tests.tasks.node_run import SHUTDOWN_SECONDS, Node
from tests.training.job import Job, metrics, phase, run, sequences

PAUSE = 0.1  # seconds a step takes at least in jobs that something happens to
STEPS = 40
CHANGES: dict[str, Any] = {
    "precision": "fp32", "steps": STEPS, "global_batch": 12, "workers_per_node": 1, "checkpoints": {"save_every": 4},
}  # fmt: skip
LOST = 6.0  # seconds without a sign of life; 60 in a cluster
PATIENCE = 300.0  # seconds for what is only slow: a start of nodes took four minutes once, on a busy machine
NOTICED = LOST + SHUTDOWN_SECONDS + 20  # seconds in which all have noticed, on a busy machine


class Cluster:
    """As many nodes as `net` has, on one store; `start` is one attempt of the job."""

    def __init__(self, net: Network, folder: Path) -> None:
        self.net, self.folder, self.count = net, folder, len(net.names)
        self.changes = CHANGES | {"nodes": self.count}
        self.store = Store.open(folder / "store")
        self.rows = sequences(self.store, phase(**self.changes))
        self.attempts = 0

    def start(self, pause: float = PAUSE, misled: int | None = None) -> list[Node]:
        """`misled`: a node that takes its rows for damaged."""
        self.attempts += 1
        spec = {"store": self.store.uri, "phase": self.changes, "rows": vars(self.rows), "pause": pause}
        wrong = spec | {"rows": vars(self.rows) | {"digest": "0" * 64}}
        return [
            Node(self.net, node, self.count, self.folder / f"{self.attempts}-{node}", wrong if node == misled else spec,
                 LOST_SECONDS=LOST, BEAT_SECONDS=0.5)
            for node in range(self.count)
        ]  # fmt: skip

    def saved(self) -> int:
        """Steps behind the newest checkpoint."""
        found = (self.folder / "store/checkpoint").glob("*/checkpoints/step-*/manifest.json")
        return max((int(path.parent.name.removeprefix("step-")) for path in found), default=0)

    def wait_for(self, step: int, nodes: list[Node]) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.saved() < step:
            said = [(node.folder / "stderr.txt").read_text()[-1000:] for node in nodes if not node.process.is_alive()]
            assert not said, said
            assert time.monotonic() < deadline, f"no checkpoint of step {step}"
            time.sleep(0.02)

    def notes(self) -> list[dict[str, str]]:
        """Why attempts failed, as their agents have left it in the store."""
        return [json.loads(path.read_text()) for path in (self.folder / "store").rglob("attempts/*.failed.json")]

    def nothing_is_left(self) -> bool:
        return not any(self.net.processes(node) for node in range(self.count))


@contextmanager
def cluster(count: int, folder: Path) -> Iterator[Cluster]:
    with network(count, folder) as net:
        yield Cluster(net, folder)


def made_by(nodes: list[Node]) -> ArtifactRef:
    first, *others = [node.outcome(PATIENCE) for node in nodes]
    assert all(other == {"made": None} for other in others), "the answer is the first node's"
    return ArtifactRef(**first["made"])


def losses(ref: ArtifactRef) -> list[float]:
    rows = metrics(ref)
    assert [row["step"] for row in rows] == list(range(STEPS))
    return [row["loss"] for row in rows]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, world: World) -> list[float]:
    """The losses of one process."""
    return losses(run({"store": str(tmp_path_factory.mktemp("alone")), "phase": CHANGES}))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World().joined():
        yield World()


def test_two_nodes_held_up_and_cut_off_for_a_moment_train_what_one_node_trains(
    tmp_path: Path, alone: list[float]
) -> None:
    (tmp_path / "one").mkdir()
    changes = CHANGES | {"workers_per_node": 2}
    sequences(Store.open(tmp_path / "one"), phase(**changes))
    [one_node] = Job(tmp_path / "job", [{"store": str(tmp_path / "one"), "phase": changes}]).result()
    with cluster(2, tmp_path) as job:
        nodes = job.start()
        job.wait_for(4, nodes)
        stopped = job.net.processes(1)
        for signalled in (signal.SIGSTOP, signal.SIGCONT):
            for pid in stopped:
                os.kill(pid, signalled)
            time.sleep(2.0)
        job.net.cut(1)
        time.sleep(2.0)
        job.net.mend(1)
        made = made_by(nodes)
        assert job.nothing_is_left()
    assert made.digest == one_node.digest, "the same layout over two machines: the same bits"
    assert losses(made) == losses(one_node)
    assert losses(made) == pytest.approx(alone, rel=1e-5)
    slow = sorted(row["seconds"] for row in metrics(made))[-2:]
    assert slow[0] > 1.5, "the log shows both steps that took long"


def test_a_node_that_dies_and_one_that_is_cut_off_end_the_attempt_and_the_next_goes_on(
    tmp_path: Path, alone: list[float]
) -> None:
    with cluster(3, tmp_path) as job:
        nodes = job.start()
        job.wait_for(8, nodes)
        job.net.kill(2)
        for node in nodes[:2]:
            told = node.outcome(NOTICED)
            assert told["recoverable"] and "A retry goes on at the newest checkpoint" in told["error"]
        assert job.nothing_is_left()
        [said] = job.notes()
        assert "lost its connection to a worker" in said["text"]

        nodes = job.start()
        begun = job.saved()
        job.wait_for(begun + 8, nodes)
        job.net.cut(0)
        for node in nodes:
            told = node.outcome(NOTICED)
            assert told["recoverable"] and "NodeLost" in told["error"]
        assert job.nothing_is_left()
        [said] = job.notes()
        assert "NodeLost" in said["text"], "the attempt before it had got on, and is forgotten"
        assert job.saved() < STEPS - 4

        job.net.mend(0)
        made = made_by(job.start(pause=0.0))
        assert job.nothing_is_left() and job.notes() == []
        said = [(job.folder / f"{attempt}-0" / "stderr.txt").read_text() for attempt in (2, 3)]
    assert all("going on from step" in text for text in said)
    assert losses(made) == pytest.approx(alone, rel=1e-5)


def test_a_node_that_fails_before_all_have_met_leaves_none_waiting(tmp_path: Path) -> None:
    with cluster(2, tmp_path) as job:
        waiting, wrong = [node.outcome(NOTICED + 60) for node in job.start(misled=1)]
        assert job.nothing_is_left()
    assert not wrong["recoverable"] and "CorruptArtifact" in wrong["error"]
    assert waiting["recoverable"] and "node 1 of 2 has ended; its own log tells why" in waiting["error"]
