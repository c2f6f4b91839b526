"""Tool use over several turns: tools are offered, calls are carried out, and each part of it is a score of its own.

    tool_use/schema      every call is JSON of a tool that is offered, and keeps that tool's JSON schema
    tool_use/function    the tools that were called are those that the question needs, each as often
    tool_use/arguments   and with the right arguments, those made of earlier results among them
    tool_use/result      the closing reply states the answer
    tool_use/turns       the same of questions that take several calls, with every call right
    tool_use/no_call     nothing is called where no tool that is offered helps
    tool_code/schema, tool_code/output, tool_code/result
                         of questions that take a program (`tool_code`): one was run, what it wrote has the answer, and
                         so has the closing reply

Questions, tools and the exact answers are those of synthesis (`synthesis/tools`), drawn from the held-out tenth of
their keys; what no tool does is asked in words of its own. Those tools are plain functions of ours, called
with checked arguments; programs run in the sandbox. Dialogues go on side by side, a turn of all of them at a time.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from k2model.documents.markup import TOOL_CALLS, TOOL_CALLS_END
from k2model.documents.schema import content_id
from k2model.evals.answers import Answers
from k2model.evals.backend import Backend, Generation, Prompt, Sampling
from k2model.evals.items import Grade, ItemResult
from k2model.evals.questions import generations, sampling_of
from k2model.evals.tool_code import PROGRAM, carried_out
from k2model.recipe.tasks import Task
from k2model.synthesis.conversation import ToolCall
from k2model.synthesis.tools.tasks import TASKS, ToolTask, draw
from k2model.synthesis.tools.toolbox import ERROR, TOOLS, execute, parse_arguments, schema_fault

VERSION = "1"  # raised when other questions are made
MOST_TURNS = 8  # of the assistant in one dialogue
INSTRUCTION = (
    "Use the tools when they help, one call at a time, and state the result in a last sentence. If no tool helps, say "
    "so or answer by yourself."
)
#: No tool does these, and some need none.
WITHOUT_TOOLS = (
    "Iron my shirt, please.", "Tell the neighbours to turn their music down.", "Hand me the salt.",
    "Walk the dog for me.", "Paint the fence white.", "Hold this for a second.", "Peel these potatoes.",
    "Ring the doorbell.", "Thank you, that was all.", "Good evening!", "Say hello in one word.",
    "Which word is the opposite of cold?", "Write one sentence about a cat.", "Name a colour.",
    "Do you think in words?", "Repeat this word: lantern.",
    "Is a whale a fish?", "Give me a word that begins with q.", "Finish the saying: better late than ...",
    "Which season comes after winter?", "Wake me up at six tomorrow.", "Print this letter twice.",
    "Unlock the front door.", "Order a taxi to the station.",
)  # fmt: skip
_CALL = re.compile(re.escape(TOOL_CALLS) + r"(.*?)" + re.escape(TOOL_CALLS_END), re.DOTALL)

Execute = Callable[[ToolCall, Sequence[str]], str]


@dataclass
class Dialogue:
    """A question with what was said since. calls: None for what was no call by its form; results: what tools answered.
    seed: of its first turn, where it is drawn. ended: how it ended, None while it goes on."""

    question: ToolTask
    turns: list[Mapping[str, Any]]
    calls: list[ToolCall | None] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    written: list[Generation] = field(default_factory=list)
    reply: str = ""
    seed: int | None = None
    ended: Grade | None = None


def tasks_of(count: int, seed: int = 0) -> list[ToolTask]:
    """`count` questions with distinct keys, of every family in turn, those that need no call among them."""
    rng = Random(f"{seed}:evaluation tool_use")
    families = [name for name in TASKS if name != "abstention"] + ["abstention"]
    nothing_due = rng.sample(WITHOUT_TOOLS, len(WITHOUT_TOOLS))
    found: dict[str, ToolTask] = {}
    for number in range(count):
        family = families[number % len(families)]
        if family == "abstention":
            question = nothing_due[number // len(families) % len(nothing_due)]
            task = ToolTask(family, question, tuple(sorted(rng.sample([*TOOLS], 3))), (), "", (f"no call {number}",))
        else:
            task = _heldout(family, rng, found)
        found[task.key] = task
    return list(found.values())


def _heldout(family: str, rng: Random, found: Mapping[str, ToolTask]) -> ToolTask:
    while True:
        task = draw(family, rng)
        if task.splits == {True} and task.key not in found:
            return task


def definition_of(name: str) -> Mapping[str, Any]:
    return PROGRAM if name == PROGRAM["name"] else TOOLS[name].definition


def ask(
    backend: Backend, questions: Sequence[ToolTask], task: Task, max_length: int, answers: Answers | None = None,
    run: Execute = carried_out,
) -> list[ItemResult]:  # fmt: skip
    """Every dialogue led to its end; a result for each score that a question counts for.

    task: says how each turn is asked, which may write less where a context of `max_length` has no room. answers: what
    was said before, and is not asked again.

    run: what carries a call out, and answers `error: ...` where it cannot. Raises ValueError for a mode
    that is no chat.
    """
    if not Prompt.of("", task.mode).chat:
        raise ValueError(f"tools are offered in a chat; mode {task.mode.value} is none, ask at low, medium or high")
    dialogues = [Dialogue(one, opening(one)) for one in questions]
    answers, positions = answers or Answers(), min(max_length, backend.max_length)
    for turn in range(MOST_TURNS):
        requests: dict[str, tuple[Prompt, Sampling]] = {}
        going = {f"{number}#{turn}": one for number, one in enumerate(dialogues) if one.ended is None}
        for key, dialogue in going.items():
            prompt = Prompt(task.mode, tuple(dialogue.turns))
            if (room := positions - backend.tokens(prompt)) < (task.least_new_tokens or task.max_new_tokens):
                dialogue.ended = Grade.TOO_LONG
            else:
                requests[key] = prompt, (drawn := sampling_of(task, f"{dialogue.question.key}#{turn}", 0, room))
                dialogue.seed = drawn.seed if task.temperature and not turn else dialogue.seed
        for key, written in generations(backend, requests, answers).items():
            advance(going[key], written, run)
    for dialogue in dialogues:
        dialogue.ended = dialogue.ended or Grade.CUT_OFF  # it would call on
    return [result for dialogue in dialogues for result in graded(dialogue)]


def opening(task: ToolTask) -> list[Mapping[str, Any]]:
    """The tools that are offered, as K2 is told of them, and the question."""
    definitions = json.dumps([definition_of(name) for name in task.offered], ensure_ascii=False)
    return [
        {"role": "system", "content": INSTRUCTION, "tools": definitions},
        {"role": "user", "content": task.question},
    ]


def advance(dialogue: Dialogue, written: Generation, run: Execute) -> None:
    """Takes what the model said: a closing reply ends the dialogue; calls are carried out, and it goes on."""
    dialogue.written.append(written)
    if not written.complete or written.answer is None:
        dialogue.ended = Grade.CUT_OFF
        return
    said = written.answer
    texts = _CALL.findall(said)
    content = _CALL.sub("", said).strip()
    if not texts:
        dialogue.calls += [None] * (TOOL_CALLS in said)  # one that was not closed
        dialogue.reply, dialogue.ended = content, Grade.WRONG
        return
    calls = [call_of(text) for text in texts]
    dialogue.calls += calls
    results = [run(call, dialogue.question.offered) if call else f"{ERROR}this is no call" for call in calls]
    dialogue.results += results
    dialogue.turns.append({"role": "assistant", "content": content, "tool_calls": texts})
    dialogue.turns += [{"role": "tool", "content": result} for result in results]


def call_of(text: str) -> ToolCall | None:
    """A call as K2 writes it; None where it is not an object of a name and arguments."""
    call = parse_arguments(text)
    if call is None or set(call) != {"name", "arguments"} or not isinstance(call["name"], str):
        return None
    if not isinstance(call["arguments"], dict):
        return None
    return ToolCall(call["name"], json.dumps(call["arguments"], ensure_ascii=False))


def graded(dialogue: Dialogue) -> list[ItemResult]:
    """A result for each of the scores; one that was cut off or had no room for its next turn has that grade in all."""
    task, calls = dialogue.question, dialogue.calls
    if task.offered == (PROGRAM["name"],):
        return _graded_program(dialogue)
    if not task.plan:
        return [_result(dialogue, "no_call", not calls, "no call")]
    planned = planned_calls(task)
    function = Counter(call.name if call else "" for call in calls) == Counter(call.name for call in planned)
    arguments = Counter(map(_canonical, calls)) == Counter(map(_canonical, planned))
    result = bool(dialogue.reply) and task.right(dialogue.reply)
    wanted = "; ".join(call.text for call in planned)
    found = [
        _result(dialogue, "schema", bool(calls) and all(keeps_schema(call, task.offered) for call in calls), wanted),
        _result(dialogue, "function", function, wanted),
        _result(dialogue, "arguments", arguments, wanted),
        _result(dialogue, "result", result, task.answer),
    ]
    return found + ([_result(dialogue, "turns", arguments and result, task.answer)] if len(planned) > 1 else [])


def _graded_program(dialogue: Dialogue) -> list[ItemResult]:
    """Any program will do whose output has the answer."""
    task, calls = dialogue.question, dialogue.calls
    output = any(task.right(result) for result in dialogue.results if not result.startswith(ERROR))
    parts = {
        "schema": bool(calls) and all(keeps_schema(call, task.offered) for call in calls),
        "output": output,
        "result": output and bool(dialogue.reply) and task.right(dialogue.reply),
    }
    return [_result(dialogue, part, right, task.answer, "tool_code") for part, right in parts.items()]


def planned_calls(task: ToolTask) -> list[ToolCall]:
    """The calls that answer a question, with the arguments that the results before them give."""
    observed: list[str] = []
    calls = []
    for step in task.plan:
        calls.append(step(observed))
        observed.append(execute(calls[-1], task.offered))
    return calls


def keeps_schema(call: ToolCall | None, offered: Sequence[str]) -> bool:
    if call is None or call.name not in offered:
        return False
    arguments = parse_arguments(call.arguments)
    return arguments is not None and schema_fault(definition_of(call.name)["inputSchema"], arguments) is None


def _canonical(call: ToolCall | None) -> str:
    return "" if call is None else f"{call.name} {json.dumps(json.loads(call.arguments), sort_keys=True)}"


def _result(dialogue: Dialogue, score: str, right: bool, wanted: str, family: str = "tool_use") -> ItemResult:
    task, written = dialogue.question, dialogue.written
    failed = dialogue.ended if dialogue.ended in (Grade.CUT_OFF, Grade.TOO_LONG) else None
    grade = failed or (Grade.RIGHT if right else Grade.WRONG)
    answer = (
        None if failed else "; ".join([*(call.text if call else "no call" for call in dialogue.calls), dialogue.reply])
    )
    return ItemResult(
        f"{family}/{score}", content_id(family, task.key), task.family, task.question,
        "\n".join(one.text for one in written), answer, wanted, grade, float(grade is Grade.RIGHT),
        "\n".join(one.trace or "" for one in written) or None, seed=dialogue.seed,
        tokens=sum(one.tokens for one in written), thinking_tokens=sum(one.thinking_tokens for one in written),
    )  # fmt: skip
