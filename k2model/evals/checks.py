"""What an item asks, what a solved one says, and when an answer is right: of families and of a recipe's own benchmarks.

A family's items are asked as they are, and its module in `k2model.documents.families` checks the answer. A benchmark's
are put into its template, behind its shots, and checked as its config says.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

from k2model.artifacts import Store
from k2model.documents.answers import final, last_number
from k2model.documents.answers.numbers import equal_quantities, one_form, told
from k2model.documents.families.generated import module_of
from k2model.documents.schema import Item, choices_of
from k2model.errors import EvaluationError
from k2model.evals.backend import Generation
from k2model.recipe.evaluation import LETTERS, AnswerCheck, BenchmarkConfig
from k2model.recipe.tasks import Guess, Task

#: Right or not, or a mark between 0 and 1; None where nobody can say.
Verdict = bool | float | None
#: Of what was written to each item, which came to an end.
Check = Callable[[Sequence[tuple[Item, Generation]]], Sequence[Verdict]]
_FIRST_LETTER = re.compile(r"\(?([A-Z])(?:[.:,)]|\s*$|\s*\n)")
_SAID_LETTER = re.compile(r"(?i:answer(?: is)?):?\s*\(?([A-Z])\b")


def checks_of(task: Task, store: Store | None = None) -> dict[str, Check]:
    """What makes an answer right, by score. store: where the calls of a judge are kept, None = on this machine."""
    if config := task.benchmark:
        return {config.name: check_of(config, store)}
    return {score: each(getattr(module_of(task.items), check)) for score, check in task.scores.items()}


def each(function: Callable[[Item, str], Verdict]) -> Check:
    """A check by a function of an item and the answer to it, of several at a time: some wait for another process."""

    def check(written: Sequence[tuple[Item, Generation]]) -> Sequence[Verdict]:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            return list(pool.map(lambda one: function(one[0], one[1].answer or ""), written))

    return check


def check_of(config: BenchmarkConfig, store: Store | None = None) -> Check:
    """What makes an answer to a benchmark's item right.

    Raises EvaluationError where a program would have to be run and this machine can make no sandbox.
    """
    if config.check is AnswerCheck.MATH:
        from k2model.evals.graders import mathematics

        return each(mathematics.grade)
    if config.check is AnswerCheck.CODE:
        from k2model.evals.graders import code
        from k2model.sandbox.needs import require

        require()
        return each(code.grade)
    if config.check is AnswerCheck.JUDGE:
        return lambda written: judged(config, written, store)
    return each(lambda item, answer: is_right(config, item, answer))


def judged(
    config: BenchmarkConfig, written: Sequence[tuple[Item, Generation]], store: Store | None = None
) -> Sequence[Verdict]:
    """What a language model says of answers, thinking and answer shown apart; None where that cannot be read.

    Raises EvaluationError where it did not answer: what it has said is recorded, and is not asked again.
    """
    from k2model.judges import Case, judge_of, open_judge
    from k2model.judges.kept import calls_of, kept_calls

    named = judge_of(config.judge, api_key_env=config.api_key_env)
    cases = [Case(item["prompt"], said.trace, said.answer, wanted=item["answer"]) for item, said in written]
    with kept_calls(calls_of(store, named)) if store else nullcontext() as record:
        verdicts = open_judge(named, record).verdicts(cases)
    if silent := [one for one in verdicts if one.unanswered]:
        raise EvaluationError(
            f"the judge of benchmark '{config.name}' ({config.judge}) said nothing of {len(silent)} of {len(cases)} "
            f"answers ({silent[0].problem}). What was answered and judged is kept: run again when it can be reached"
        )
    return [one.right for one in verdicts]


def grader_of(task: Task) -> dict[str, Any]:
    """The versions that the verdicts on a task depend on, beside this project's own; {} where an answer is compared."""
    if task.benchmark and task.benchmark.check is AnswerCheck.MATH:
        from k2model.evals.graders import mathematics

        return mathematics.grader_version()
    if task.benchmark and task.benchmark.check is AnswerCheck.CODE:
        from k2model.evals.graders import code

        return code.grader_version()
    if task.benchmark and task.benchmark.check is AnswerCheck.JUDGE:
        from k2model.judges import judge_of
        from k2model.judges.opening import identity_of

        return dict(identity_of(judge_of(task.benchmark.judge)))
    return {}


