"""A piece of work for a store, done on a thread of its own and tried again while the store does not take it.

Whoever starts it looks at its stage now and then. It talks to no other worker: collectives belong to the
main thread.
"""

import contextlib
import sys
import threading
from collections.abc import Callable
from enum import Enum
from typing import Generic, TypeVar

from k2model.artifacts import ArtifactError, CorruptArtifact, LeaseHeld, LeaseLost

T = TypeVar("T")
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0  # seconds between attempts, doubled each time
_TRANSIENT = (ArtifactError, OSError)
_FINAL = (CorruptArtifact, LeaseHeld, LeaseLost)  # trying again does not help


class Stage(Enum):
    """How far a piece of work is."""

    WORKING = "working"
    FAILING = "failing"  # the last attempt failed, another one follows
    DONE = "done"
    BROKEN = "broken"  # failed in a way that no further attempt can mend


class Background(Generic[T]):
    """Starts `work` at once. `what` names it in messages; `undo` takes back what attempts have left."""

    def __init__(self, what: str, work: Callable[[], T], undo: Callable[[], None] = lambda: None) -> None:
        self.what, self._work, self._undo = what, work, undo
        self.stage = Stage.WORKING
        self.result: T | None = None
        self.error: BaseException | None = None
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def wait(self, seconds: float) -> bool:
        """Whether it is done, after at most so long."""
        self._thread.join(seconds)
        return self.stage is Stage.DONE

    def give_up(self) -> threading.Thread:
        """No further attempt; what was done is taken back as soon as a running attempt has ended, as far as the
        store lets it. Returns the thread that does so."""
        self._given_up.set()
        cleaner = threading.Thread(target=self._clean, name=f"take back {self.what}", daemon=True)
        cleaner.start()
        return cleaner

    def _clean(self) -> None:
        self._thread.join()
        with contextlib.suppress(*_TRANSIENT):
            self._undo()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        told: set[object] = set()
        while not self._given_up.is_set():
            try:
                self.result = self._work()
            except _FINAL as error:
                return self._end(Stage.BROKEN, error)
            except _TRANSIENT as error:
                self._end(Stage.FAILING, error)
                if _kind(error) not in told:  # once a kind, not once an attempt
                    told.add(_kind(error))
                    say(f"{self.what} failed and is tried again while training goes on: {error}")
            except BaseException as error:
                return self._end(Stage.BROKEN, error)
            else:
                if told:
                    say(f"{self.what} succeeded after all")
                return self._end(Stage.DONE, None)
            self._given_up.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _end(self, stage: Stage, error: BaseException | None) -> None:
        self.error = error
        self.stage = stage


def _kind(error: BaseException) -> object:
    cause = error.__cause__ or error
    return type(error), type(cause), getattr(cause, "errno", None)


def say(message: str) -> None:
    """A line on stderr for whoever watches the job."""
    print(f"k2: {message}", file=sys.stderr, flush=True)
