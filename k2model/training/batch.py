"""A step's rows on one worker, read ahead by threads, and the one all-reduce of small numbers a step.

A batch is a pure function of step and layout, so there is no loader state to save, and any number of threads
reads the same. Targets are shifted before a row is cut, since the last position of a piece predicts the first
token of the next. Decisions that all workers must take alike (stop, publish a checkpoint, go back behind a spike)
are made from the sums of the all-reduce alone.

Shape suffixes: B rows of this worker, T its positions, R the positions of the whole row, S sources.
"""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from k2model.model import shifted_targets
from k2model.model.loss import IGNORED
from k2model.tokens import PackedSequences
from k2model.training.layout import Layout
from k2model.training.world import World

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """`tokens_BT` int64; `targets_BT` int64: the token each position predicts, IGNORED where none counts.
    `document_BR`: number of each position's document in its whole row, which attention needs, -1 for padding.
    `source_BT`: index into the phase's sources, 255 for padding.

    `targets` and `attended` are what this worker adds to the global counts, 0 where a neighbour of its
    group has counted the same: targets, and pairs of positions (the square of each document's length).
    """

    tokens_BT: Tensor
    targets_BT: Tensor
    document_BR: Tensor
    source_BT: Tensor
    targets: int
    attended: int


def read_batch(sequences: PackedSequences, step: int, global_batch: int, layout: Layout) -> Batch:
    """What the worker at `layout` trains on at `step`. Raises TokensError beyond the last step."""
    rows = sequences.batch(step, global_batch, layout.data.rank, layout.data.size)
    targets_BR = shifted_targets(rows["tokens"], rows["loss_mask"])
    counts = layout.context.rank == 0 and layout.tensor.rank == 0
    return Batch(
        tokens_BT=layout.context.cut(rows["tokens"], 1),
        targets_BT=layout.context.cut(targets_BR, 1),
        document_BR=rows["document"],
        source_BT=layout.context.cut(rows["source"], 1),
        targets=int((targets_BR != IGNORED).sum()) if counts else 0,
        attended=_attended(rows["document"]) if counts else 0,
    )


def _attended(document_BR: Tensor) -> int:
    """Sum of the squared lengths of all documents; padding (-1) attends to nothing worth counting."""
    rows, length = document_BR.shape
    numbers_BR = torch.where(document_BR >= 0, document_BR, length) + torch.arange(rows)[:, None] * (length + 1)
    lengths = torch.bincount(numbers_BR.flatten(), minlength=rows * (length + 1)).view(rows, length + 1)[:, :length]
    return int(lengths.square().sum())


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


@dataclass(frozen=True)
class LocalLoss:
    """Sums of one worker over its own targets of a step, each [sources] fp64 on the CPU: nats and targets."""

    nats_S: Tensor
    targets_S: Tensor


@dataclass(frozen=True)
class StepTotals:
    """Sums over all workers. `targets`, `attended`: of the step to come (see `Batch`); `stop`: how many were told
    to end; `report`: of the save in flight (see `Saver`); `nats_S`, `targets_S` fp64: of the step behind, zeros
    when there was none."""

    targets: int
    attended: int
    stop: int
    report: list[int]
    nats_S: Tensor
    targets_S: Tensor


def reduce_step(
    world: World, sources: int, ahead: Batch | None, stop: bool, report: Sequence[int], behind: LocalLoss | None
) -> StepTotals:
    """The all-reduce of a step's small numbers, one CPU tensor; gradients are the engine's.

    Collective: every worker calls it equally often. Sums up to 2^53 are exact.
    """
    counts = (ahead.targets, ahead.attended) if ahead is not None else (0, 0)
    head = torch.tensor([*counts, int(stop), *report], dtype=torch.float64)
    nothing = torch.zeros(2 * sources, dtype=torch.float64)
    message = torch.cat((head, nothing if behind is None else torch.cat((behind.nats_S, behind.targets_S))))
    if world.size > 1:
        dist.all_reduce(message)
    targets, attended, stopping, *reports = (int(value) for value in message[: len(head)].tolist())
    nats_S, targets_S = message[len(head) :].split(sources)
    return StepTotals(targets, attended, stopping, reports, nats_S, targets_S)
