"""How much of a long job's time trains, when machines fail: a formula, the save interval it recommends, a simulation.

A job of many nodes is as frail as all of them together: with the rate that Llama 3 reports (419 unexpected
interruptions in 54 days on 16,384 GPUs, arXiv:2407.21783, section 3.3.4) 3,200 GPUs are interrupted every 16 hours.
What that costs depends on the interval between saves. `goodput` says how much, in closed form; `simulate` plays the
same job event by event, and the tests hold the two together.

Times are seconds, rates are per second.
"""

import heapq
import math
from dataclasses import dataclass
from random import Random

DAY = 86_400.0

#: Llama 3 (arXiv:2407.21783, section 3.3.4): unexpected interruptions for each GPU and second.
LLAMA_3_FAILURES = 419 / (54 * DAY * 16_384)
#: ByteRobust (arXiv:2509.16293): the share of time that trained over three months on 9,600 GPUs.
BYTE_ROBUST = 0.97
LOST = 50.0  # failures between two saves, by the mean: a save would be reached once in exp(50) attempts


@dataclass(frozen=True)
class Interruptions:
    """What a job lives through. `failure_rate`, `straggler_rate`: of the whole job, all nodes together.

    `save_blocks`: how long training stands still for a save; `save_lands`: from there until it is in the store, while
    training goes on. `restart`: from a failure to the next step on the same nodes: it is noticed, all workers come
    back, meet and load; `image_pull` comes on top where a node is new, of which there is one in `new_node` failures.
    A straggler slows the job down by `straggler_slows` (1.3: every step takes 1.3 times as long) for `straggler_lasts`.
    """

    failure_rate: float = 0.0
    save_blocks: float = 0.0
    save_lands: float = 0.0
    restart: float = 0.0
    image_pull: float = 0.0
    new_node: float = 0.0
    straggler_rate: float = 0.0
    straggler_slows: float = 1.0
    straggler_lasts: float = 0.0


def goodput(interval: float, met: Interruptions) -> float:
    """The share of time that advances training, when the state is saved every `interval` of training.

    A segment between two saves takes E = (exp(rate x (interval + save_blocks)) - 1) / rate, and each failure in it the
    restart and what had not landed, in which it may fail again (Daly, Future Generation Computer Systems 22(3), 2006,
    with the time a save is under way added to the restart). Stragglers stretch the interval by their mean over time.
    0 where more than `LOST` failures fall between two saves.
    """
    stretched = interval / _speed(met) + met.save_blocks
    if not met.failure_rate:
        return interval / stretched
    down = met.restart + met.new_node * met.image_pull + met.save_lands
    if met.failure_rate * (down + stretched) > LOST:
        return 0.0
    wall = math.exp(met.failure_rate * down) * math.expm1(met.failure_rate * stretched) / met.failure_rate
    return interval / wall


def recommended_interval(met: Interruptions) -> float:
    """Between two saves, Daly's higher-order estimate of the best: Young's sqrt(2 x save / rate) with two more terms.

    At least as long as a save takes to land, since one is in flight at a time; infinite where nothing fails.
    """
    if not met.failure_rate:
        return math.inf
    mean, save = 1 / met.failure_rate, max(met.save_blocks, 1e-3)
    if save >= 2 * mean:
        return mean
    part = save / (2 * mean)
    best = math.sqrt(2 * save * mean) * (1 + math.sqrt(part) / 3 + part / 9) - save
    return max(best, met.save_lands)


def _speed(met: Interruptions) -> float:
    """Mean over time: a share of 1 - exp(-rate x lasts) of it some node is slow."""
    slow = -math.expm1(-met.straggler_rate * met.straggler_lasts)
    return 1 - slow + slow / met.straggler_slows


@dataclass(frozen=True)
class Played:
    """A job's life: `wall` seconds for `work` seconds of training, of which `repeated` were trained once more."""

    work: float
    wall: float
    repeated: float
    failures: int
    saves: int

    @property
    def goodput(self) -> float:
        return self.work / self.wall


def simulate(work: float, interval: float, met: Interruptions, seed: int = 0) -> Played:
    """A job of `work` seconds of training, event by event: saves that block and land later, failures at any time
    (during restarts as well), nodes that are replaced and pull their image, stragglers that slow everyone."""
    return _Job(work, interval, met, seed).play()


_FAILURE, _SLOW, _FAST = "failure", "slow", "fast"


class _Job:
    """`done`: seconds of training that stand; `landed`: those that a failure cannot take."""

    def __init__(self, work: float, interval: float, met: Interruptions, seed: int) -> None:
        self.work, self.interval, self.met, self.random = work, interval, met, Random(seed)
        self.now = self.done = self.landed = self.repeated = 0.0
        self.failures = self.saves = self.slow = 0
        self.flying: list[tuple[float, float]] = []  # (when it lands, what it holds)
        self.events: list[tuple[float, str]] = []
        self._draw(_FAILURE, met.failure_rate)
        self._draw(_SLOW, met.straggler_rate)

    def play(self) -> Played:
        while self.done < self.work:
            reached = min((math.floor(self.done / self.interval + 1e-9) + 1) * self.interval, self.work)
            if self._train(reached) and reached < self.work:
                self._save()
        return Played(self.work, self.now, self.repeated, self.failures, self.saves)

    def _train(self, reached: float) -> bool:
        """Whether training came to `reached` without a failure."""
        while self.done < reached:
            speed = 1 / self.met.straggler_slows if self.slow else 1.0
            end = self.now + (reached - self.done) / speed
            if not self.events or self.events[0][0] > end:
                self.now, self.done = end, reached
                return True
            self.done += (self.events[0][0] - self.now) * speed
            if self._happens():
                return False
        return True

    def _save(self) -> None:
        if self._pass(self.met.save_blocks):
            self.flying.append((self.now + self.met.save_lands, self.done))
            self.saves += 1

    def _pass(self, seconds: float) -> bool:
        """Time in which nothing is trained. False: a failure ended it."""
        end = self.now + seconds
        while self.events and self.events[0][0] <= end:
            if self._happens():
                return False
        self.now = end
        return True

    def _happens(self) -> bool:
        """The next event; whether it was a failure, which has then been recovered from."""
        self.now, kind = heapq.heappop(self.events)
        if kind == _SLOW:
            self.slow += 1
            heapq.heappush(self.events, (self.now + self.met.straggler_lasts, _FAST))
            self._draw(_SLOW, self.met.straggler_rate)
        elif kind == _FAST:
            self.slow -= 1
        else:
            self._fail()
        return kind == _FAILURE

    def _fail(self) -> None:
        self.failures += 1
        self.landed = max([self.landed, *(held for lands, held in self.flying if lands <= self.now)])
        self.flying.clear()
        self.repeated += self.done - self.landed
        self.done = self.landed
        self._draw(_FAILURE, self.met.failure_rate)
        new = self.random.random() < self.met.new_node
        self._pass(self.met.restart + new * self.met.image_pull)  # a failure in it begins it anew

    def _draw(self, kind: str, rate: float) -> None:
        if rate:
            heapq.heappush(self.events, (self.now + self.random.expovariate(rate), kind))
