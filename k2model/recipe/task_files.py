"""A task in a file of its own: YAML with the fields of a `BenchmarkConfig`, one task or a list of them.

Its items lie where `location` and `examples` say, from the YAML file's folder on, so that both can be moved together.
A field that there is not, or a value of another type, is refused with the nearest name.
"""

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from k2model.recipe.evaluation import BenchmarkConfig, EvaluationConfig, benchmarks_problem
from k2model.recipe.overrides import OverrideError, apply_overrides
from k2model.recipe.schema import Recipe
from k2model.recipe.tasks import FAMILIES, LOSS

YAML = (".yaml", ".yml")
INSTALLED = "harness:"  # before the YAML of a public task that lm-evaluation-harness brings, which is no file of ours
ADDED = "benchmarks.+"  # where an override adds rows: what a file holds is checked as that


def read_tasks(path: str) -> tuple[BenchmarkConfig, ...]:
    """The tasks of a YAML file, a path or URI. Raises OverrideError with file, field and what was expected."""
    try:
        rows = apply_overrides(EvaluationConfig(), {ADDED: _parsed(path)}).benchmarks
    except OverrideError as error:
        said = str(error).replace(f"override '{ADDED}.", "field '").replace(f"override '{ADDED}'", "a task")
        raise OverrideError(f"{path}: {said}") from None
    tasks = tuple(_placed(one, path) for one in rows)
    if problem := benchmarks_problem(tasks, (*FAMILIES, LOSS)):
        raise OverrideError(f"{path}: {problem}")
    return tasks


def with_task_files(recipe: Recipe) -> Recipe:
    """A recipe whose benchmarks are its own and those of its task files, which are then as if it named them itself."""
    evaluation = recipe.evaluation
    if not evaluation.task_files:
        return recipe
    found = [task for path in evaluation.task_files for task in read_tasks(path)]
    benchmarks = (*evaluation.benchmarks, *found)
    return replace(recipe, evaluation=replace(evaluation, benchmarks=benchmarks, task_files=()))


def questions_of(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[BenchmarkConfig, ...]]:
    """(Names of tasks, tasks of one's own) of what a person names: tasks and families, and files of tasks. Raises
    OverrideError as `read_tasks`, and for two tasks of one name."""
    names = list(dict.fromkeys(names))
    files = [name for name in names if name.endswith(YAML) and not name.startswith(INSTALLED)]
    own = tuple(task for name in files for task in read_tasks(name))
    if twice := sorted({task.name for task in own if sum(task.name == other.name for other in own) > 1}):
        raise OverrideError(f"{', '.join(files)}: a task '{twice[0]}' stands there twice; give each a name of its own")
    return (*(name for name in names if name not in files), *(task.name for task in own)), own


def _parsed(path: str) -> list[Any]:
    import fsspec
    import yaml

    try:
        with fsspec.open(path, "r", encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except FileNotFoundError as error:
        raise OverrideError("there is no such file") from error
    except (OSError, ValueError, RecursionError, ImportError, yaml.YAMLError) as error:
        raise OverrideError(f"it cannot be read as YAML ({error})") from error
    rows = content if isinstance(content, list) else [content]
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise OverrideError(
            "expected the fields of a task (name, location, prompt, answer, check, ...), or a list of tasks"
        )
    return rows


def _placed(task: BenchmarkConfig, path: str) -> BenchmarkConfig:
    return replace(task, location=_beside(task.location, path), examples=_beside(task.examples, path))


def _beside(location: str, path: str) -> str:
    if not location or "://" in location or posixpath.isabs(location):
        return location
    return posixpath.join(posixpath.dirname(path), location)
