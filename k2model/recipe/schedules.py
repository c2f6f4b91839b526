"""Learning rates as functions of the step, what is wrong with a schedule, and what it means for weights that decay.

The rate is a pure function of the step: a resumed run needs no scheduler state, and a plan knows it before anything
runs. `infinite` is that of Ibrahim et al. (arXiv:2403.08763) and Singh et al. (arXiv:2503.02844): linear warm-up, a
cosine down to a constant, the constant for as long as data come, and before a release an exponential to the floor.
A phase cut in two gives the same rates, if the second half begins on the constant.
"""

import math

from k2model.recipe.schema import PhaseConfig, ScheduleConfig, ScheduleShape

_INFINITE = ("cooldown_steps", "constant_fraction", "anneal_steps")


def learning_rate(step: int, steps: int, peak: float, schedule: ScheduleConfig) -> float:
    """Learning rate of 0-based `step` of a phase of `steps` steps.

    Linear warm-up reaches `peak` at step `warmup_steps - 1` (step 0 already learns). From step
    `warmup_steps` on the shape falls from `peak` to `final_fraction * peak`, which the phase's last
    step has; `constant` stays at `peak` whatever `final_fraction` says, and so does `infinite` on its
    constant where it has no `anneal_steps`.

    Raises:
        ValueError: `step` is outside 0..steps-1.
    """
    if not 0 <= step < steps:
        raise ValueError(f"step {step} is outside a phase of {steps} steps")
    if step < schedule.warmup_steps:
        return peak * (step + 1) / schedule.warmup_steps
    if schedule.shape is ScheduleShape.CONSTANT:
        return peak
    done = step - schedule.warmup_steps
    if schedule.shape is ScheduleShape.INFINITE:
        return peak * _infinite(done, steps - step, schedule)
    span = steps - 1 - schedule.warmup_steps
    progress = done / span if span > 0 else 0.0
    floor = schedule.final_fraction
    if schedule.shape is ScheduleShape.LINEAR:
        return peak * (1.0 - (1.0 - floor) * progress)
    return peak * (floor + (1.0 - floor) * _half_cosine(progress))


def _infinite(done: int, left: int, schedule: ScheduleConfig) -> float:
    """The share of the peak, `done` steps after the warm-up with `left` steps to go, this one among them."""
    constant, anneal = schedule.constant_fraction, schedule.anneal_steps
    if left <= anneal:
        return float(constant * (schedule.final_fraction / constant) ** ((anneal - left + 1) / anneal))
    if done < schedule.cooldown_steps:
        return constant + (1.0 - constant) * _half_cosine(done / schedule.cooldown_steps)
    return constant


def _half_cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def schedule_problem(phase: PhaseConfig) -> str | None:
    """The first thing wrong with the schedule of a phase, field and remedy named; None when nothing is."""
    schedule, where = phase.schedule, f"phases.{phase.name}.schedule"
    for name in ("warmup_steps", "cooldown_steps", "anneal_steps"):
        if getattr(schedule, name) < 0:
            return f"{where}.{name}={getattr(schedule, name)} must be at least 0"
    if schedule.warmup_steps >= phase.steps:
        return f"{where}.warmup_steps={schedule.warmup_steps} must be below steps={phase.steps}"
    if not 0 <= schedule.final_fraction <= 1:
        return f"{where}.final_fraction={schedule.final_fraction} must be a share of the peak, from 0 to 1"
    if schedule.shape is not ScheduleShape.INFINITE:
        idle = next((name for name in _INFINITE if getattr(schedule, name)), "")
        said = f"{where}.{idle} has no effect with shape={schedule.shape.value}; set shape=infinite, or drop it"
        return said if idle else None
    if not 0 < schedule.constant_fraction <= 1:
        return (
            f"{where}.constant_fraction={schedule.constant_fraction} must be the constant of shape=infinite as a share "
            "of the peak, above 0 to 1, e.g. 0.5"
        )
    taken = schedule.warmup_steps + schedule.cooldown_steps + schedule.anneal_steps
    if taken > phase.steps:
        return (
            f"{where}: warmup_steps, cooldown_steps and anneal_steps are {taken} together, more than steps="
            f"{phase.steps}; lower one of them, or raise steps"
        )
    if schedule.anneal_steps and not 0 < schedule.final_fraction <= schedule.constant_fraction:
        return (
            f"{where}.final_fraction={schedule.final_fraction}: an anneal falls by equal factors from "
            f"constant_fraction={schedule.constant_fraction} and never reaches 0; set it above 0 and not above the "
            "constant, or anneal_steps=0"
        )
    return None


def averaging_steps(phase: PhaseConfig) -> float:
    """Over how many steps the weights of a phase are an average, at its peak rate: 1 / (lr x weight_decay).

    With decoupled decay a step is w <- (1 - lr wd) w - lr u, so that weights are an exponential moving average of the
    updates -u / wd (Wang & Aitchison, arXiv:2405.13698). Infinite without decay: all updates add up.
    """
    rate = phase.optimizer.lr * phase.optimizer.weight_decay
    return 1.0 / rate if rate else math.inf


def kept_of_start(phase: PhaseConfig) -> float:
    """The share that the weights a phase starts from still have in that average at its end: the product of
    1 - lr wd over its steps, by its schedule."""
    peak, decay = phase.optimizer.lr, phase.optimizer.weight_decay
    rates = (learning_rate(step, phase.steps, peak, phase.schedule) for step in range(phase.steps))
    return math.prod(max(0.0, 1.0 - rate * decay) for rate in rates)
