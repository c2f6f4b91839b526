"""Rates, pauses, budgets and retries, on a clock of our own."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random

import pytest

from k2model.synthesis.config import EndpointConfig
from k2model.synthesis.conversation import Unanswered, Usage
from k2model.synthesis.teachers.limits import Budget, Pause, TokenBucket, retry_after, wait_seconds


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


def taken(per_minute, amounts, excess=0.0):
    """When each amount passes, in seconds from the start."""
    time = Time()

    async def run():
        bucket = TokenBucket(per_minute, time, time.sleep)
        moments = []
        for amount in amounts:
            await bucket.take(amount)
            bucket.correct(excess)
            moments.append(round(time.now - 100, 6))
        return moments

    return asyncio.run(run())


def test_a_bucket_lets_its_rate_through():
    assert taken(60, [1] * 5) == [0, 1, 2, 3, 4]  # one a second
    assert taken(600, [1] * 13)[:10] == [0] * 10 and taken(600, [1] * 13)[10:] == [0.1, 0.2, 0.3]
    assert taken(0, [1e9] * 3) == [0, 0, 0]


def test_an_amount_beyond_the_burst_leaves_a_debt():
    assert taken(6000, [500, 100, 100]) == [0, 5, 6]  # 100 a second, burst of 100
    assert taken(6000, [500, 1, 1]) == pytest.approx([0, 4.01, 4.02])


def test_what_was_more_than_taken_is_paid_back():
    assert taken(6000, [100, 100, 100], excess=100) == [0, 2, 4]
    assert taken(6000, [100, 100, 100], excess=-50) == [0, 0.5, 1.0]


def test_no_minute_sees_more_than_the_rate_and_one_burst():
    rng = Random(0)
    amounts = [rng.randint(1, 80) for _ in range(400)]
    moments = taken(3000, amounts)  # 50 a second
    for i, start in enumerate(moments):
        within = sum(a for a, m in zip(amounts[i:], moments[i:], strict=True) if m - start < 60)
        assert within <= 3000 + 50 + 80


def test_one_retry_after_holds_everyone_back():
    time = Time()

    async def run():
        pause = Pause(time, time.sleep)
        await pause.over()
        assert time.now == 100
        pause.extend(7)
        pause.extend(3)
        await pause.over()

    asyncio.run(run())
    assert time.now == 107


def test_a_budget_sets_aside_what_a_call_may_cost_and_stays_stopped():
    budget = Budget(EndpointConfig(budget_tokens=100))
    budget.reserve(Usage(30, 30))
    with pytest.raises(Unanswered, match=r"0 of endpoint\.budget_tokens = 100"):
        budget.reserve(Usage(30, 30))
    budget.charge(Usage(30, 30), Usage(10, 5))
    assert budget.spent == Usage(10, 5)
    with pytest.raises(Unanswered):  # there would be room again, but a run that has stopped stays stopped
        budget.reserve(Usage(1, 1))


def test_a_budget_of_money():
    budget = Budget(EndpointConfig(budget_cost=1.0, price_prompt=1.0, price_completion=4.0))
    budget.reserve(Usage(200_000, 200_000))  # exactly 1.0
    budget.charge(Usage(200_000, 200_000), Usage(200_000, 100_000))
    with pytest.raises(Unanswered, match=r"0.6000 of endpoint.budget_cost = 1.0"):
        budget.reserve(Usage(0, 100_001))


def test_waits_grow_to_a_limit_and_jitter_over_their_whole_range():
    config, rng = EndpointConfig(backoff_seconds=1.0, backoff_limit_seconds=10.0), Random(0)
    for attempt, longest in enumerate((1, 2, 4, 8, 10, 10), 1):
        waits = [wait_seconds(config, attempt, rng) for _ in range(400)]
        assert 0 <= min(waits) < 0.1 * longest and 0.9 * longest < max(waits) <= longest


def test_retry_after_as_seconds_or_date():
    assert (
        retry_after({"retry-after": "2.5"}) == 2.5
        and retry_after({}) == 0
        and retry_after({"retry-after": "soon"}) == 0
    )
    assert retry_after({"retry-after": "-3"}) == 0
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 85 < retry_after({"retry-after": date}) <= 90
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
