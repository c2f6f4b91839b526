"""K2's suites, read from `suites.toml`: which tasks they have, and the averages over their scores.

A task is one score, or several of which it is the mean. Installed tasks of the harness that stand in no suite are named
by their file: `harness:arc/arc_easy.yaml`.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any

from k2model.documents.markup import EFFORTS
from k2model.errors import EvaluationError, nearest
from k2model.recipe.repeats import repeated_scores
from k2model.recipe.task_files import INSTALLED

MEAN = "mean"  # as a row's measure: the mean over all answers
STOCK = INSTALLED  # before the file of an installed task that no suite has
CHAT = "chat"
MODES = ("completion", "think", CHAT)
DEFAULTS = ("mode", "temperature", "top_p", "max_new_tokens")  # that a suite may state for all its tasks


@dataclass(frozen=True)
class HarnessTask:
    """A row of `suites.toml`, whose head says what the fields mean. shots: None = what the task's file says."""

    name: str
    files: tuple[str, ...]
    suite: str = ""
    shots: int | None = 0
    metric: str = ""
    filter: str = ""
    scores: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    mode: str = "completion"
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 0
    repeats: int = 1
    measure: str = MEAN
    grade: str = ""
    grade_cut_off: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """What of it bears on its scores, as JSON."""
        left_out = ("suite", "tags", "note")
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    def score_name(self, score: str, effort: str) -> str:
        """`gsm8k`, `ruler@4096`; of a chat with its effort, `mmlu_pro/high`."""
        name = f"{self.name}@{score}" if self.scores else self.name
        return f"{name}/{effort}" if self.mode == CHAT else name

    def score_names(self, effort: str) -> list[str]:
        """Those that its value is the mean of: of repeats what counts of them, `humaneval_64/pass@64`."""
        names = [self.score_name(score, effort) for score in self.scores or (self.metric,)]
        return names if self.measure == MEAN else [f"{name}/{self.measure}" for name in names]

    def value(self, scores: Mapping[str, float], effort: str = "high") -> float | None:
        """Its value of the values of scores by name, as averages take it; None where one of its scores is missing."""
        values = [scores.get(name) for name in self.score_names(effort)]
        found = [value for value in values if value is not None]
        return sum(found) / len(values) if len(found) == len(values) else None


@dataclass(frozen=True)
class Suite:
    """pooled_checkpoints: neighbours whose scores stand behind one printed average."""

    name: str
    title: str
    pooled_checkpoints: int
    categories: tuple[str, ...]
    tasks: tuple[HarnessTask, ...]

    @property
    def has_chats(self) -> bool:
        """Whether an effort makes a difference."""
        return any(task.mode == CHAT for task in self.tasks)


@cache
def known_suites() -> dict[str, Suite]:
    """All suites by name. Raises EvaluationError for a table that cannot be read as it stands."""
    return parse_suites(files("k2model.evals.harness").joinpath("suites.toml").read_text(encoding="utf-8"))


def parse_suites(text: str) -> dict[str, Suite]:
    """The suites of a TOML text. Raises EvaluationError with suite, task and field."""
    return {name: _suite(name, table) for name, table in tomllib.loads(text).items()}


def tasks_named(names: Iterable[str]) -> list[HarnessTask]:
    """The tasks of each name, in order, each once: a suite, `suite/task`, a task's name where one suite has it, or
    `harness:` and the file of an installed task. Raises EvaluationError for another name."""
    known = {f"{suite.name}/{task.name}": task for suite in known_suites().values() for task in suite.tasks}
    tasks: list[HarnessTask] = []
    for name in names:
        if name.startswith(STOCK):
            path = name.removeprefix(STOCK)
            named = [HarnessTask(path.rpartition("/")[2].removesuffix(".yaml"), (path,), shots=None)]
        elif name in known_suites():
            named = list(known_suites()[name].tasks)
        else:
            named = [task for key, task in known.items() if name in (key, task.name)]
        if len(named) != 1 and name not in known_suites():
            others = dict.fromkeys(task.name for task in known.values())
            what = f"stands in several suites: {' and '.join(one.suite for one in named)}" if named else "is none"
            raise EvaluationError(
                f"'{name}' {what}; expected a suite, a task as suite/name, or {STOCK}FILE for an installed task of the "
                f"harness; {nearest(name, [*known_suites(), *known, *others])}"
            )
        tasks += [task for task in named if task not in tasks]
    return tasks


def at_effort(name: str) -> tuple[str, str]:
    """A name without the effort that it ends with (`k2_instruct/low`), and that; high where it names none."""
    base, _, effort = name.rpartition("/")
    return (base, effort) if base and effort in EFFORTS else (name, "high")


