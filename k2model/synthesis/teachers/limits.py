"""Limits of an endpoint's calls: rates (token buckets), a pause for all, a budget, and retries. Time is injected."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

from k2model.synthesis.config import EndpointConfig
from k2model.synthesis.conversation import Unanswered, Usage
from k2model.synthesis.output import cost

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]
BURST_SECONDS = 1.0


class TokenBucket:
    """At most `per_minute` units a minute, with a burst of one second's worth (at least one unit). 0 = no limit.

    An amount larger than the burst is let through when the bucket is full and leaves a debt, so in any time t no
    more than burst + one amount + per_minute * t / 60 pass. First come, first served.
    """

    def __init__(self, per_minute: float, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep):
        self._rate = per_minute / 60
        self._size = max(1.0, self._rate * BURST_SECONDS)
        self._level = self._size
        self._clock, self._sleep = clock, sleep
        self._filled = clock()
        self._turn = asyncio.Lock()

    async def take(self, amount: float = 1.0) -> None:
        """Wait until `amount` may pass."""
        if not self._rate:
            return
        async with self._turn:
            self._fill()
            while (missing := min(amount, self._size) - self._level) > 1e-9:
                await self._sleep(missing / self._rate)
                self._fill()
            self._level -= amount

    def correct(self, excess: float) -> None:
        """What passed was `excess` more (or less, if negative) than was taken."""
        self._level = min(self._size, self._level - excess)

    def _fill(self) -> None:
        passed = self._clock()
        self._level = min(self._size, self._level + (passed - self._filled) * self._rate)
        self._filled = passed


class Pause:
    """A time before which nobody asks: one answer of `Retry-After` holds all requests back, not its own alone."""

    def __init__(self, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep):
        self._clock, self._sleep = clock, sleep
        self._until = clock()

    def extend(self, seconds: float) -> None:
        self._until = max(self._until, self._clock() + seconds)

    async def over(self) -> None:
        while (left := self._until - self._clock()) > 0:
            await self._sleep(left)


class Budget:
    """A cap on tokens and on money. What a call may cost at most is set aside before it is made, so the cap holds
    as long as the endpoint keeps to `max_tokens`. Once it has refused a call it refuses all that follow.

    `spent` is what earlier runs on the record were charged."""

    def __init__(self, config: EndpointConfig, spent: Iterable[Usage] = ()):
        self._config = config
        self.spent = _sum(Usage(), *spent)
        self._reserved: list[Usage] = []
        self.stopped = ""

    def reserve(self, most: Usage) -> None:
        """Raises `Unanswered` (`budget`) when the cap does not leave room for a call of that size."""
        if not self.stopped:
            self.stopped = self._beyond(_sum(self.spent, *self._reserved, most))
        if self.stopped:
            raise Unanswered("budget", self.stopped)
        self._reserved.append(most)

    def charge(self, most: Usage, real: Usage) -> None:
        """The call that `most` was set aside for has cost `real`."""
        self._reserved.remove(most)
        self.spent = _sum(self.spent, real)

    def _beyond(self, usage: Usage) -> str:
        limit, price = self._config.budget_tokens, self._config.budget_cost
        if limit and sum(usage) > limit:
            more = f"the next call may need {sum(usage) - limit} more than is left"
            return f"{sum(self.spent)} of endpoint.budget_tokens = {limit} are spent and {more}"
        if price and cost(self._config, usage) > price:
            return f"{cost(self._config, self.spent):.4f} of endpoint.budget_cost = {price} are spent"
        return ""


def _sum(*usages: Usage) -> Usage:
    return Usage(*map(sum, zip(*usages, strict=True)))


#: Worth another attempt: timeouts, conflicts, too many requests, and the server's own errors.
RETRIED_STATUSES = frozenset({408, 409, 425, 429, *range(500, 600)})
#: No request will fare better: the address, the key or the model is wrong.
FATAL_STATUSES = frozenset({*range(300, 400), 401, 402, 403, 404, 405})


def wait_seconds(config: EndpointConfig, attempt: int, rng: Random) -> float:
    """Seconds before attempt `attempt` + 1 (the first is 1): exponential, with full jitter."""
    longest = min(config.backoff_limit_seconds, config.backoff_seconds * 2.0 ** (attempt - 1))
    return rng.uniform(0.0, longest)


def retry_after(headers: Mapping[str, str]) -> float:
    """The seconds that a response asks to wait (`Retry-After`, as a number or a date); 0 when it does not."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    aware = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
