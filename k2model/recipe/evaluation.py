"""What a recipe says of its evaluation: the project's families of items, and benchmarks of the recipe's own.

A benchmark is a file of items; docs/own_benchmark.md has its rows and rules. Where the file lies bears no identity,
what is in it does, in the steps that read it (`k2model.documents.benchmarks`).
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from k2model.recipe.fields import hardware, place, when_set


class Mode(str, Enum):
    """How an item is put to the model, and where in what it writes the answer begins."""

    COMPLETION = "completion"  # as a text that goes on
    THINK = "think"  # K2's reasoning before fine-tuning: a trace, then the answer
    DIRECT = "direct"  # the same with an empty trace
    LOW = "low"  # a chat, by the effort that is asked for
    MEDIUM = "medium"
    HIGH = "high"


class AnswerCheck(str, Enum):
    """When an answer to a benchmark's item is right (`k2model.evals.checks`)."""

    EXACT = "exact"  # equals an accepted answer in NFC, but for white space around it
    NUMERIC = "numeric"  # its last number equals that of an accepted answer
    CHOICE = "choice"  # is the right one of the row's choices
    REGEX = "regex"  # what `pattern` finds last equals an accepted answer
    MATH = "math"  # is mathematically an accepted answer (`k2model.documents.answers`)
    JUDGE = "judge"  # is right in a language model's judgement (`k2model.judges`)
    CODE = "code"  # is a program that passes the row's tests, in a sandbox (`k2model.evals.graders.code`)


#: In a completion the likeliest choice is the model's, and nothing is generated; elsewhere it writes a choice's letter.
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class BenchmarkConfig:
    """A benchmark of the recipe's own: every row of a file is an item, and every phase it fits is scored on all.

    `prompt`, `answer`, `choices` and `id` name fields of a row; dots go into structs (`meta.question`).
    """

    name: str  # of its score: `exam`, or `law/civil`
    location: str = place()  # of the items: a JSONL or Parquet file, as a path or URI
    check: AnswerCheck = AnswerCheck.EXACT
    mode: Mode = Mode.COMPLETION  # low, medium and high are asked after fine-tuning alone, think and direct before it
    prompt: str = "prompt"
    answer: str = "answer"  # a text or number, or a list of those accepted; of choices a text, a letter, or an index;
    # of `check=code` the tests, in Python
    entry_point: str = "entry_point"  # the function that tests call, where `check` is `code` and a row has one
    choices: str = "choices"  # a list of texts, where `check` is `choice`
    id: str = ""  # "" = the row's number
    template: str = "{prompt}"  # what is asked, and how a shot is shown, its answer behind it
    pattern: str = ""  # a regular expression, where `check` is `regex`: its first group, or all of it
    judge: str = hardware("")  # `http://host/v1#model`, where `check` is `judge`; its model bears on the score
    api_key_env: str = hardware("")  # name of the environment variable that holds the judge's key; "" = none is sent
    shots: int = 0  # solved items shown before each that is asked, always the same
    examples: str = place()  # a file of these; "" = the first rows of `location`, which are not asked then
    max_new_tokens: int = 32
    stop: str = "\n"  # ends the answer of a completion; "" = nothing but the end of the text does
    temperature: float = 0.0  # 0 takes the likeliest token each time
    top_p: float = 1.0  # share of probability that is drawn from, where temperature is not 0
    seed: int = 0  # of what is drawn; each item and repeat has a random stream of its own
    limit: int = 0  # items that are asked, the first ones; 0 = all
    repeats: int = 1  # how often each item is asked; the score is the mean over all of it, pass@k stand beside it
    thinking_budget: int = 0  # tokens of a trace after which it is closed for the model; 0 = never
    chance: float = 0.0  # what a guesser gets, where it is not 0; of choices it is derived
    licence: str = ""  # of the items: an SPDX id, or `unknown`
    group: str = "Other"  # under which tables show it
    decontaminate: bool = True  # whether training documents that hold an item leave the corpus

    @property
    def voted(self) -> bool:
        """Whether what answers say can be counted as votes; programs and texts for a judge hardly ever agree."""
        return self.check not in (AnswerCheck.CODE, AnswerCheck.JUDGE)

    @property
    def by_likelihood(self) -> bool:
        """Whether nothing is generated: the likeliest choice is the model's answer."""
        return self.check is AnswerCheck.CHOICE and self.mode is Mode.COMPLETION


