"""Asking a model the tasks of a suite: prompts and documents are the harness's, answers the backend's, and what comes
of each item is an `ItemResult`.

Every answer is marked for itself, so that repeats are what they say: the harness's own loop would hand all answers to
an item to a filter that takes the first. An answer without an end is no answer, and an item that the model has no room
for is not asked; both are counted. An answer may be as long as the task allows and the context has room for.
"""

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from k2model.documents.markup import joined
from k2model.errors import EvaluationError, nearest
from k2model.evals.answers import Answers
from k2model.evals.backend import Backend, Generation, Prompt, Sampling
from k2model.evals.harness.adapter import HarnessModel
from k2model.evals.harness.choosing import Asked, ask_chosen, documents, metric_of, surely_fits
from k2model.evals.harness.data import Absent
from k2model.evals.harness.grading import graded_by_theirs, graded_by_us, versions, vote_of
from k2model.evals.harness.suites import CHAT, HarnessTask, tasks_named
from k2model.evals.harness.tasks import DOCUMENTS_SEED, SHOTS_SEED, Built, build, files_of
from k2model.evals.items import Grade, ItemResult
from k2model.evals.measures import GENERATED, Bounds, Measure
from k2model.evals.questions import generations, graded, seed_of
from k2model.recipe.evaluation import Mode
from k2model.recipe.repeats import repeated_scores

MODES = {"completion": Mode.COMPLETION, "think": Mode.THINK}


@dataclass(frozen=True)
class Prepared:
    """A task that can be asked: its parts that are on this machine, and why the `absent` ones are not, by name.

    effort: of a chat. limit: items of each part, None = all. seed: of sampled answers.
    """

    task: HarnessTask
    parts: Sequence[Built]
    absent: Mapping[str, Absent]
    effort: str = "high"
    limit: int | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.task.name}/{self.effort}" if self.task.mode == CHAT else self.task.name

    @property
    def told(self) -> dict[str, str]:
        """What is absent, for a person: parts that lack the same together, with how the first of them lacks it."""
        together: dict[str, list[str]] = {}
        for part, why in self.absent.items():
            together.setdefault(why.what, []).append(part)
        of = len(self.parts) + len(self.absent)
        return {
            f"{self.name}, {len(parts)} of {of} parts" if of > 1 else self.name: str(self.absent[parts[0]])
            for parts in together.values()
        }

    @cached_property
    def declared(self) -> dict[str, Any]:
        """What bears on the scores beside the model, as JSON."""
        return {
            "harness": importlib.metadata.version("lm-eval"),
            "task": self.task.identity,
            "parts": {part.name: part.record | {"data": part.data.digests} for part in self.parts},
            "absent": sorted(self.absent),
            "effort": self.effort if self.task.mode == CHAT else "",
            "limit": self.limit,
            "seeds": {"answers": self.seed, "shots": SHOTS_SEED, "documents": DOCUMENTS_SEED},
            "grader": versions(self.task),
        }

    def record(self, items: Sequence[ItemResult]) -> dict[str, Any]:
        """`declared`, where the data lay, and digests of items and prompts."""
        digests = {
            "items": _digest(f"{one.item}\n{one.wanted}" for one in items),
            "prompts": _digest(one.prompt for one in items),
        }
        return self.declared | {"places": {part.name: part.data.place for part in self.parts}, "digests": digests}

    def ask(self, backend: Backend, answers: Answers, max_length: int = 0) -> list[ItemResult]:
        """A result for each score, item and repeat. What `answers` holds is not asked again.

        max_length: tokens of a prompt and its answer, where a model is not to use all that it has.
        Raises EvaluationError for a metric or filter that the task has not, and where its grader cannot run.
        """
        mode = MODES.get(self.task.mode, Mode.COMPLETION)
        model = HarnessModel(backend, mode, Mode(self.effort), self.seed)
        length = min(max_length or backend.max_length, backend.max_length)
        asked = [one for part in self.parts for one in documents(part, model, self.task.mode == CHAT, self.limit)]
        written = [one for one in asked if one.instances[0].request_type == "generate_until"]
        chosen = [one for one in asked if one.instances[0].request_type == "loglikelihood"]
        if len(written) + len(chosen) < len(asked):
            raise EvaluationError(f"{self.task.name}: rolling likelihood of a text is no score of a suite")
        results = _ask_written(self, model, written, answers, length) if written else []
        return results + (ask_chosen(self.task, self.effort, model, chosen, answers, length) if chosen else [])


