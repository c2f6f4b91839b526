"""Clocks that are wrong, jump, or run backwards, in one of two makers: time decides nothing."""

import random
import time
from functools import partial

from tests.chaos.bench import Bench, Expected, Fault, Seen
from tests.chaos.processes import place

DAY = 86_400.0


def shift(seconds: float) -> None:
    """From here on this process's wall clock is off by that."""
    real = time.time
    time.time = lambda: real() + seconds


def jump(seed: int) -> None:
    """From here on it is off by up to a day, either way, another one at each look."""
    real, draw = time.time, random.Random(seed)
    time.time = lambda: real() + draw.uniform(-DAY, DAY)


def alone(seconds: float, bench: Bench) -> Seen:
    store = bench.empty()
    return Seen([bench.line(store, prepare=partial(shift, seconds))], bench.line(store), bench.calm)


def beside(where: str, seconds: float, bench: Bench) -> Seen:
    """One maker with a right clock at work, another with a wrong one comes."""
    store = place(bench, where)
    first = bench.start("subject", "line", "--store", store, "--pause", "0.2")
    first.wait_for("corpus-b")
    second = bench.start("subject", "line", "--store", store, prepare=partial(shift, seconds))
    return Seen([first.wait(), second.wait()], bench.line(store), bench.calm)


def jumping(bench: Bench) -> Seen:
    store = bench.empty()
    ended = [bench.line(store, prepare=partial(jump, bench.draw.randrange(2**31)))]
    return Seen(ended, bench.line(store), bench.calm)


FAULTS = [
    Fault("clock/a day ahead", Expected.EQUAL, partial(alone, DAY)),
    Fault("clock/in 1970", Expected.EITHER, partial(alone, -1.7e9)),
    Fault("clock/jumping by a day at each look", Expected.EQUAL, jumping),
    Fault("clock/a day ahead, beside another maker", Expected.EITHER, partial(beside, "local", DAY)),
    Fault("clock/a day behind, beside another maker", Expected.EITHER, partial(beside, "local", -DAY)),
    Fault("clock/a day ahead, beside another maker on S3", Expected.EITHER, partial(beside, "s3", DAY)),
]
