"""The harness's own task objects, made of a row of a suite: its YAML with our changes, on data that lie here.

Three things differ from loading a task the stock way. Functions that a row replaces are never imported (HumanEval's
runs code and wants the network when it is). Documents are processed once: a task that shuffles its choices would
otherwise show one order and mark by another. And no item is ever among its own examples, whichever split these come
from.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from k2model.errors import EvaluationError
from k2model.evals.harness.data import Absent, Found, find_dataset, find_made
from k2model.evals.harness.suites import HarnessTask

SHOTS_SEED = 1234  # the harness's own default: the same examples as there
DOCUMENTS_SEED = 0  # of tasks that draw while they process their documents


@dataclass(frozen=True)
class Built:
    """A task of the harness that can be asked. config: what it was made of, without functions and places, as JSON."""

    task: Any
    config: Mapping[str, Any]
    data: Found

    @property
    def name(self) -> str:
        return str(self.task.task_name)

    @property
    def record(self) -> dict[str, Any]:
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True, default=str).encode()).hexdigest()
        return {
            "version": self.task.VERSION,
            "config": digest[:16],
            "shots": self.task.config.num_fewshot,
            "data": {"place": self.data.place, "digests": self.data.digests},
        }


def files_of(task: HarnessTask) -> list[Path]:
    """The YAML files of a row, in order. Raises EvaluationError for one that the installed harness does not have."""
    found = []
    for pattern in task.files:
        own = sorted(_folder().glob(pattern))
        if not own:
            raise EvaluationError(f"task '{task.name}': the installed harness has no {pattern} in {_folder()}")
        found += own
    return found


def build(task: HarnessTask, file: Path) -> Built:
    """One task of the harness. Raises Absent when its data, or a package that it imports, are not on this machine."""
    from lm_eval.api.task import ConfigurableTask

    config = _config(task, file)
    stated = {key: str(value).replace(str(_folder()), "") for key, value in config.items()}
    with quiet():
        made, lacking = _with_functions(config)
        data = _data(config, file, lacking)
        made |= {"dataset_path": data.place, "dataset_kwargs": None, "custom_dataset": lambda **_: data.splits}
        if made.get("process_docs"):
            made["process_docs"] = _once(made["process_docs"])
        try:
            built = ConfigurableTask(config=made)
        except KeyError as error:
            raise Absent(
                f"{config['task']}: {data.place} has no {error}, only {', '.join(data.splits)}; get the whole dataset"
            ) from error
    built.set_fewshot_seed(SHOTS_SEED)
    _never_its_own_example(built)
    return Built(built, stated, data)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the harness's progress bars and notes, of which nobody here is the reader."""
    import datasets

    loggers, bars = [logging.getLogger(name) for name in ("lm_eval", "datasets")], datasets.is_progress_bar_enabled()
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with mock.patch("lm_eval.api.task.tqdm", lambda rows, **_: rows):
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()


@cache
def _folder() -> Path:
    import lm_eval.tasks

    return Path(lm_eval.tasks.__file__).resolve().parent  # as the harness itself writes paths


def _config(task: HarnessTask, file: Path) -> dict[str, Any]:
    """The YAML of an installed task with its includes, functions by name, and the row's changes."""
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(file, resolve_func=False)
    for key in ("tag", "group", "task_list", "repeats", "unsafe_code", "custom_dataset"):
        config.pop(key, None)
    if task.shots is not None:
        config["num_fewshot"] = task.shots
    if task.grade:  # our own marks: nothing of theirs is imported or run
        config["metric_list"] = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
        config.pop("process_results", None)
        config.pop("filter_list", None)
    config |= task.changes
    return {key: value for key, value in config.items() if key not in task.changes or value != ""}


def _data(config: Mapping[str, Any], file: Path, lacking: str) -> Found:
    """A task's data. Raises Absent for that and for the package that it is `lacking`, both in one message."""
    path, name = config.get("dataset_path"), config.get("dataset_name") or None
    try:
        found = find_dataset(path, name) if path else find_made(f"{file.parent.name}/{config['task']}")
    except Absent as error:
        raise Absent("; ".join(filter(None, [str(error), lacking])), error.what) from error
    if lacking:
        raise Absent(lacking)
    return found


