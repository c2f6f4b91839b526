"""The bare data-parallel loop that the hand-written contestants share: batch, backward, clip, step, clock."""

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.peers.workload import Clock, Measured, Trial

Batch = tuple[Any, ...]


def run(
    trial: Trial, batches: Iterator[tuple[Batch, int]], losses: Callable[[Batch], Any], update: Callable[[], None]
) -> Measured:
    """`batches` gives a worker's batch and its number of targets; `losses(batch)` the mean loss to go backward
    from; `update()` clips, steps and clears gradients. The process group is the caller's."""
    clock, useful, value = Clock(), 0, float("nan")
    for step in range(trial.steps):
        batch, targets = next(batches)
        loss = losses(batch)
        loss.backward()
        update()
        value = loss.item()
        if step >= trial.warmup:
            useful += targets
        clock.step_ended()
    return clock.measured(trial, useful, value)
