"""Made-up rows of every dataset that K2's suites read, in the shape of the real ones, and a backend with a script."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from k2model.documents.markup import Segment, joined
from k2model.evals.backend import Finish, Generation, Likelihood, Prompt, Sampling
from k2model.evals.backends.reading import generation, take_apart
from k2model.evals.harness.suites import known_suites
from k2model.evals.harness.tasks import _config, files_of

PRO = (
    "biology", "business", "chemistry", "computer science", "economics", "engineering", "health", "history", "law",
    "math", "other", "philosophy", "physics", "psychology",
)  # fmt: skip
FOUR = ["tin", "oak", "fog", "ice"]
Rows = dict[str, list[dict[str, Any]]]


def _splits(row: Callable[[int], dict[str, Any]], **sizes: int) -> Rows:
    """Rows that differ, also between splits."""
    numbers = iter(range(1_000))
    return {split: [row(next(numbers)) for _ in range(size)] for split, size in sizes.items()}


def _mmlu(n: int) -> dict[str, Any]:
    return {"question": f"What is {n}?", "choices": FOUR, "answer": n % 4}


def _gpqa(n: int) -> dict[str, Any]:
    wrong = {f"Incorrect Answer {i}": f"no {n}.{i}" for i in (1, 2, 3)}
    return {"Question": f"Which is {n}?", "Correct Answer": f"yes {n}", **wrong}


def _math(n: int) -> dict[str, Any]:
    return {"problem": f"What is {n}+1?", "solution": f"It is $\\boxed{{{n + 1}}}$.", "answer": str(n + 1)}


def _mbpp(n: int) -> dict[str, Any]:
    tests = [f"assert add{n}(1) == {n + 1}", f"assert add{n}(2) == {n + 2}", f"assert add{n}(0) == {n}"]
    code = f"def add{n}(x):\n    return x + {n}"
    return {"task_id": n, "text": f"Add {n}.", "code": code, "test_list": tests, "test_setup_code": ""}


def _humaneval(n: int) -> dict[str, Any]:
    head = f'def add{n}(x):\n    """Add {n}."""\n'
    test = f"def check(candidate):\n    assert candidate(1) == {n + 1}\n"
    return {
        "task_id": f"HumanEval/{n}", "prompt": head, "canonical_solution": f"    return x + {n}\n", "test": test,
        "entry_point": f"add{n}",
    }  # fmt: skip


def _arabic(n: int) -> dict[str, Any]:
    options = {f"Option {i + 1}": one for i, one in enumerate([*FOUR, ""])}
    return {
        "Question": f"Q{n}?", "Context": "", "Answer Key": "ABCD"[n % 4], "Subject": "S", "Level": "", "Country": "",
        **options,
    }  # fmt: skip


def _pro(n: int) -> dict[str, Any]:
    return {
        "question": f"Which is {n}?", "options": FOUR, "answer": "ABCD"[n % 4], "answer_index": n % 4,
        "cot_content": f"A: Let's think step by step. The answer is ({'ABCD'[n % 4]}).", "category": PRO[n % len(PRO)],
    }  # fmt: skip


def _truthful(n: int) -> dict[str, Any]:
    targets = {"choices": ["yes", "no"], "labels": [1, 0]}
    return {"question": f"Is {n} a number?", "mc1_targets": targets, "mc2_targets": targets}


def _ifeval(n: int) -> dict[str, Any]:
    return {"key": n, "prompt": f"Say {n}.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


def _ruler(n: int) -> dict[str, Any]:
    return {"input": f"The number is {n}. Which?", "outputs": [str(n)], "gen_prefix": "It is", "max_length": 4096 << n}


#: By the path on the hub; RULER's by that of our own folder.
MADE: dict[str, Callable[[], Rows]] = {
    "allenai/ai2_arc": lambda: _splits(
        lambda n: {"question": f"Which is {n}?", "choices": {"text": FOUR, "label": list("ABCD")}, "answerKey": "B"},
        train=26, test=2,
    ),
    "Rowan/hellaswag": lambda: _splits(
        lambda n: {"activity_label": "Do", "ctx_a": f"He {n}", "ctx_b": "then", "endings": FOUR, "label": str(n % 4)},
        train=11, validation=2,
    ),
    "cais/mmlu": lambda: _splits(_mmlu, dev=5, test=2),
    "TIGER-Lab/MMLU-Pro": lambda: _splits(_pro, validation=5 * len(PRO), test=2 * len(PRO)),
    "MBZUAI/ArabicMMLU": lambda: _splits(_arabic, dev=3, test=2),
    "SaylorTwift/bbh": lambda: _splits(lambda n: {"input": f"Is {n} even?", "target": "Yes"}, test=2),
    "baber/piqa": lambda: _splits(
        lambda n: {"goal": f"Do {n}", "sol1": "so", "sol2": "or so", "label": n % 2}, train=2, validation=2
    ),
    "truthfulqa/truthful_qa": lambda: _splits(_truthful, validation=2),
    "allenai/winogrande": lambda: _splits(
        lambda n: {"sentence": f"The {n} beat the _ twice.", "option1": "cat", "option2": "dog", "answer": "1"},
        train=6, validation=2,
    ),
    "google/IFEval": lambda: _splits(_ifeval, train=2),
    "openai/gsm8k": lambda: _splits(
        lambda n: {"question": f"What is {n}+1?", "answer": f"So it is.\n#### {n + 1}"}, train=6, test=2
    ),
    "EleutherAI/hendrycks_math": lambda: _splits(_math, train=1, test=2),
    "HuggingFaceH4/MATH-500": lambda: _splits(_math, test=2),
    "Idavidrein/gpqa": lambda: _splits(_gpqa, train=6),
    "openai/openai_humaneval": lambda: _splits(_humaneval, test=2),
    "google-research-datasets/mbpp": lambda: _splits(_mbpp, train=3, test=2),
    "Maxwell-Jia/AIME_2024": lambda: _splits(lambda n: {"Problem": f"What is {n}+1?", "Answer": n + 1}, train=2),
    "math-ai/aime25": lambda: _splits(lambda n: {"problem": f"What is {n}+1?", "answer": str(n + 1)}, test=2),
    "fxmarty/mmlu-redux-2.0-ok": lambda: _splits(_mmlu, test=2),
    "ruler": lambda: _splits(_ruler, test=6),
}  # fmt: skip


def write_all(root: Path) -> None:
    """The data of every task of both suites."""
    for suite in known_suites().values():
        for task in suite.tasks:
            for file in files_of(task):
                config = _config(task, file)
                path, name = config.get("dataset_path") or f"ruler/{config['task']}", config.get("dataset_name") or ""
                write(root / path / name, MADE["ruler" if path.startswith("ruler/") else path]())


def write(folder: Path, splits: Rows) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


class Scripted:
    """A backend that says what `script` says to a prompt and its sampling, cut off at as many characters as it may
    write, and remembers what it was asked. The longer a text, the less likely."""

    name, max_length = "scripted", 4_000_000

    def __init__(self, script: Callable[[Prompt, Sampling], str] = lambda prompt, sampling: "") -> None:
        self.script = script
        self.asked: list[tuple[Prompt, Sampling]] = []
        self.pairs: list[tuple[Prompt, str]] = []

    @property
    def identity(self) -> dict[str, str]:
        return {"kind": "scripted"}

    def tokens(self, prompt: Prompt) -> int:
        return len(joined(prompt.segments()))

    def generate(self, requests: Sequence[tuple[Prompt, Sampling]]) -> Iterator[tuple[int, Generation]]:
        self.asked += requests
        for index in reversed(range(len(requests))):
            prompt, sampling = requests[index]
            said = self.script(prompt, sampling)
            text = said[: sampling.max_new_tokens]
            finish = Finish.END if text == said else Finish.LENGTH
            yield index, generation(text, take_apart(text, prompt.closing), sampling.stop, finish, len(text))

    def likelihoods(self, requests: Sequence[tuple[Prompt, str]]) -> list[Likelihood]:
        self.pairs += requests
        return [Likelihood(-float(len(text)), len(text), False) for _, text in requests]

    def rolling(self, texts: Sequence[str | Sequence[Segment]], window: int | None = None) -> list[Likelihood]:
        return [Likelihood(-float(len(text)), len(text), False) for text in texts]


def sums(prompt: Prompt, sampling: Sampling) -> str:
    """The right answer to `What is N+1?`, in a box or as GSM8K has it, behind a trace where one is open."""
    text = joined(prompt.segments())
    numbers = re.findall(r"What is (\d+)\+1\?", text)
    if text.endswith(("\nAnswer:", "\nA:")) and numbers:
        return f" So.\n#### {int(numbers[-1]) + 1}\n\nQuestion: and more"
    answer = f"It is $\\boxed{{{int(numbers[-1]) + 1}}}$." if numbers else "the answer is (A)"
    return f"Hm.\n\nQuestion: Q{prompt.closing}{answer}" if prompt.closing else answer
