"""Scores by likelihood: the likeliest of an item's choices, values recalled from a context, loss of held-out documents.

Choices (the next line of code, those of a benchmark) are compared by their mean log-probability per byte, so that
neither a choice's length nor how the tokenizer cuts it decides. Where several are likeliest, as of a model that gives
all texts alike, an item counts by the chance of drawing the right one among them.

Values in a context are recalled by teacher forcing: all queries of a document stand behind each other with their true
values, and one is right when its tokens are the likeliest each: what greedy generation would say given a true history.
Queries of one document share it, and are one cluster.

Losses: of every source the same documents in a fixed random order, the last cut, in windows of the length that a model
was trained with.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from k2model.documents.markup import Segment, joined
from k2model.documents.schema import Item, choices_of
from k2model.evals.answers import Answers
from k2model.evals.backend import Backend, Likelihood, Prompt
from k2model.evals.items import Grade, ItemResult
from k2model.evals.questions import gap, graded, in_parts, prompt_of
from k2model.recipe.tasks import Task

AT_ONCE = 64  # items that a backend is given at once, and that a kill asks again at most
T = TypeVar("T")


def pick_choices(
    task: Task, items: Sequence[Item], shots: Sequence[Item], backend: Backend, answers: Answers, max_length: int
) -> list[ItemResult]:
    """A result for every item, whose generation is the choice that the model picked."""
    (score,) = task.scores
    prompts = {item["id"]: prompt_of(task, item, shots) for item in items}
    requests = {item["id"]: _choices(task, prompts[item["id"]], item) for item in items}
    fitting = {key: asked for key, asked in requests.items() if _fits(backend, asked, max_length)}
    found = likelihoods(backend, fitting, answers)
    results = []
    for item in items:
        choices, right = choices_of(item)
        said, grade, value = "", Grade.TOO_LONG, 0.0
        if (own := found.get(item["id"])) is not None:
            per_byte = [one.nats / len(choice.encode()) for one, choice in zip(own, choices, strict=True)]
            best = [index for index, nats in enumerate(per_byte) if nats == max(per_byte)]
            said, (grade, value) = choices[best[0]], graded((right in best) / len(best))
        shown = joined(prompts[item["id"]].segments())
        answer = said if grade is not Grade.TOO_LONG else None
        results.append(ItemResult(score, item["id"], item["id"], shown, said, answer, item["answer"], grade, value))
    return results


def _choices(task: Task, prompt: Prompt, item: Item) -> list[tuple[Prompt, str]]:
    """A family's choices are lines, those of a benchmark follow as an answer in a text does."""
    before = gap(prompt.text)
    return [(prompt, f"{before}{one}" if task.benchmark else f"{one}\n") for one in choices_of(item)[0]]


def recall_values(
    score: str, items: Sequence[Item], queries: int, backend: Backend, answers: Answers, max_length: int
) -> list[ItemResult]:
    """A result for each of the first `queries` queries of every item; its generation is the value where the model would
    have said it, else nothing."""
    asked: dict[str, list[tuple[Prompt, str]]] = {}
    for item in items:
        text, requests = item["prompt"], []
        for key, value in json.loads(item["meta"])["queries"][:queries]:
            requests.append((Prompt.of(f"{text}? {key}"), f" {value}"))
            text += f"? {key} {value}"
        asked[item["id"]] = requests
    fitting = {key: requests for key, requests in asked.items() if _fits(backend, requests[-1:], max_length)}
    found = likelihoods(backend, fitting, answers, at_once=4)
    results = []
    for item in items:
        for number, (prompt, value) in enumerate(asked[item["id"]]):
            own = found.get(item["id"])
            recalled = own is not None and own[number].greedy
            grade = Grade.TOO_LONG if own is None else Grade.RIGHT if recalled else Grade.WRONG
            said, shown = value.strip() if recalled else "", f"…{prompt.text[prompt.text.rindex('? ') :]}"
            name, answer = f"{item['id']}#{number}", said or None
            wanted = value.strip()
            results.append(ItemResult(score, name, item["id"], shown, said, answer, wanted, grade, float(recalled)))
    return results


def heldout_loss(
    score: str, documents: Mapping[str, Sequence[Segment]], window: int, backend: Backend, answers: Answers
) -> list[ItemResult]:
    """A result for every document that has targets: its nats, over `tokens` targets.

    documents: segments by id. window: tokens that are read and predicted at once.
    """
    found = _asked(
        answers, list(documents), AT_ONCE, lambda keys: backend.rolling([documents[key] for key in keys], window),
        lambda one: [asdict(one)], lambda said: Likelihood(**said[0]),
    )  # fmt: skip
    return [
        ItemResult(
            score=score,
            item=key,
            cluster=key,
            prompt=joined(segments)[:SHOWN],
            generation="",
            answer=None,
            wanted="",
            grade=Grade.MEASURED,
            value=-found[key].nats,
            tokens=found[key].tokens,
        )
        for key, segments in documents.items()
        if found[key].tokens
    ]


SHOWN = 200  # characters of a held-out document that its result shows


def likelihoods(
    backend: Backend, requests: Mapping[str, Sequence[tuple[Prompt, str]]], answers: Answers, at_once: int = AT_ONCE
) -> dict[str, list[Likelihood]]:
    """Of each item's texts, by its key: of those that `answers` lacks by asking, `at_once` items at a time."""

    def asking(keys: Sequence[str]) -> Iterable[list[Likelihood]]:
        found = iter(backend.likelihoods([one for key in keys for one in requests[key]]))
        return [[next(found) for _ in requests[key]] for key in keys]

    return _asked(
        answers, list(requests), at_once, asking, lambda those: [asdict(one) for one in those],
        lambda said: [Likelihood(**one) for one in said],
    )  # fmt: skip


def _asked(
    answers: Answers,
    keys: Sequence[str],
    at_once: int,
    asking: Callable[[Sequence[str]], Iterable[T]],
    written: Callable[[T], list[dict[str, Any]]],
    read: Callable[[list[dict[str, Any]]], T],
) -> dict[str, T]:
    """The answer to each key, asked for where it is not there, `at_once` at a time, and kept."""
    answers.expect(len(keys))
    for part in in_parts([key for key in keys if key not in answers], at_once):
        for key, one in zip(part, asking(part), strict=True):
            answers.put(key, {"found": written(one)})
    return {key: read(answers[key]["found"]) for key in keys}


def _fits(backend: Backend, requests: Sequence[tuple[Prompt, str]], max_length: int) -> bool:
    room = min(max_length, backend.max_length)
    return all(backend.tokens(Prompt.of(prompt.text + text)) <= room for prompt, text in requests)
