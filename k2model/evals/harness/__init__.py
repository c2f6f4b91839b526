"""Public benchmarks through lm-evaluation-harness, on any backend: K2's two suites, and any installed task.

    results = run(["k2_base"], backend, limit=100)  # one TaskResult for each task: its items, or what is absent

`known_suites` are the declared groups, `averages` what stands over their scores, `prepare` looks for a task's data,
`measure_of` makes a cell's measure of it, and `HarnessModel` is the adapter for whoever drives the harness themselves.
Nothing is fetched (docs/harness.md). Loads the harness when a name is first used.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "HarnessModel": "adapter",
        "HarnessTask": "suites",
        "Suite": "suites",
        "TaskResult": "asking",
        "at_effort": "suites",
        "averages": "suites",
        "averages_along": "suites",
        "evaluation_items": "overlap_items",
        "run": "asking",
        "prepare": "asking",
        "known_suites": "suites",
        "measure_of": "asking",
        "tasks_at": "suites",
        "tasks_named": "suites",
    },
)
