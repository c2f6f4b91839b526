"""Learning rates against values computed by hand."""

import math
from dataclasses import replace

import pytest

from k2model.recipe import load_recipe
from k2model.recipe.fields import identity_fields
from k2model.recipe.schedules import averaging_steps, kept_of_start, schedule_problem
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


def test_infinite_warms_up_cools_to_its_constant_and_stays() -> None:
    schedule = ScheduleConfig(ScheduleShape.INFINITE, warmup_steps=2, cooldown_steps=4, constant_fraction=0.25)
    down = [8, 2 + 6 * 0.8535533905932737, 5, 2 + 6 * 0.14644660940672627]
    assert rates(schedule, 9) == pytest.approx([4, 8, *down, 2, 2, 2])


def test_an_anneal_falls_by_equal_factors_to_the_floor_at_the_last_step() -> None:
    schedule = ScheduleConfig(
        ScheduleShape.INFINITE, warmup_steps=1, final_fraction=0.0625, constant_fraction=0.5, anneal_steps=3
    )
    assert rates(schedule, 6) == pytest.approx([8, 4, 4, 2, 1, 0.5])


@pytest.mark.parametrize("cut", [7, 8, 15])
def test_a_run_that_is_cut_in_two_on_the_constant_has_the_same_rates(cut: int) -> None:
    whole = ScheduleConfig(
        ScheduleShape.INFINITE, 3, 0.01, cooldown_steps=4, constant_fraction=0.4, anneal_steps=4
    )  # fmt: skip
    first = replace(whole, anneal_steps=0)
    second = replace(whole, warmup_steps=0, cooldown_steps=0)
    assert rates(first, cut) + rates(second, 20 - cut) == rates(whole, 20)


def test_fields_of_an_infinite_schedule_bear_no_identity_where_they_are_not_set() -> None:
    names = [field.name for field in identity_fields(ScheduleConfig(ScheduleShape.COSINE, 5, 0.1))]
    assert names == ["shape", "warmup_steps", "final_fraction"]
    set_ones = ScheduleConfig(ScheduleShape.INFINITE, constant_fraction=0.5)
    assert "constant_fraction" in [field.name for field in identity_fields(set_ones)]


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (ScheduleConfig(ScheduleShape.COSINE, cooldown_steps=3), "cooldown_steps has no effect with shape=cosine"),
        (ScheduleConfig(ScheduleShape.INFINITE), "constant_fraction=0.0 must be"),
        (ScheduleConfig(ScheduleShape.INFINITE, constant_fraction=1.5), "constant_fraction=1.5 must be"),
        (ScheduleConfig(ScheduleShape.INFINITE, 5, 1.0, 4, 0.5, 2), "are 11 together, more than steps=10"),
        (ScheduleConfig(ScheduleShape.INFINITE, 0, 0.0, 0, 0.5, 2), "never reaches 0"),
        (ScheduleConfig(ScheduleShape.INFINITE, 0, 0.6, 0, 0.5, 2), "not above the constant"),
        (ScheduleConfig(ScheduleShape.COSINE, 10), "warmup_steps=10 must be below steps=10"),
        (ScheduleConfig(ScheduleShape.COSINE, -1), "warmup_steps=-1 must be at least 0"),
        (ScheduleConfig(ScheduleShape.COSINE, 0, 1.5), "final_fraction=1.5 must be a share"),
        (ScheduleConfig(ScheduleShape.CONSTANT), None),
        (ScheduleConfig(ScheduleShape.INFINITE, 4, 0.5, 4, 0.5, 2), None),
    ],
)
def test_what_a_schedule_contradicts_is_said_with_field_and_remedy(schedule: ScheduleConfig, said: str | None) -> None:
    problem = schedule_problem(replace(load_recipe("smoke").phase("sft"), steps=10, schedule=schedule))
    assert problem is None if said is None else said in (problem or "")


def test_weights_average_over_one_over_rate_and_decay_and_forget_their_start_by_the_schedule() -> None:
    phase = replace(load_recipe("smoke").phase("sft"), steps=4, schedule=ScheduleConfig(ScheduleShape.LINEAR, 0, 0.0))
    phase = replace(phase, optimizer=replace(phase.optimizer, lr=0.3, weight_decay=0.5))
    assert averaging_steps(phase) == pytest.approx(1 / 0.15)
    assert kept_of_start(phase) == pytest.approx(0.85 * 0.9 * 0.95 * 1.0)
    assert averaging_steps(replace(phase, optimizer=replace(phase.optimizer, weight_decay=0.0))) == math.inf