def _with_functions(config: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A configuration with its functions, which stand in it as the installed file and name; and what package is not
    installed that they import, "" = none."""
    lacking: dict[str, None] = {}

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: resolved(one) for key, one in value.items()}
        if isinstance(value, list):
            return [resolved(one) for one in value]
        if isinstance(value, str) and value.startswith(f"{_folder()}/"):
            try:
                return _imported(value)
            except ImportError as error:
                lacking[f"{config['task']}: its code needs a package that is not installed ({error})"] = None
        return value

    return resolved(dict(config)), "; ".join(lacking)


def _imported(name: str) -> Callable[..., Any]:
    """A function of a task's module. Two modules do at import what nobody wants here: Minerva's stops unless antlr is
    4.11 exactly, for a check that is not used; MBPP's fetches a metric and runs a program. Neither happens, and modules
    that were imported so are forgotten, so that nobody else is handed them."""
    import sys

    from lm_eval.tasks._yaml_loader import _import_fun_from_str

    true_version = importlib.metadata.version

    def version(package: str) -> str:
        return "4.11.0" if package == "antlr4-python3-runtime" else true_version(package)

    before = set(sys.modules)
    with mock.patch("importlib.metadata.version", version), mock.patch("evaluate.load", mock.MagicMock()):
        function: Callable[..., Any] = _import_fun_from_str(name)
    for module in set(sys.modules) - before:
        if module.startswith("lm_eval.tasks."):
            del sys.modules[module]
    return function


def _once(process: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Documents as they were processed when it was first asked, whatever it draws."""
    done: list[tuple[Any, Any]] = []

    def processed(documents: Any) -> Any:
        for given, made in done:
            if given is documents:
                return made
        state = random.getstate()
        random.seed(DOCUMENTS_SEED)
        try:
            done.append((documents, process(documents)))
        finally:
            random.setstate(state)
        return done[-1][1]

    return processed


class _Examples:
    """A task's sampler of examples, without the item that is asked: what it draws, and where that holds the item, a
    draw from the others."""

    def __init__(self, task: Any) -> None:
        self.task, self.theirs = task, task.sampler
        self.asked: Any = None

    def sample(self, n: int, eval_doc: Any = None, **more: Any) -> Sequence[Any]:
        """Raises EvaluationError when there are not `n` others."""
        try:
            drawn = list(self.theirs.sample(n, eval_doc, **more))
        except (ValueError, AssertionError) as error:  # more than there are
            raise self._too_few(n, len(self.theirs.df)) from error
        kept = [one for one in drawn if not self._is_asked(one)]
        if len(kept) == n:
            return drawn
        others = [one for one in self.theirs.fewshot_docs() if not self._is_asked(one) and one not in kept]
        if len(kept) + len(others) < n:
            raise self._too_few(n, len(kept) + len(others))
        return [*kept, *others][:n]

    def _too_few(self, wanted: int, there: int) -> EvaluationError:
        return EvaluationError(
            f"{self.task.task_name}: {wanted} examples are to be shown and its data have {there} beside the item that "
            "is asked; get the whole dataset, or lower the shots"
        )

    def _is_asked(self, example: Any) -> bool:
        """By what is shown: the same item may have been processed in another way for an example."""
        return bool(example == self.asked or self._shown(example) == self._shown(self.asked))

    def _shown(self, doc: Any) -> Any:
        text = self.task.doc_to_text(doc)
        # Of a task like WinoGrande that is the index of a choice; its choices are the question.
        return text if isinstance(text, str) else (self.task.doc_to_choice(doc), self.task.doc_to_target(doc))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.theirs, name)


def _never_its_own_example(task: Any) -> None:
    if not task.config.num_fewshot:
        return
    examples = task.sampler = _Examples(task)
    context = task.fewshot_context

    def fewshot_context(doc: Any, *args: Any, **more: Any) -> Any:
        examples.asked = deepcopy(doc)
        return context(doc, *args, **more)

    task.fewshot_context = fewshot_context
