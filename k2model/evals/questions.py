"""Scores by generation: items are asked in a task's mode, and the answer is checked.

The mode says how an item is put (completion, with or without a trace, chat with an effort) and where in what the model
wrote the answer starts. What had not come to an end when the model had written as much as it may is never read as an
answer: it is cut off, whatever stands in it.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from k2model.documents.markup import Message, joined
from k2model.documents.schema import Item
from k2model.evals.answers import Answers
from k2model.evals.backend import Backend, Finish, Generation, Prompt, Sampling
from k2model.evals.checks import Verdict, checks_of, question, solution
from k2model.evals.items import Grade, ItemResult
from k2model.recipe.tasks import Task


def prompt_of(task: Task, item: Item, shots: Sequence[Item] = ()) -> Prompt:
    """What the model goes on from, the shots of a benchmark first."""
    asked = question(task, item)
    shown = [(question(task, shot), solution(task.benchmark, shot)) for shot in shots] if task.benchmark else []
    if Prompt.of("", task.mode).chat:
        turns: list[Message] = []
        for said, reply in shown:
            turns += [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]
        return Prompt(task.mode, (*turns, {"role": "user", "content": asked}))
    return Prompt.of("".join(f"{said}{gap(said)}{reply}\n\n" for said, reply in shown) + asked, task.mode)


def gap(asked: str) -> str:
    """What stands between a question and its answer in a text: a space, where it does not end with white space."""
    return "" if asked[-1:].isspace() else " "


def seed_of(seed: int, item: str, repeat: int) -> int:
    """The seed of one request: of the task's, the item and the repeat alone, so that it depends on no other item."""
    digest = hashlib.sha256(f"{seed}\0{item}\0{repeat}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big")


def ask(
    task: Task, items: Sequence[Item], shots: Sequence[Item], backend: Backend, answers: Answers, max_length: int
) -> list[ItemResult]:
    """Ask every item `task.repeats` times; a result for each of the task's scores, item and repeat.

    max_length: tokens of a prompt and what may be written behind it; an item that does not fit is not asked.
    """
    checks = checks_of(task, answers.store)  # before anything is asked: a grader may lack what it needs
    prompts = {item["id"]: prompt_of(task, item, shots) for item in items}
    positions = min(max_length, backend.max_length)
    rooms = {name: positions - backend.tokens(prompt) for name, prompt in prompts.items()}
    requests = {
        f"{item['id']}#{repeat}": (prompts[item["id"]], sampling_of(task, item["id"], repeat, rooms[item["id"]]))
        for item in items
        for repeat in range(task.repeats)
        if rooms[item["id"]] >= (task.least_new_tokens or task.max_new_tokens)
    }
    written = generations(backend, requests, answers)
    asked = [(item, repeat, f"{item['id']}#{repeat}") for item in items for repeat in range(task.repeats)]
    ended = [(item, written[key]) for item, _, key in asked if key in written and written[key].complete]
    results = []
    for score, check in checks.items():
        verdicts = iter(check(ended))
        for item, repeat, key in asked:
            said = written.get(key)
            verdict = next(verdicts) if said is not None and said.complete else None
            results.append(_result(score, item, prompts[item["id"]], task, repeat, said, verdict))
    return results


def sampling_of(task: Task, item: str, repeat: int, room: int) -> Sampling:
    """room: tokens that the model has behind the prompt."""
    return Sampling(
        min(task.max_new_tokens, room), task.temperature, task.top_p, seed_of(task.seed, item, repeat), task.stop,
        task.thinking_budget or None,
    )  # fmt: skip


def generations(
    backend: Backend, requests: Mapping[str, tuple[Prompt, Sampling]], answers: Answers
) -> dict[str, Generation]:
    """What was written to each request, by its key: of those that `answers` lacks by asking, kept as each comes."""
    answers.expect(len(requests))
    missing = [key for key in requests if key not in answers]
    for index, generation in backend.generate([requests[key] for key in missing]):
        answers.put(missing[index], asdict(generation))
    return {key: restored(answers[key]) for key in requests}


def restored(said: Mapping[str, Any]) -> Generation:
    """What was written, as `answers` keep it."""
    return Generation(**{**said, "finish": Finish(said["finish"])})


def _result(
    score: str, item: Item, prompt: Prompt, task: Task, repeat: int, said: Generation | None, verdict: Verdict
) -> ItemResult:
    """Of one answer; `verdict` is on one that came to an end."""
    answer = said.answer if said is not None and said.complete else None
    if said is None:
        grade, value = Grade.TOO_LONG, 0.0
    elif answer is None:
        grade, value = Grade.CUT_OFF, 0.0
    else:
        grade, value = graded(verdict)
    return ItemResult(
        score=score,
        item=item["id"],
        cluster=json.loads(item["meta"]).get("cluster", item["id"]),
        prompt=joined(prompt.segments()),
        generation=said.text if said else "",
        answer=answer,
        wanted=item["answer"],
        grade=grade,
        value=value,
        trace=said.trace if said else None,
        repeat=repeat,
        seed=seed_of(task.seed, item["id"], repeat) if task.temperature else None,
        tokens=said.tokens if said else 0,
        thinking_tokens=said.thinking_tokens if said else 0,
    )


def graded(verdict: Verdict) -> tuple[Grade, float]:
    """The grade and value of what a check says; without a verdict an item is unscored, never right or wrong."""
    if verdict is None:
        return Grade.UNSCORED, math.nan
    value = float(verdict)
    return {1.0: Grade.RIGHT, 0.0: Grade.WRONG}.get(value, Grade.MEASURED), value


def in_parts(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Keys in order, `size` at a time: what is asked at once is kept at once."""
    return (keys[first : first + size] for first in range(0, len(keys), size))
