"""Public benchmarks through lm-evaluation-harness, on any backend: K2's two suites, and any installed task.

    results = run(["k2_base"], backend, limit=100)  # one TaskResult for each task: its items, or what is absent

`suites` are the declared groups with their averages, `run` asks and marks, `HarnessModel` is the adapter for whoever
drives the harness themselves. Nothing is fetched (docs/harness.md). Loads the harness when a name is first used.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "HarnessModel": "adapter",
        "HarnessTask": "suites",
        "Suite": "suites",
        "TaskResult": "run",
        "averages": "suites",
        "run": "run",
        "run_task": "run",
        "suites": "suites",
        "tasks_named": "suites",
    },
)
