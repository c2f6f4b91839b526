"""A new interpreter that runs one training task and notes when it got how far; started by `benchmarks.startup`.

The notes are taken by wrapping functions on the way. Nothing is imported for them that the run would not
import at that point itself.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psutil

from benchmarks.peers import workload
from benchmarks.peers.workload import Trial
from k2model.recipe.schema import Precision


def main(store: str, marks: str) -> None:
    before_fork = 0.0  # processor seconds of the agent, which a forked worker's own clock does not hold

    def mark(name: str) -> None:
        if os.environ.get("RANK", "0") == "0":
            with open(marks, "a") as file:
                file.write(f"{name} {time.time()} {before_fork + time.process_time()}\n")

    mark("interpreter and data")
    from k2model.artifacts import make
    from k2model.lifecycle import LifecyclePlan
    from tasks import training

    mark("tasks and flytekit imported")

    def in_worker(*arguments: Any) -> Any:
        nonlocal before_fork
        agent = psutil.Process(os.getppid()).cpu_times()
        before_fork = agent.user + agent.system
        mark("worker running")
        import deepspeed  # noqa: F401

        mark("DeepSpeed imported")
        from k2model.training import attempt

        mark("training imported")
        _around(attempt.Engine, "__init__", "engine built", mark)
        _around(attempt.Engine, "step", "first step done", mark)
        return make(*arguments)

    setattr(training, "make_step", in_worker)  # noqa: B010  a wrapper of looser type
    trial = Trial("dense", store, warmup=0, timed=1, precision=Precision.FP32)
    recipe = replace(training.RECIPE, model=workload.MODEL, phases=(replace(trial.phase, name="sft"),))
    training.TRAIN_TASKS["sft"].execute(
        step="checkpoint",
        phase="sft",
        plan=LifecyclePlan(recipe, store),
        inputs={"sequences": workload.rows(trial)},
    )


def _around(owner: Any, name: str, reached: str, mark: Callable[[str], None]) -> None:
    wrapped = getattr(owner, name)

    def noting(*arguments: Any, **named: Any) -> Any:
        result = wrapped(*arguments, **named)
        mark(reached)
        return result

    setattr(owner, name, noting)


if __name__ == "__main__":
    main(*sys.argv[1:])
