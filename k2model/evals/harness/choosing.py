"""The harness's documents with its requests for them, and items whose choices are compared by likelihood."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from k2model.documents.markup import joined
from k2model.errors import EvaluationError, nearest
from k2model.evals.answers import Answers
from k2model.evals.backend import Prompt
from k2model.evals.harness.adapter import HarnessModel
from k2model.evals.harness.grading import filter_of
from k2model.evals.harness.suites import HarnessTask
from k2model.evals.harness.tasks import SHOTS_SEED, Built, quiet
from k2model.evals.items import Grade, ItemResult
from k2model.evals.questions import graded, in_parts

TEMPLATE_TOKENS = 2_048  # more than a chat template writes around a dialogue
AT_ONCE = 64  # items whose likelihoods are asked together, and kept together


@dataclass(frozen=True)
class Asked:
    """A document of a part with the harness's requests for it."""

    part: Built
    number: int
    instances: Sequence[Any]

    @property
    def doc(self) -> Mapping[str, Any]:
        doc: Mapping[str, Any] = self.instances[0].doc
        return doc

    @property
    def item(self) -> str:
        return f"{self.part.name}/{self.number}"


def documents(part: Built, model: HarnessModel, chat: bool, limit: int | None) -> Iterator[Asked]:
    """In the order of the data. The harness's cache of requests is not used."""
    task = part.task
    task.set_fewshot_seed(SHOTS_SEED)  # the same examples whenever it is asked
    with quiet():
        task.build_all_requests(
            limit=limit, cache_requests=False, apply_chat_template=chat, fewshot_as_multiturn=chat,
            chat_template=model.apply_chat_template if chat else None,
        )  # fmt: skip
    by_document: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_document.setdefault(instance.doc_id, []).append(instance)
    for number, instances in by_document.items():
        yield Asked(part, number, sorted(instances, key=lambda one: one.idx))


def surely_fits(prompt: Prompt, room: int) -> bool:
    """Whether a prompt is so much shorter in bytes than there is room in tokens that nobody needs to count them, which
    costs a request where a server does."""
    said = sum(len(str(turn["content"]).encode("utf-8", "replace")) for turn in prompt.turns)
    return said + (TEMPLATE_TOKENS if prompt.chat else 8) <= room


def metric_of(task: HarnessTask, built: Any, marks: Mapping[str, Any] | None) -> str:
    """The row's, or of an installed task without a row its first."""
    return task.metric or next(iter(marks or built.aggregation()))


def ask_chosen(
    task: HarnessTask, effort: str, model: HarnessModel, asked: Sequence[Asked], answers: Answers, length: int
) -> list[ItemResult]:
    """Items whose choices are compared by likelihood."""
    answers.expect(len(asked))
    fitting = {one.item: one for one in asked if all(_fits(model, pair.args[:2], length) for pair in one.instances)}
    missing = [item for item in fitting if item not in answers]
    for part in in_parts(missing, AT_ONCE):
        found = iter(model.scored([pair.args[:2] for item in part for pair in fitting[item].instances]))
        for item in part:
            own = [next(found) for _ in fitting[item].instances]
            answers.put(item, {"nats": [one.nats for one in own], "greedy": [one.greedy for one in own]})
    return [_choice(task, effort, model, one, answers[one.item] if one.item in fitting else None) for one in asked]


def _fits(model: HarnessModel, pair: tuple[str, str], length: int) -> bool:
    prompt = model.prompt(pair[0])
    if surely_fits(prompt, length - len(pair[1].encode("utf-8", "replace"))):
        return True
    return model.backend.tokens(Prompt.of(pair[0] + pair[1], prompt.mode)) - 1 <= length


def _choice(
    task: HarnessTask, effort: str, model: HarnessModel, one: Asked, said: Mapping[str, Any] | None
) -> ItemResult:
    built = one.part.task
    context, _ = one.instances[0].args[:2]
    prompt, wanted = joined(model.prompt(context).segments()), str(built.doc_to_target(one.doc))
    grade, value, picked = Grade.TOO_LONG, 0.0, ""
    metric = task.metric
    if said is not None:
        likelihoods = list(zip(said["nats"], said["greedy"], strict=True))
        marks = _marks_of_choices(built, one, likelihoods)
        metric = metric_of(task, built, marks)
        if metric not in marks:
            raise EvaluationError(f"{one.part.name} has no metric '{metric}'; {nearest(metric, list(marks))}")
        mark = float(marks[metric])
        grade, value = graded(None if math.isnan(mark) else mark)  # TruthfulQA's is 0/0 where all choices underflow
        picked = _likeliest(built, one, said["nats"], metric)
    return ItemResult(
        task.score_name(metric, effort),
        one.item,
        one.item,
        prompt,
        picked,
        picked or None,
        wanted,
        grade,
        value,
    )


def _marks_of_choices(built: Any, one: Asked, likelihoods: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """The harness's marks; it takes one likelihood of each request, as its filters leave them."""
    for instance, likelihood in zip(one.instances, likelihoods, strict=True):
        instance.resps, instance.filtered_resps = [likelihood], {}
    for own in built._filters:
        own.apply(one.instances)
    name = filter_of(HarnessTask("", ()), built)
    return dict(built.process_results(one.doc, [instance.filtered_resps[name] for instance in one.instances]))


def _likeliest(built: Any, one: Asked, nats: Sequence[float], metric: str) -> str:
    """The text of the choice that counts as the model's."""
    choices = [str(choice) for choice in built.doc_to_choice(one.doc)] if built.config.doc_to_choice else []
    if len(choices) != len(nats):
        return ""
    sizes = [len(choice) if metric == "acc_norm" else 1 for choice in choices]
    return choices[max(range(len(choices)), key=lambda i: nats[i] / max(1, sizes[i]))]
