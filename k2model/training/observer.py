"""Whoever watches a training from inside: told what happens, on every worker, by the thread that trains.

The training knows none of those who watch (`k2model.monitoring`); it is given one `Observer` and tells it. What watches
must cost nothing and end nothing: `Observers` lets go of one that fails, and says so once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from k2model.artifacts import ArtifactRef
from k2model.training.background import say
from k2model.training.log import StepMetrics, TrainingRun
from k2model.training.world import World


class Observer:
    """Does nothing with what it is told. Methods are called in microseconds' work, and none may talk to other workers:
    they are no collectives."""

    def began(self, run: TrainingRun, start: int, log: Path | None) -> None:
        """Steps from `start` on are to be taken: a job began, or went back behind a spike. `log`: the file that gets a
        row a step, on rank 0 (None on the others); every attempt has one of its own."""

    def reached(self, step: int, waited: float) -> None:
        """This worker is about to meet the others before `step` (after the last one: their number); it waited so many
        seconds for its batch. A worker that stays behind the others' step is the one that they wait for."""

    def stepped(self, row: StepMetrics) -> None:
        """A step is done, with its loss over all workers; each of them has the same row."""

    def save_going(self, failing: bool) -> None:
        """Asked at every step: whether a worker's write of the save in flight failed and is tried again."""

    def save_ended(self, step: int, seconds: float, published: bool) -> None:
        """A save of `step` steps is in the store, `seconds` after it was begun, or was dropped or failed."""

    def finished(self) -> None:
        """The last step is taken and saved."""

    def close(self) -> None:
        """Training is over, in whatever way."""


class Observers(Observer):
    """Tells each of several, as long as it does not fail."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._left = list(observers)

    def began(self, run: TrainingRun, start: int, log: Path | None) -> None:
        self._tell("began", run, start, log)

    def reached(self, step: int, waited: float) -> None:
        self._tell("reached", step, waited)

    def stepped(self, row: StepMetrics) -> None:
        self._tell("stepped", row)

    def save_going(self, failing: bool) -> None:
        self._tell("save_going", failing)

    def save_ended(self, step: int, seconds: float, published: bool) -> None:
        self._tell("save_ended", step, seconds, published)

    def finished(self) -> None:
        self._tell("finished")

    def close(self) -> None:
        self._tell("close")

    def _tell(self, event: str, *what: Any) -> None:
        for one in tuple(self._left):
            try:
                getattr(one, event)(*what)
            except Exception as error:
                self._left.remove(one)
                say(f"{type(one).__name__} watches this training no more: {type(error).__name__}: {error}")


def unobserved(checkpoint: ArtifactRef, world: World) -> Observer:
    """Nobody watches."""
    return Observer()
