"""The formula against the event-by-event simulation, against limits that can be computed by hand, and K2's own run."""

import math
from dataclasses import replace
from statistics import mean

import pytest

from k2model.planning.goodput import DAY, LLAMA_3_FAILURES, Interruptions, goodput, recommended_interval, simulate

HOUR = 3_600.0
#: 3,200 GPUs at Llama 3's rate; the other times are a cluster's that pulls images and has slow nodes.
K2 = Interruptions(
    failure_rate=3_200 * LLAMA_3_FAILURES, save_blocks=5, save_lands=120, restart=600, image_pull=300, new_node=0.6,
    straggler_rate=1 / (10 * DAY), straggler_slows=1.25, straggler_lasts=HOUR,
)  # fmt: skip
PRETRAIN = 50 * DAY


def test_the_rate_of_llama_3() -> None:
    assert PRETRAIN * K2.failure_rate == pytest.approx(419 * 50 / 54 * 3_200 / 16_384)
    assert 1.4 < DAY * K2.failure_rate < 1.6


@pytest.mark.parametrize(
    "met",
    [
        K2,
        replace(K2, save_blocks=60, save_lands=1_500),
        replace(K2, failure_rate=10 * K2.failure_rate),
        replace(K2, straggler_rate=1 / DAY, straggler_slows=2.0, straggler_lasts=2 * HOUR),
        replace(K2, restart=3 * HOUR, new_node=1.0, image_pull=HOUR),
    ],
)
@pytest.mark.parametrize("interval", [1_700.0, 3 * HOUR])
def test_formula_and_simulation_agree(met: Interruptions, interval: float) -> None:
    played = [simulate(PRETRAIN, interval, met, seed) for seed in range(40)]
    assert goodput(interval, met) == pytest.approx(mean(job.goodput for job in played), rel=0.02)
    assert mean(job.failures for job in played) == pytest.approx(
        met.failure_rate * mean(job.wall for job in played), rel=0.1
    )


def test_without_failures_only_saves_and_stragglers_cost() -> None:
    calm = Interruptions(save_blocks=10)
    assert goodput(90, calm) == 0.9
    assert simulate(900, 90, calm).wall == 900 + 9 * 10  # none after the last
    assert math.isinf(recommended_interval(calm))
    slow = Interruptions(straggler_rate=1.0, straggler_slows=2.0, straggler_lasts=1e6)
    assert goodput(1, slow) == pytest.approx(0.5)


def test_a_failure_takes_what_had_not_landed() -> None:
    met = Interruptions(failure_rate=1e-4, save_lands=50, restart=7)
    played = simulate(40_000, 100, met, seed=3)
    assert played.failures
    assert played.wall == pytest.approx(played.work + played.repeated + 7 * played.failures, abs=7 * played.failures)
    assert played.repeated <= (100 + 50) * played.failures


def test_recommended_interval_is_where_goodput_is_best() -> None:
    for met in (K2, replace(K2, save_blocks=60), replace(K2, failure_rate=30 * K2.failure_rate)):
        best = recommended_interval(replace(met, save_lands=0))
        for other in (best / 3, best / 1.5, best * 1.5, best * 3):
            assert goodput(best, met) > goodput(other, met)
    assert recommended_interval(replace(K2, save_lands=2 * HOUR)) == 2 * HOUR
    young = math.sqrt(2 * K2.save_blocks / K2.failure_rate)
    assert recommended_interval(K2) == pytest.approx(young, rel=0.05)