@dataclass(frozen=True)
class EvaluationConfig:
    """What every phase is scored on beside its held-out losses: items of `families` (`k2model.recipe.tasks`) and
    `benchmarks`, none where it names none."""

    families: tuple[str, ...] = ()
    items_per_family: int = 128
    retrieval_documents: int = 32
    retrieval_queries: int = 8
    loss_tokens: int = 32_768  # of held-out text per domain, at four characters a token
    batch_size: int = 128
    workers: int = hardware(2)
    tensor: int = hardware(1)  # of the workers that hold one model together, each its part; it divides them
    benchmarks: tuple[BenchmarkConfig, ...] = when_set(())
    task_files: tuple[str, ...] = place(())  # YAML files of benchmarks, which `load_recipe` puts among them
    thinking_budgets: tuple[int, ...] = when_set(())  # tokens after which an open trace is closed, beside never
    matrix_schedule: str = when_set("", identity=False)  # cron, UTC: when Flyte fills the matrix, beside a training too
    matrix_tasks: tuple[str, ...] = when_set((), identity=False)  # what is asked then; () = what the recipe asks


_NAME = re.compile(r"[a-z][a-z0-9_]*(/[a-z0-9_]+)?")


def benchmarks_problem(benchmarks: Iterable[BenchmarkConfig], taken: Iterable[str]) -> str | None:
    """The first thing wrong with a recipe's benchmarks, field and remedy named; None when nothing is.

    `taken`: first parts of scores' names that mean something else.
    """
    seen = set()
    for benchmark in benchmarks:
        where = f"evaluation.benchmarks.{benchmark.name}"
        if not _NAME.fullmatch(benchmark.name):
            return (
                f"evaluation.benchmarks: a benchmark is named {benchmark.name!r}; expected lower-case letters, digits "
                "and _, and one / at most (law/civil): it names a score"
            )
        first, _, rest = benchmark.name.partition("/")
        if first in taken or rest in [mode.value for mode in Mode]:
            return f"{where}: '{first if first in taken else rest}' means something else in scores; choose another name"
        if benchmark.name in seen:
            return f"{where} stands there twice; give each benchmark a name of its own"
        seen.add(benchmark.name)
        if problem := _missing(benchmark) or _idle(benchmark) or _out_of_range(benchmark):
            return f"{where}.{problem}"
    return None


def _missing(benchmark: BenchmarkConfig) -> str | None:
    for name, what in (("location", "a JSONL or Parquet file of items"), ("licence", "an SPDX id, or 'unknown'")):
        if not getattr(benchmark, name):
            return f"{name} is empty; set it to {what}"
    if "{prompt}" not in benchmark.template:
        return f"template={benchmark.template!r} has no {{prompt}}, where the item's prompt goes"
    if benchmark.check is AnswerCheck.JUDGE and "#" not in benchmark.judge:
        return f"judge={benchmark.judge!r} is no judge; set it to http://HOST/v1#MODEL, as its server names the model"
    if benchmark.check is not AnswerCheck.REGEX:
        return None
    try:
        return (
            None if benchmark.pattern and re.compile(benchmark.pattern) else "pattern is empty; check=regex needs one"
        )
    except re.error as error:
        return f"pattern={benchmark.pattern!r} is no regular expression of Python's ({error})"


def _idle(benchmark: BenchmarkConfig) -> str | None:
    if benchmark.pattern and benchmark.check is not AnswerCheck.REGEX:
        return f"pattern has no effect with check={benchmark.check.value}; set check=regex, or drop it"
    if benchmark.judge and benchmark.check is not AnswerCheck.JUDGE:
        return f"judge has no effect with check={benchmark.check.value}; set check=judge, or drop it"
    if benchmark.shots and benchmark.check is AnswerCheck.CODE:
        return f"shots={benchmark.shots} has no effect with check=code, whose rows hold tests and no solution; drop it"
    if benchmark.examples and not benchmark.shots:
        return "examples has no effect with shots=0; say how many are shown, or drop it"
    if benchmark.repeats > 1 and benchmark.by_likelihood:
        return f"repeats={benchmark.repeats} has no effect where the likeliest choice is the answer; drop it"
    if benchmark.repeats > 1 and not benchmark.temperature:
        return f"repeats={benchmark.repeats} has no effect with temperature=0, which answers alike; draw, or drop it"
    if benchmark.chance and benchmark.check is AnswerCheck.CHOICE:
        return "chance is derived from the number of choices; drop it"
    return None


def _out_of_range(benchmark: BenchmarkConfig) -> str | None:
    for name, least in (
        ("shots", 0),
        ("max_new_tokens", 1),
        ("repeats", 1),
        ("limit", 0),
        ("thinking_budget", 0),
        ("seed", 0),
    ):
        if getattr(benchmark, name) < least:
            return f"{name}={getattr(benchmark, name)} must be at least {least}"
    if not 0 <= benchmark.temperature < math.inf:
        return f"temperature={benchmark.temperature} must be a number from 0 on"
    if not 0 < benchmark.top_p <= 1:
        return f"top_p={benchmark.top_p} must be a share above 0, at most 1"
    return None if 0 <= benchmark.chance < 1 else f"chance={benchmark.chance} must be a share from 0 to below 1"