def tasks_at(names: Iterable[str]) -> list[tuple[HarnessTask, str]]:
    """The tasks of each name with the effort that chats are asked at, in order, each pair once.

    Raises EvaluationError as `tasks_named`, and for an effort of what is no chat.
    """
    found: list[tuple[HarnessTask, str]] = []
    for name in names:
        base, effort = at_effort(name)
        tasks = tasks_named([base])
        if base != name and not any(task.mode == CHAT for task in tasks):
            raise EvaluationError(f"'{name}' names an effort, and '{base}' is asked in no chat; leave it out")
        pairs = [(task, effort if task.mode == CHAT else "high") for task in tasks]
        found += [pair for pair in pairs if pair not in found]
    return found


@dataclass(frozen=True)
class Averages:
    """Of a suite's tasks with tags, each score times 100. `overall` and `categories` follow K2's rule: 0 where a member
    is 0 or missing. `overall_there` and `categories_there` are the plain means of what is there, None of nothing."""

    overall: float
    overall_there: float | None
    categories: Mapping[str, float]
    categories_there: Mapping[str, float | None]
    missing: tuple[str, ...]


def averages(suite: Suite, checkpoints: Sequence[Mapping[str, float]]) -> Averages:
    """K2's averages (Eval360, scripts/display/common.py).

    checkpoints: of each of the neighbours that are pooled, oldest first, the value of each task by its name, 0 to 1.
    All of them stand behind `overall`; the categories are those of the last, as Eval360 prints them.

    Raises EvaluationError when there are not as many as the suite pools.
    """
    if len(checkpoints) != suite.pooled_checkpoints:
        raise EvaluationError(
            f"{suite.name} averages over {suite.pooled_checkpoints} neighbouring checkpoints, not {len(checkpoints)}"
        )
    counted = [task for task in suite.tasks if task.tags]
    pooled = [(task.name, scores.get(task.name)) for scores in checkpoints for task in counted]
    members = {
        category: [checkpoints[-1].get(task.name) for task in counted if category in task.tags]
        for category in suite.categories
    }
    values = [value for _, value in pooled]
    return Averages(
        _strict(values),
        _there(values),
        {category: _strict(own) for category, own in members.items()},
        {category: _there(own) for category, own in members.items()},
        tuple(dict.fromkeys(name for name, value in pooled if value is None)),
    )


def averages_along(
    suite: Suite, phases: Sequence[str], scores: Sequence[Mapping[str, float]], effort: str = "high"
) -> list[tuple[int, Averages]]:
    """At each of the checkpoints, oldest first, how many neighbours stand behind its averages, and these: as many as
    the suite pools, fewer at the beginning of a phase, over whose border none are pooled.

    phases: of each checkpoint; scores: the values of each by their names.
    """
    values = [
        {task.name: value for task in suite.tasks if (value := task.value(own, effort)) is not None} for own in scores
    ]
    found = []
    for place, phase in enumerate(phases):
        neighbours = [one for one in range(place + 1) if phases[one] == phase][-suite.pooled_checkpoints :]
        pooled = replace(suite, pooled_checkpoints=len(neighbours))
        found.append((len(neighbours), averages(pooled, [values[one] for one in neighbours])))
    return found


def _strict(values: Sequence[float | None]) -> float:
    there = [value for value in values if value]
    return 100 * sum(there) / len(there) if there and len(there) == len(values) else 0.0


def _there(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return 100 * sum(there) / len(there) if there else None


def _suite(name: str, table: Mapping[str, Any]) -> Suite:
    stated = {key: value for key, value in table.items() if key not in ("tasks", *DEFAULTS)}
    for key in stated:
        if key not in ("title", "pooled_checkpoints", "categories"):
            raise EvaluationError(
                f"suite {name}: field '{key}' is not known; {nearest(key, [f.name for f in fields(Suite)])}"
            )
    defaults = {key: table[key] for key in DEFAULTS if key in table}
    tasks = tuple(_task(name, task, defaults | row) for task, row in table["tasks"].items())
    return Suite(name, table["title"], table["pooled_checkpoints"], tuple(table["categories"]), tasks)


def _task(suite: str, name: str, row: Mapping[str, Any]) -> HarnessTask:
    where = f"suite {suite}: task {name}"
    known = [one.name for one in fields(HarnessTask)]
    for key in row:
        if key not in known:
            raise EvaluationError(f"{where}: field '{key}' is not known; {nearest(key, known)}")
    if row.get("mode", "completion") not in MODES:
        raise EvaluationError(f"{where}: mode '{row['mode']}' is none; {nearest(row['mode'], MODES)}")
    measure = row.get("measure", MEAN)
    measures = [MEAN, *(one.removeprefix("/") for one in repeated_scores("", row.get("repeats", 1)))]
    if measure not in measures:
        raise EvaluationError(f"{where}: measure '{measure}' is none of its repeats'; {nearest(measure, measures)}")
    if not row.get("files") or not (row.get("metric") or row.get("scores")):
        raise EvaluationError(f"{where}: needs files, and a metric or scores")
    lists = {key: tuple(value) for key, value in row.items() if isinstance(value, list)}
    return HarnessTask(**{**row, **lists, "name": name, "suite": suite})
