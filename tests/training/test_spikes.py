"""Verdicts on losses: narrow spikes are ridden out, wide ones and what is not a number are not."""

import math
import random

import pytest

from k2model.recipe.schema import SpikePolicy
from k2model.training.log import Intervention, StepMetrics
from k2model.training.spikes import Spike, SpikeWatch

POLICY = SpikePolicy(window=32, threshold=6.0, narrow=3, margin=2)


def row(step: int, loss: float, grad_norm: float = 1.0) -> StepMetrics:
    return StepMetrics(step, 10 * (step + 1), loss, 1e-3, grad_norm, 8, 100.0, 0.1)


def feed(watch: SpikeWatch, losses: list[float], first: int = 0) -> Spike | None:
    for step, loss in enumerate(losses, first):
        if (verdict := watch.judge(row(step, loss))) is not None:
            return verdict
    return None


def calm(steps: int) -> list[float]:
    noise = random.Random(0)
    return [4.0 - 0.01 * step + noise.gauss(0, 0.05) for step in range(steps)]


@pytest.fixture
def watch() -> SpikeWatch:
    watch = SpikeWatch(POLICY)
    assert feed(watch, calm(40)) is None and not watch.open
    return watch


@pytest.mark.parametrize("height", [5.0, 500.0])
@pytest.mark.parametrize("width", [1, 3])
def test_a_narrow_spike_is_ridden_out_however_high(watch: SpikeWatch, width: int, height: float) -> None:
    history = watch.history
    assert feed(watch, [height] * width, 40) is None
    assert watch.open and watch.history == history, "outliers are no measure of what is ordinary"
    assert feed(watch, [3.6], 40 + width) is None and not watch.open


def test_a_wide_spike_is_undone_from_before_its_first_step(watch: SpikeWatch) -> None:
    spike = feed(watch, [5.0, 6.0, 7.0, 8.0, 9.0], 40)
    assert spike is not None
    assert (spike.first_step, spike.last_step) == (40 - POLICY.margin, 43)
    assert spike.losses == [5.0, 6.0, 7.0, 8.0]
    assert spike.before == pytest.approx(3.75, abs=0.1) and spike.deviation is not None


def test_two_narrow_spikes_do_not_add_up(watch: SpikeWatch) -> None:
    assert feed(watch, [9.0] * 3 + [3.6] + [9.0] * 3 + [3.6], 40) is None


@pytest.mark.parametrize(("loss", "grad_norm"), [(math.nan, 1.0), (math.inf, 1.0), (3.6, math.nan), (3.6, math.inf)])
def test_what_is_not_a_number_is_undone_at_once(watch: SpikeWatch, loss: float, grad_norm: float) -> None:
    spike = watch.judge(row(40, loss, grad_norm))
    assert spike is not None and (spike.first_step, spike.last_step) == (38, 40)
    assert "step 40" in spike.reason


def test_not_a_number_at_the_very_first_step_is_undone_too() -> None:
    spike = SpikeWatch(POLICY).judge(row(0, math.nan))
    assert spike is not None and (spike.first_step, spike.before, spike.losses) == (0, None, [None])


def test_a_falling_or_noisy_loss_is_no_spike() -> None:
    assert feed(SpikeWatch(POLICY), calm(400)) is None
    assert feed(SpikeWatch(POLICY), [10.0 / (1 + step / 5) for step in range(200)]) is None
    assert feed(SpikeWatch(POLICY), [2.0] * 100) is None
    assert feed(SpikeWatch(POLICY), [2.0 + 1e-4 * (step % 2) for step in range(100)] + [2.001] * 20) is None


def test_the_threshold_is_in_robust_deviations(watch: SpikeWatch) -> None:
    """By hand: 32 losses 1..32 have median 16.5, median absolute deviation 8, so 1.4826 x 8 x 6 = 71.2 above."""
    watch = SpikeWatch(POLICY, [float(n) for n in range(1, 33)])
    assert watch.judge(row(0, 16.5 + 71.1)) is None and not watch.open
    watch = SpikeWatch(POLICY, [float(n) for n in range(1, 33)])
    assert watch.judge(row(0, 16.5 + 71.2)) is None and watch.open


def test_a_watch_goes_on_from_the_history_of_another(watch: SpikeWatch) -> None:
    other = SpikeWatch(POLICY, watch.history)
    tail = [3.6, 3.7, 9.0, 9.0, 9.0, 9.0]
    assert feed(other, tail, 40) == feed(watch, tail, 40) is not None


def test_an_intervention_survives_its_record() -> None:
    made = Intervention("wide", 38, 43, 20, 3.7, 0.1, [5.0, None], 3.65)
    assert Intervention(**made.record()) == made
    assert [step for step in range(50) if made.skips(step)] == list(range(38, 44))
