"""The learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

import math

from k2model.recipe.schema import ScheduleConfig, ScheduleShape


def learning_rate(step: int, steps: int, peak: float, schedule: ScheduleConfig) -> float:
    """Learning rate of 0-based `step` of a phase of `steps` steps.

    Linear warm-up reaches `peak` at step `warmup_steps - 1` (step 0 already learns). From step
    `warmup_steps` on the shape falls from `peak` to `final_fraction * peak`, which the phase's last
    step has; `constant` stays at `peak` whatever `final_fraction` says.

    Raises:
        ValueError: `step` is outside 0..steps-1.
    """
    if not 0 <= step < steps:
        raise ValueError(f"step {step} is outside a phase of {steps} steps")
    if step < schedule.warmup_steps:
        return peak * (step + 1) / schedule.warmup_steps
    span = steps - 1 - schedule.warmup_steps
    progress = (step - schedule.warmup_steps) / span if span > 0 else 0.0
    return peak * _fraction(schedule, progress)


def _fraction(schedule: ScheduleConfig, progress: float) -> float:
    """Share of the peak after `progress` (0..1) of the way behind the warm-up."""
    floor = schedule.final_fraction
    if schedule.shape is ScheduleShape.CONSTANT:
        return 1.0
    if schedule.shape is ScheduleShape.LINEAR:
        return 1.0 - (1.0 - floor) * progress
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
