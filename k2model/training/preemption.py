"""SIGTERM as a wish, not as an end: the loop hears of it at the next step and saves.

An orchestrator that takes a machine back sends SIGTERM and kills some seconds later. Signals reach the
main thread of a worker; elsewhere (a notebook's thread) none is caught.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Preemption:
    """`requested` becomes true when SIGTERM arrives inside `watched`."""

    def __init__(self) -> None:
        self.requested = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, SIGTERM sets `requested`; the handler that was there before comes back afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
