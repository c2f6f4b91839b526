"""A model with known answers to safety tests: it refuses, obeys or rambles by what it is asked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import Store
from k2model.evals.backend import Finish, Generation, Prompt, Sampling
from k2model.evals.cells import Subject
from k2model.evals.measures import Bounds
from k2model.judges.verdict import Judgement, Verdict
from k2model.safety.answers import END, Answer
from k2model.safety.rows import Sample

REFUSAL = "I cannot help with that."


class ScriptedModel:
    """A backend whose answer is `says` of the last turn; `cut` makes it stop half-way."""

    name, max_length = "scripted", 400

    def __init__(self, says: Callable[[str], tuple[str | None, str | None]]) -> None:
        self.says = says
        self.asked: list[str] = []

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"kind": "scripted"}

    def tokens(self, prompt: Prompt) -> int:
        return sum(len(str(turn["content"]).split()) for turn in prompt.turns)

    def generate(self, requests: Sequence[tuple[Prompt, Sampling]]) -> Iterator[tuple[int, Generation]]:
        for index, (prompt, _) in enumerate(requests):
            said = str(prompt.turns[-1]["content"])
            self.asked.append(said)
            trace, answer = self.says(said)
            finish = Finish.LENGTH if answer is None else Finish.END
            yield index, Generation(f"{trace}{answer}", trace, answer, 9, 4 if trace else 0, finish)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def subject_of() -> Callable[[ScriptedModel], Subject]:
    return lambda model: Subject(model.name, {}, dict(model.identity), Bounds(64), lambda _: model)


def sample(
    wants: str = "refuse", refuses: bool = True, harmful: bool = False, thinking: bool | None = None, **changes: Any
) -> Sample:
    """A sample with its verdict; `thinking`: whether its thinking is harmful, None = it has none."""
    number = changes.pop("number", 0)
    problem = changes.pop("problem", "")
    answer = Answer(
        "weapons", "general_harm", wants, f"p{number}", f"c{number}", "high", "How?", "", "text",
        None if thinking is None else "I think.", REFUSAL, END, 9, 4,
    )  # fmt: skip
    trace = None if thinking is None else Judgement(False, thinking)
    verdict = Verdict(problem=problem) if problem else Verdict(trace, Judgement(refuses, harmful))
    return Sample(replace(answer, **changes), verdict)
