"""Learning rates against values computed by hand."""

import pytest

from k2model.recipe.schema import ScheduleConfig, ScheduleShape
from k2model.training import learning_rate


def rates(schedule: ScheduleConfig, steps: int) -> list[float]:
    return [learning_rate(step, steps, 8.0, schedule) for step in range(steps)]


def test_linear_warms_up_then_falls_to_its_floor() -> None:
    schedule = ScheduleConfig(ScheduleShape.LINEAR, warmup_steps=4, final_fraction=0.25)
    assert rates(schedule, 9) == pytest.approx([2, 4, 6, 8, 8, 6.5, 5, 3.5, 2])


def test_cosine_is_half_way_at_the_middle() -> None:
    schedule = ScheduleConfig(ScheduleShape.COSINE, warmup_steps=0, final_fraction=0.0)
    assert rates(schedule, 5) == pytest.approx([8, 8 * 0.8535533905932737, 4, 8 * 0.14644660940672627, 0])


def test_constant_ignores_the_floor() -> None:
    schedule = ScheduleConfig(ScheduleShape.CONSTANT, warmup_steps=2, final_fraction=0.1)
    assert rates(schedule, 4) == [4, 8, 8, 8]


def test_one_step_after_the_warm_up_has_the_peak() -> None:
    assert rates(ScheduleConfig(ScheduleShape.COSINE, warmup_steps=1, final_fraction=0.1), 2) == [8, 8]


@pytest.mark.parametrize("step", [-1, 5])
def test_a_step_outside_the_phase_is_refused(step: int) -> None:
    with pytest.raises(ValueError, match="outside a phase of 5 steps"):
        learning_rate(step, 5, 1.0, ScheduleConfig(ScheduleShape.CONSTANT))
