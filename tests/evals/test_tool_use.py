"""Dialogues with tools: one who follows the plan gets everything, and each fault costs the score it belongs to."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from k2model.documents.schema import is_heldout
from k2model.evals.backend import Prompt, Sampling
from k2model.evals.backends.own import OwnModel
from k2model.evals.items import Grade, ItemResult
from k2model.evals.tool_use import MOST_TURNS, WITHOUT_TOOLS, ask, planned_calls, tasks_of
from k2model.model.transformer import K2Model
from k2model.recipe.evaluation import Mode
from k2model.recipe.tasks import Method, Task
from k2model.synthesis.conversation import ToolCall
from k2model.synthesis.tools.tasks import TASKS, ToolTask
from k2model.synthesis.tools.toolbox import execute
from tests.evals.conftest import MODEL, World
from tests.evals.scripted import Scripted, cut_off, said

TASKS_ASKED = tasks_of(33)
BY_QUESTION = {task.question: task for task in TASKS_ASKED}
TASK = Task("tool_use", {"tool_use": ""}, "tool_use", Mode.HIGH, 64, Method.DIALOGUE)
LENGTH = 10**6


def written(text: str) -> str:
    return f"<tool_calls>{text}</tool_calls>"


def follow(prompt: Prompt, change=lambda call, number: call.text, reply=lambda answer: f"It is {answer}."):
    """The next call of the plan on the results that the prompt shows, or the closing reply."""
    task = BY_QUESTION[str(prompt.turns[1]["content"])]
    observed = [str(turn["content"]) for turn in prompt.turns if turn["role"] == "tool"]
    if len(observed) < len(task.plan):
        return said(written(change(task.plan[len(observed)](observed), len(observed))), "t", 1)
    return said(reply(observed[-1] if observed else "nothing"), "t", 1)


def asked(world: World, say, tasks: Sequence[ToolTask] = TASKS_ASKED, **more) -> list[ItemResult]:
    return ask(Scripted(world.loaded_tokenizer, say, **more), tasks, TASK, LENGTH)


def shares(results: Sequence[ItemResult]) -> dict[str, float]:
    found: dict[str, list[bool]] = {}
    for result in results:
        found.setdefault(result.score.removeprefix("tool_use/"), []).append(result.right)
    return {score: sum(rights) / len(rights) for score, rights in found.items()}


def test_questions_are_held_out_of_every_family_and_the_same_each_time() -> None:
    told = [[(task.question, task.offered, task.answer) for task in tasks]
            for tasks in (TASKS_ASKED, tasks_of(33), tasks_of(44)[:33], tasks_of(33, seed=1))]  # fmt: skip
    assert told[0] == told[1] == told[2] != told[3]
    assert {task.family for task in TASKS_ASKED} == set(TASKS)
    assert all(is_heldout(key) for task in TASKS_ASKED if task.plan for key in task.keys)
    assert all(task.question in WITHOUT_TOOLS for task in TASKS_ASKED if not task.plan)
    assert len({task.key for task in TASKS_ASKED}) == 33


def test_who_follows_the_plan_gets_everything_right(world: World) -> None:
    backend = Scripted(world.loaded_tokenizer, lambda prompt, _: follow(prompt))
    results = ask(backend, TASKS_ASKED, TASK, LENGTH)
    assert shares(results) == dict.fromkeys(("schema", "function", "arguments", "result", "turns", "no_call"), 1.0)
    counts = {score: sum(r.score == f"tool_use/{score}" for r in results) for score in ("schema", "turns", "no_call")}
    several = sum(len(task.plan) > 1 for task in TASKS_ASKED)
    assert counts == {"schema": 30, "turns": several, "no_call": 3} and several >= 9
    system, user = backend.asked[0][0].turns
    tools = json.loads(system["tools"])
    assert user["content"] == TASKS_ASKED[0].question and all({"name", "inputSchema"} <= set(tool) for tool in tools)
    last = backend.asked[-1][0].turns
    assert [turn["role"] for turn in last] == ["system", "user", *["assistant", "tool"] * ((len(last) - 2) // 2)]
    assert all(r.thinking_tokens >= 1 and r.seed is None for r in results)


def test_each_fault_costs_its_scores(world: World) -> None:
    def without(change=None, reply=None):
        more = {name: one for name, one in (("change", change), ("reply", reply)) if one}
        return shares(asked(world, lambda prompt, _: follow(prompt, **more), [t for t in TASKS_ASKED if t.plan]))

    all_right = dict.fromkeys(("schema", "function", "arguments", "result", "turns"), 1.0)
    assert without(reply=lambda answer: "I do not know.") == {**all_right, "result": 0.0, "turns": 0.0}
    # a needless field breaks the schema; the tool answers with an error, which the reply then states
    extra = without(change=lambda call, n: call.text.replace('"arguments": {', '"arguments": {"why": 1, '))
    assert extra["schema"] == extra["arguments"] == extra["result"] == 0.0 and extra["function"] == 1.0
    assert without(change=lambda call, n: call.text.replace('"name"', '"tool"'))["function"] == 0.0
    assert without(change=lambda call, n: "{")["schema"] == 0.0
    other = without(change=lambda call, n: call.text.replace(call.name, "no_such_tool"))
    assert other == dict.fromkeys(all_right, 0.0)
    unclosed = shares(asked(world, lambda prompt, _: said("<tool_calls>{}"), [t for t in TASKS_ASKED if t.plan]))
    assert unclosed == dict.fromkeys(all_right, 0.0)


def test_an_answer_without_a_call_is_a_result_alone(world: World) -> None:
    answers = {task.question: task.answer for task in TASKS_ASKED}
    results = asked(world, lambda prompt, _: said(f"It is {answers[str(prompt.turns[1]['content'])]}."))
    assert shares(results) == {
        "schema": 0.0,
        "function": 0.0,
        "arguments": 0.0,
        "result": 1.0,
        "turns": 0.0,
        "no_call": 1.0,
    }


def test_a_call_where_none_is_due_and_one_that_never_ends(world: World) -> None:
    call = ToolCall("weekday", '{"day": "2024-02-29"}').text
    results = asked(world, lambda prompt, _: said(written(call)))
    assert shares(results)["no_call"] == 0.0
    (task,) = [one for one in TASKS_ASKED if one.family == "days"][:1]
    backend = Scripted(world.loaded_tokenizer, lambda prompt, _: said(written(call)))
    endless = ask(backend, [task], replace(TASK, mode=Mode.LOW), LENGTH)
    assert len(backend.asked) == MOST_TURNS and {r.grade for r in endless} == {Grade.CUT_OFF}


def test_calls_are_compared_as_objects_in_any_order(world: World) -> None:
    task = next(one for one in TASKS_ASKED if one.family == "two-items")
    first, second, third = planned_calls(task)
    spaced = json.dumps(json.loads(second.text), indent=1)
    turns = [said(written(spaced) + written(first.text)), said(written(third.text)), said(f"{task.answer}")]

    def say(prompt: Prompt, _: Sampling):
        return turns[sum(turn["role"] == "assistant" for turn in prompt.turns)]

    results = asked(world, say, [task])
    assert all(r.right for r in results) and len(results) == 5
    assert json.loads(results[0].answer.split("; ")[0]) == json.loads(second.text)


def test_what_was_cut_off_or_has_no_room_is_told_apart(world: World) -> None:
    days = [one for one in TASKS_ASKED if one.family == "days"]
    results = asked(world, lambda prompt, _: cut_off("hm"), days)
    assert {r.grade for r in results} == {Grade.CUT_OFF} and not any(r.answer for r in results)
    short = Scripted(world.loaded_tokenizer, lambda *_: said("x"), max_length=200)
    assert {r.grade for r in ask(short, days, TASK, LENGTH)} == {Grade.TOO_LONG} and not short.asked


def test_calls_are_carried_out_by_what_is_given(world: World) -> None:
    seen = []

    def run(call: ToolCall, offered: Sequence[str]) -> str:
        seen.append(call.name)
        return execute(call, offered)

    backend = Scripted(world.loaded_tokenizer, lambda prompt, _: follow(prompt))
    tasks = [one for one in TASKS_ASKED if one.family == "shopping"]
    ask(backend, tasks, TASK, LENGTH, run=run)
    assert seen == ["price"] * len(tasks) + ["calculate"] * len(tasks)
    with pytest.raises(ValueError, match="mode completion is none"):
        ask(backend, tasks, replace(TASK, mode=Mode.COMPLETION), LENGTH)


def test_the_projects_own_model_is_asked(world: World) -> None:
    """Definitions of tools take more than the 256 positions of the one; random weights call nothing."""
    learnt = OwnModel(world.model, world.loaded_tokenizer, precision=torch.float32)
    assert {r.grade for r in ask(learnt, tasks_of(3), TASK, LENGTH)} == {Grade.TOO_LONG}
    torch.manual_seed(0)
    random = OwnModel(K2Model(MODEL, 1e4, 4096), world.loaded_tokenizer, precision=torch.float32)
    results = ask(random, tasks_of(3), replace(TASK, mode=Mode.LOW, max_new_tokens=6, temperature=1.0), LENGTH)
    assert len(results) >= 12 and {r.grade for r in results} <= {Grade.WRONG, Grade.CUT_OFF}
    assert all(r.seed is not None and 0 < r.tokens <= 6 * MOST_TURNS and r.generation for r in results)