def question(task: Task, item: Item) -> str:
    """What is asked."""
    if task.benchmark is None:
        return item["prompt"]
    text = task.benchmark.template.replace("{prompt}", item["prompt"])
    if task.benchmark.check is not AnswerCheck.CHOICE or task.benchmark.by_likelihood:
        return text
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices_of(item)[0], strict=False))
    return f"{text}\n\n{listed}\n\nAnswer with the letter of the right choice."


def solution(config: BenchmarkConfig, item: Item) -> str:
    """What a shot shows as the answer."""
    letter = config.check is AnswerCheck.CHOICE and not config.by_likelihood
    return LETTERS[choices_of(item)[1]] if letter else item["answer"]


def is_right(config: BenchmarkConfig, item: Item, answer: str) -> bool:
    """Whether `answer` is what a benchmark's item wants, by comparison."""
    if config.check is AnswerCheck.CHOICE:
        choices, right = choices_of(item)
        return chosen(answer, choices) == right
    accepted: list[str] = json.loads(item["meta"])["accepted"]
    if config.check is AnswerCheck.NUMERIC:
        number = last_number(answer)
        return number is not None and any(equal_quantities(of, number) for of in map(last_number, accepted) if of)
    if config.check is AnswerCheck.REGEX:
        found = last_match(config.pattern, answer)
        return found is not None and found in ((last_match(config.pattern, one) or one.strip()) for one in accepted)
    return one_form(answer).strip() in (one_form(one).strip() for one in accepted)


def said(task: Task, item: Item, answer: str) -> str | None:
    """What an answer says, so that equal ones are counted together in a vote; None where it cannot be read. Formulas
    are compared as they are written, `1/2` and `0.5` are two votes."""
    config = task.benchmark
    if config is None:
        read = module_of(task.items).said
        return read(answer)
    found: object = " ".join(answer.split())
    if config.check is AnswerCheck.MATH:
        found = final(answer)
    elif config.check is AnswerCheck.CHOICE:
        found = chosen(answer, choices_of(item)[0])
    elif config.check is AnswerCheck.NUMERIC:
        found = None if (number := last_number(answer)) is None else told(number)
    elif config.check is AnswerCheck.REGEX:
        found = last_match(config.pattern, answer)
    return None if found is None else str(found)


def chosen(answer: str, choices: Sequence[str]) -> int | None:
    """The index of the choice that an answer names: by its text alone, by a letter at its beginning (`B`, `(B)`,
    `B. x`), or behind the last "answer" or "answer is"; None when it names none."""
    text = answer.strip()
    if text in choices:
        return choices.index(text)
    said = _FIRST_LETTER.match(text)
    letters = [said[1]] if said else _SAID_LETTER.findall(text)[-1:]
    return next((LETTERS.index(one) for one in letters if one in LETTERS[: len(choices)]), None)


def last_match(pattern: str, text: str) -> str | None:
    """What a regular expression finds last: its first group where it has one. None when it finds nothing."""
    *_, last = (None, *re.finditer(pattern, text))
    if last is None:
        return None
    return str((last[1] if last.re.groups else last[0]) or "").strip()


def chance(task: Task, items: Sequence[Item]) -> float | None:
    """What a guesser gets; None where it is about 0."""
    if task.benchmark and task.benchmark.chance:
        return task.benchmark.chance
    if task.guess is Guess.CHOICES:
        return sum(1 / len(choices_of(item)[0]) for item in items) / len(items)
    if task.guess is Guess.FORM:
        return sum(json.loads(item["meta"])["chance"] for item in items) / len(items)
    if task.guess is Guess.COMMONEST:
        answers = [item["answer"] for item in items]
        return max(map(answers.count, answers)) / len(answers)
    return None