@dataclass(frozen=True)
class TaskResult:
    """What came of a task. items: of the parts that are on this machine; absent: why the others were not asked."""

    task: HarnessTask
    items: Sequence[ItemResult]
    absent: Mapping[str, str]
    record: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        return not self.absent


def prepare(task: HarnessTask, effort: str = "high", limit: int | None = None, seed: int = 0) -> Prepared:
    """Looks for the data of a task's parts; nothing is asked. Raises EvaluationError for a task that the installed
    harness does not have, or that is not what the row says of it."""
    parts: list[Built] = []
    absent: dict[str, Absent] = {}
    for file in files_of(task):
        try:
            parts.append(build(task, file))
        except Absent as error:
            absent[file.stem] = error
    return Prepared(task, parts, absent, effort, limit, seed)


def run(
    names: Sequence[str],
    backend: Backend,
    limit: int | None = None,
    effort: str = "high",
    seed: int = 0,
    answers: Answers | None = None,
    told: Callable[[Prepared], None] = lambda prepared: None,
) -> list[TaskResult]:
    """Ask a backend the tasks of these names (`suites.tasks_named`), a result each, in order.

    limit: the first items of each part alone. told: is given each task before it is asked, what is absent with it.
    Raises EvaluationError for a name that is none, before anything is asked.
    """
    results = []
    for task in tasks_named(names):
        prepared = prepare(task, effort, limit, seed)
        told(prepared)
        items = prepared.ask(backend, answers or Answers()) if prepared.parts else []
        absent = {part: str(why) for part, why in prepared.absent.items()}
        results.append(TaskResult(task, items, absent, prepared.record(items)))
    return results


def measure_of(prepared: Prepared, bounds: Bounds) -> Measure:
    """The same as a cell's measure. Raises Absent for a task of which nothing is here."""
    if not prepared.parts:
        raise Absent(f"{prepared.name}: {'; '.join(prepared.told.values())}")
    task, length = prepared.task, bounds.max_length()
    vote = vote_of(task)
    repeated = {"repeated": repeated_scores("", task.repeats, vote is not None)} if task.repeats > 1 else {}
    items = sum(min(len(part.task.eval_docs), prepared.limit or len(part.task.eval_docs)) for part in prepared.parts)
    return Measure(
        prepared.name,
        task.suite or "Public",
        prepared.declared | {"max_length": length} | repeated,
        length,
        GENERATED * length * items * task.repeats,
        lambda backend, answers: prepared.ask(backend, answers, length),
        lambda: _chance(prepared),
        repeats=task.repeats,
        vote=vote,
    )


def _ask_written(
    prepared: Prepared, model: HarnessModel, asked: Sequence[Asked], answers: Answers, length: int
) -> list[ItemResult]:
    task = prepared.task
    requests: dict[str, tuple[Prompt, Sampling]] = {}
    for one in asked:
        context, settings = one.instances[0].args[:2]
        prompt = model.prompt(context)
        stated = _sampling(task, model.sampling(settings))
        room = length if surely_fits(prompt, length - stated.max_new_tokens) else length - model.backend.tokens(prompt)
        stated = replace(stated, max_new_tokens=min(stated.max_new_tokens, room))
        for repeat in range(task.repeats if room > 0 else 0):
            requests[_key(one, repeat)] = (prompt, replace(stated, seed=seed_of(prepared.seed, one.item, repeat)))
    written = generations(model.backend, requests, answers)
    marks = _marks(task, asked, written)
    return [
        result
        for one in asked
        for repeat in range(task.repeats)
        for result in _results(prepared, model, one, repeat, written.get(_key(one, repeat)), marks)
    ]


