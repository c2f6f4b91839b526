"""Workers of an evaluation that hold one model together, each its part (tensor parallelism).

The first of a team evaluates; the others take part in what its engine does, call by call, since each product of a cut
model needs all of them. So what is asked, graded, kept and written is one worker's business, in a team as alone.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from k2model.errors import EvaluationError, K2Error
from k2model.training.world import World

if TYPE_CHECKING:
    from k2model.evals.backends import OwnModel
    from k2model.generation import Engine, Request, Score, Written
    from k2model.model.parallel import Shard

T = TypeVar("T")
PATIENCE = timedelta(hours=12)  # that the others wait for the first, which may be grading
_CURRENT: ContextVar["Team | None"] = ContextVar("team", default=None)


class Team:
    """`number` of `count` teams; `tensor`: this worker's place in it."""

    def __init__(self, number: int, count: int, tensor: "Shard") -> None:
        self.number, self.count, self.tensor = number, count, tensor
        self.running: Iterator[Any] = iter(())  # what the first began to write and has not taken yet

    @staticmethod
    def current() -> "Team | None":
        """Of this worker, where it is in one of several."""
        return _CURRENT.get()

    def together(self, work: Callable[[], T]) -> T | None:
        """What `work` gives or raises on the first; the others serve it until then, and get None."""
        if self.tensor.size == 1:
            return work()
        token = _CURRENT.set(self)
        try:
            if self.tensor.rank == 0:
                return work()
            self._serve()
            return None
        finally:
            if self.tensor.rank == 0:
                self._tell("end")
            _CURRENT.reset(token)

    def loaded(self, load: Callable[..., "OwnModel"], *arguments: Any) -> "OwnModel":
        """On the first: `load(*arguments, self.tensor)`, as on the others, whose engine follows this one's."""
        self._tell("load", load, *arguments)
        model = load(*arguments, self.tensor)
        model.engine = Leading(self, model.engine)
        return model

    def _tell(self, *message: Any) -> None:
        import torch.distributed as dist

        deque(self.running, maxlen=0)  # the others take every step of what was begun
        dist.broadcast_object_list([message], group=self.tensor.group, group_src=0)

    def _serve(self) -> None:
        import torch.distributed as dist

        engine: Any = None
        while True:
            told: list[Any] = [None]
            dist.broadcast_object_list(told, group=self.tensor.group, group_src=0)
            word, *arguments = told[0]
            if word == "end":
                return
            with contextlib.suppress(ValueError, K2Error):  # of what is asked or loaded: the first raises the same
                if word == "load":
                    load, *rest = arguments
                    engine = load(*rest, self.tensor).engine
                elif word == "run":
                    deque(engine.run(*arguments), maxlen=0)
                else:
                    engine.score(*arguments)


class Leading:
    """The first's engine: the others are told each call."""

    def __init__(self, team: Team, engine: "Engine") -> None:
        self.team, self.engine = team, engine

    def run(self, requests: Sequence["Request"]) -> Iterator[tuple[int, "Written"]]:
        steps = self.engine.run(requests)  # refused here, before the others hear of it
        self.team._tell("run", requests)
        self.team.running = steps
        return steps

    def score(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list["Score"]:
        self.team._tell("score", requests)
        return self.engine.score(requests)


def team_of(world: World, size: int) -> Team:
    """Of this worker: workers next to each other make a team of `size`. Collective.

    Raises EvaluationError when the job's workers cannot be shared out.
    """
    from k2model.model.parallel import WHOLE, Shard

    if size < 1 or world.size % size:
        raise EvaluationError(
            f"evaluation.tensor={size} does not divide the job's {world.size} workers: set evaluation.workers to a "
            "multiple of it"
        )
    if size == 1:
        return Team(world.rank, world.size, WHOLE)
    import torch
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    ranks = [list(range(first, first + size)) for first in range(0, world.size, size)]
    groups = [dist.new_group(members, timeout=PATIENCE, backend=backend) for members in ranks]
    number = world.rank // size
    return Team(number, len(ranks), Shard(world.rank % size, size, groups[number]))
