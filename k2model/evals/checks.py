"""What an item asks, what a solved one says, and when an answer is right: of families and of a recipe's own benchmarks.

A family's items are asked as they are, and its module in `k2model.documents.families` checks the answer. A benchmark's
are put into its template, behind its shots, and checked as its config says.
"""

import json
import re
from collections.abc import Callable, Sequence

from k2model.documents import FAMILIES
from k2model.documents.benchmarks import number_in
from k2model.documents.schema import Item, choices_of
from k2model.recipe.evaluation import LETTERS, AnswerCheck, BenchmarkConfig
from k2model.recipe.tasks import Guess, Task

#: Whether an answer is right, or its mark between 0 and 1; None where there is no verdict.
Check = Callable[[Item, str], bool | float | None]
_FIRST_LETTER = re.compile(r"\(?([A-Z])(?:[.:,)]|\s*$|\s*\n)")
_SAID_LETTER = re.compile(r"(?i:answer(?: is)?):?\s*\(?([A-Z])\b")


def checks_of(task: Task) -> dict[str, Check]:
    """What makes an answer right, by score."""
    if config := task.benchmark:
        return {config.name: check_of(config)}
    return {score: getattr(FAMILIES[task.items], check) for score, check in task.scores.items()}


def check_of(config: BenchmarkConfig) -> Check:
    """What makes an answer to a benchmark's item right.

    Raises EvaluationError where a program would have to be run and this machine can make no sandbox.
    """
    if config.check is AnswerCheck.MATH:
        from k2model.evals.graders import mathematics

        return mathematics.grade
    if config.check is AnswerCheck.CODE:
        from k2model.evals.graders import code
        from k2model.sandbox.needs import require

        require()
        return code.grade
    return lambda item, answer: is_right(config, item, answer)


def grader_of(task: Task) -> dict[str, str]:
    """The versions that the verdicts on a task depend on, beside this project's own; {} where an answer is compared."""
    if task.benchmark and task.benchmark.check is AnswerCheck.MATH:
        from k2model.evals.graders import mathematics

        return mathematics.grader_version()
    if task.benchmark and task.benchmark.check is AnswerCheck.CODE:
        from k2model.evals.graders import code

        return code.grader_version()
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
        number = number_in(answer)
        return number is not None and number in map(number_in, accepted)
    if config.check is AnswerCheck.REGEX:
        found = last_match(config.pattern, answer)
        return found is not None and found in ((last_match(config.pattern, one) or one.strip()) for one in accepted)
    return answer.strip() in (one.strip() for one in accepted)


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
    if task.guess is Guess.COMMONEST:
        answers = [item["answer"] for item in items]
        return max(map(answers.count, answers)) / len(answers)
    return None
