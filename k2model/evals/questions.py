"""Scores by generation: items are asked in a task's mode, and the greedy answer is checked.

The mode says how an item is put (completion, with or without a trace, chat with an effort) and where in what the model
wrote the answer starts. An answer whose trace was never closed is wrong. The closing tag is looked for among token ids:
the same letters as plain text do not count.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from k2model.documents.markup import (
    EFFORTS,
    IM_END,
    THINK_END,
    Message,
    Segment,
    chat_prompt,
    joined,
    plain_prompt,
    reasoning_prompt,
)
from k2model.evals.checks import chance, checks_of, question, solution
from k2model.evals.generation import EvaluatedModel, generate, matrix_products
from k2model.evals.scores import Grade, Outcome, Sample, accuracy
from k2model.recipe.evaluation import Mode
from k2model.recipe.tasks import Task
from k2model.tokens import K2Tokenizer

if TYPE_CHECKING:
    from k2model.documents.schema import Item


def prompt_of(evaluated: EvaluatedModel, task: Task, item: "Item") -> list[Segment]:
    """What the model goes on from, the shots of a benchmark first."""
    shots: list[tuple[str, str]] = []
    if config := task.benchmark:
        shots = [(question(task, shot), solution(config, shot)) for shot in evaluated.benchmarks[config.name].shots]
    asked = question(task, item)
    if task.mode.value in EFFORTS:
        turns: list[Message] = []
        for said, reply in shots:
            turns += [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]
        return chat_prompt([*turns, {"role": "user", "content": asked}], task.mode.value)
    text = "".join(f"{said}{gap(said)}{reply}\n\n" for said, reply in shots) + asked
    return plain_prompt(text) if task.mode is Mode.COMPLETION else reasoning_prompt(text, think=task.mode is Mode.THINK)


def gap(asked: str) -> str:
    """What stands between a question and its answer in a text: a space, where it does not end with white space."""
    return "" if asked[-1:].isspace() else " "


def ask(evaluated: EvaluatedModel, task: Task) -> Outcome:
    """Ask the items of `task` once; a row for each of its scores, and a sample for each score and item.

    Raises EvaluationError when there are no items.
    """
    items, tokenizer = evaluated.asked(task), evaluated.tokenizer
    prompts = [prompt_of(evaluated, task, item) for item in items]
    encoded = [tokenizer.encode_segments(prompt)[0] for prompt in prompts]
    room = evaluated.model.max_positions - task.max_new_tokens
    fitting = [number for number, ids in enumerate(encoded) if len(ids) <= room]
    reader = _Reader(task, tokenizer)
    with matrix_products(evaluated.model):
        generated = generate(
            evaluated.model,
            [encoded[number] for number in fitting],
            task.max_new_tokens,
            reader.stops | reader.ends,
            evaluated.config.batch_size,
        )
    written = dict(zip(fitting, generated, strict=True))
    mean_tokens = sum(map(len, generated)) / len(generated) if generated else None
    guessed, group = chance(task, items), task.benchmark.group if task.benchmark else None
    outcome = Outcome()
    for score, check in checks_of(task).items():
        samples = []
        for number, (item, prompt) in enumerate(zip(items, prompts, strict=True)):
            ids, grade = written.get(number, []), Grade.TOO_LONG
            if number in written:
                answer, ended = reader.answer(ids)
                right = answer is not None and (ended or not task.benchmark) and check(item, answer)
                grade = Grade.RIGHT if right else Grade.WRONG if ended else Grade.CUT_OFF
            samples.append(Sample(score, joined(prompt), tokenizer.decode(ids), item["answer"], grade))
        outcome.rows.append(accuracy(evaluated.phase, samples, mean_tokens, guessed, group))
        outcome.samples.extend(samples)
    return outcome


class _Reader:
    """Where the answer stands in what a model wrote.

    stops: ids that end every answer. ends: ids whose text holds what ends a benchmark's completion, so that it is not
    written on; an end that is made of several tokens is found in the text alone.
    """

    def __init__(self, task: Task, tokenizer: K2Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.stops = frozenset((tokenizer.eos, tokenizer.special(IM_END)))
        self.closing = {Mode.THINK: THINK_END, Mode.COMPLETION: "", Mode.DIRECT: ""}.get(task.mode)
        if self.closing is None:
            self.closing = EFFORTS[task.mode.value][1]
        self.end = task.benchmark.stop if task.benchmark and task.mode is Mode.COMPLETION else ""
        every = range(tokenizer.vocab_size) if self.end else ()
        self.ends = frozenset(number for number in every if self.end in tokenizer.decode([number]))

    def answer(self, ids: Sequence[int]) -> tuple[str | None, bool]:
        """(The text of the answer, None when the trace was not closed; whether it came to an end)."""
        ended = bool(ids) and ids[-1] in self.stops
        text = answer_of(list(ids), self.closing or "", self.stops, self.tokenizer)
        if not self.end or text is None:
            return text, ended
        before, found, _ = text.partition(self.end)
        return before, ended or bool(found)


def answer_of(ids: list[int], closing: str, stops: frozenset[int], tokenizer: K2Tokenizer) -> str | None:
    """The text after the closing tag and before the stop token; None when the trace was not closed."""
    if ids and ids[-1] in stops:
        ids = ids[:-1]
    if closing:
        tag = tokenizer.special(closing)
        if tag not in ids:
            return None
        ids = ids[ids.index(tag) + 1 :]
    return tokenizer.decode(ids)