def _sampling(task: HarnessTask, theirs: Sampling) -> Sampling:
    """The task's own settings with what the row states of them."""
    limit = task.max_new_tokens or theirs.max_new_tokens
    return replace(theirs, max_new_tokens=limit, temperature=task.temperature, top_p=task.top_p)


def _key(one: Asked, repeat: int) -> str:
    return f"{one.item}#{repeat}"


def _answer(task: HarnessTask, said: Generation | None) -> str | None:
    """What is marked of an answer; None of one that has no end, unless the task's has none."""
    if said is None or not (said.complete or (task.grade_cut_off and said.answer is not None)):
        return None
    return said.answer


def _marks(task: HarnessTask, asked: Sequence[Asked], written: Mapping[str, Generation]) -> dict[str, dict[str, Any]]:
    """Of each answer that is marked its marks by score, by its key."""
    keys = [
        (one, _key(one, repeat), answer)
        for one in asked
        for repeat in range(task.repeats)
        if (answer := _answer(task, written.get(_key(one, repeat)))) is not None
    ]
    if not task.grade:
        return {key: graded_by_theirs(task, one.part.task, one.instances[0], answer) for one, key, answer in keys}
    found: dict[str, dict[str, Any]] = {}
    for part in {one.part.name: one.part for one, _, _ in keys}.values():
        own = [(one, key, answer) for one, key, answer in keys if one.part is part]
        verdicts = graded_by_us(task, part.task, [(one.doc, answer) for one, _, answer in own])
        found |= {key: {task.metric: verdict} for (_, key, _), verdict in zip(own, verdicts, strict=True)}
    return found


def _results(
    prepared: Prepared, model: HarnessModel, one: Asked, repeat: int, said: Generation | None,
    marks: Mapping[str, Mapping[str, Any]],
) -> Iterator[ItemResult]:  # fmt: skip
    task = prepared.task
    own = marks.get(_key(one, repeat))
    # Which of several scores an item counts for, its marks tell: without an answer those of none.
    marked_for = (
        graded_by_theirs(task, one.part.task, one.instances[0], "") if task.scores and own is None else own or {}
    )
    prompt = joined(model.prompt(one.instances[0].args[0]).segments())
    whole = ItemResult(
        "", one.item, one.item, prompt, said.text if said else "", _answer(task, said),
        str(one.part.task.doc_to_target(one.doc)), Grade.TOO_LONG if said is None else Grade.CUT_OFF, 0.0,
        said.trace if said else None, repeat,
        seed_of(prepared.seed, one.item, repeat) if task.temperature else None,
        said.tokens if said else 0, said.thinking_tokens if said else 0,
    )  # fmt: skip
    for score in task.scores or (metric_of(task, one.part.task, own),):
        name = task.score_name(score, prepared.effort)
        mark = marked_for.get(score)
        if task.scores and score in one.part.task.aggregation() and (mark is None or mark == -1):
            continue  # RULER: of another length than this item's
        if own is None:
            yield replace(whole, score=name)
            continue
        if score not in own:
            raise EvaluationError(f"{one.part.name} has no metric '{score}'; {nearest(score, list(own))}")
        marked = (
            [(f"{one.item}:{i}", each) for i, each in enumerate(mark)] if isinstance(mark, list) else [(one.item, mark)]
        )
        for item, verdict in marked:  # a list: a mark for each instruction of an item, which are no independent draws
            grade, value = graded(verdict)
            yield replace(whole, score=name, item=item, grade=grade, value=value)


def _chance(prepared: Prepared) -> float | None:
    """What a guesser gets where one of several choices is right; None elsewhere."""
    built = [part.task for part in prepared.parts]
    if any(one.OUTPUT_TYPE != "multiple_choice" or one.config.process_results for one in built):
        return None
    sizes = [len(one.doc_to_choice(doc)) for one in built for doc in one.eval_docs]
    return sum(1 / size for size in sizes) / len(sizes)


def _digest(texts: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:16]
