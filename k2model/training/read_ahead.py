"""Batches read before they are needed, by threads, in an order that does not depend on them.

Which rows a step has is a pure function of the step, so any number of threads gives the same batches.
"""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(read: Callable[[int], T], steps: Iterable[int], threads: int) -> Generator[tuple[int, T], None, None]:
    """(step, `read(step)`) for each of `steps`, in their order; `threads` + 1 batches are begun ahead.

    With 0 threads each batch is read when asked for. An exception of `read` is raised when its step's turn
    comes. Closing the iterator ends the threads.
    """
    if threads < 1:
        yield from ((step, read(step)) for step in steps)
        return
    waiting: deque[tuple[int, Future[T]]] = deque()
    coming = iter(steps)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
    try:
        for step in itertools.islice(coming, threads + 1):
            waiting.append((step, pool.submit(read, step)))
        while waiting:
            step, batch = waiting.popleft()
            done = batch.result()
            for upcoming in itertools.islice(coming, 1):
                waiting.append((upcoming, pool.submit(read, upcoming)))
            yield step, done
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
