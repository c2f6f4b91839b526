"""Tool dialogues: a student calls tools, a teacher who holds the reference answer gives hints but never the answer.

Both parts are learned: each of the student's turns of the attempt that succeeded, and each hint. Turns of an attempt
that failed stay in the dialogue as context. Dialogues are judged and learned with one call a turn, and dropped by K2's
rules (TxT360-3efforts); ours beside them is `bad_arguments`.
"""

import itertools
import json
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import Any

from k2model.documents.markup import chat, last_turn, trace_at
from k2model.synthesis.config import named_families
from k2model.synthesis.conversation import Case, Completion, Conversation, Reply, Request, Sample, Turn
from k2model.synthesis.job import DocumentMetadata, Fault, Job, text_fault
from k2model.synthesis.tools.tasks import TASKS, UNABLE, ToolTask, draw
from k2model.synthesis.tools.toolbox import ERROR, TOOLS, execute, parse_arguments, schema_fault

LICENCE, ORIGIN = "Apache-2.0", "k2model tool dialogues"
MAX_CALLS = 8  # in one attempt
STUDENT = (
    "Use the tools when they help, one call at a time, and state the result in a last sentence. "
    f"If no tool can do what is asked, say: {UNABLE}"
)
TEACHER = (
    "You are a teacher. You know the right answer, your student does not and has tools. Read the attempt and give one "
    "short hint that helps to mend it. Never state the answer. The right answer is: {answer}"
)

Hinting = Generator[Request, Completion, tuple[str, Sample]]

families = partial(named_families, what="family of tool tasks", known=TASKS)


def case(job: Job, index: int) -> Case:
    rng, names = job.rng(index), families(job.config)
    task = draw(names[index % len(names)], rng)
    return Case(task.family, converse(job, task, job.effort(rng)))


def converse(job: Job, task: ToolTask, effort: str) -> Conversation:
    """The student's attempts with the hints between them; the samples of its turns come before those of the hints."""
    if len(task.splits) > 1:
        return [_whole_sample(job, task, [Turn("user", task.question)], effort, Fault("reveals_heldout"))]
    turns = [Turn("system", STUDENT), Turn("user", task.question)]
    hints: list[Sample] = []
    definitions = tuple(TOOLS[name].text for name in task.offered)
    while True:
        exact = exact_student(task, attempt_of(turns), effort)
        reply = (yield Request(tuple(turns), effort, definitions, exact)).reply
        turns += [Turn("assistant", reply.content, reply.trace if effort != "low" else "", reply.calls)]
        if reply.calls and len(attempt_of(turns)) <= 2 * MAX_CALLS:
            turns += [Turn("tool", execute(call, task.offered)) for call in reply.calls]
        elif (not reply.calls and task.right(reply.content)) or len(hints) == job.config.max_feedback:
            break
        else:
            hints = [_unhelpful(hint) for hint in hints]  # the attempt that followed them failed as well
            hint, sample = yield from _hint(job, task, turns, effort, len(hints))
            hints.append(sample)
            if sample.reason:
                return [_whole_sample(job, task, turns, effort, Fault("bad_hint", sample.reason)), *hints]
            turns.append(Turn("user", hint))
    fault = dialogue_fault(task, turns, definitions, job.config.max_characters)
    if fault:
        return [_whole_sample(job, task, turns, effort, fault), *map(_unhelpful, hints)]
    return [*_student_samples(job, task, turns, effort), *hints]


def _unhelpful(hint: Sample) -> Sample:
    return hint._replace(reason=hint.reason or "unhelpful_hint")


def _hint(job: Job, task: ToolTask, turns: Sequence[Turn], effort: str, number: int) -> Hinting:
    asked = (Turn("system", TEACHER.format(answer=task.answer)), Turn("user", transcript(turns)))
    exact = Reply(exact_hint(task, number), "" if effort == "low" else "The attempt does not reach the answer.")
    reply = (yield Request(asked, effort, exact=exact)).reply
    trace = reply.trace if effort != "low" else ""
    if not reply.content.strip():
        fault: Fault | None = Fault("empty_reply")
    elif task.revealed_by(reply.content):
        fault = Fault("teacher_reveals_answer")
    else:
        fault = text_fault((asked[1].content, trace, reply.content), job.config.max_characters)
    turn = {"role": "assistant", "trace": trace, "content": reply.content}
    messages = [*({"role": t.role, "content": t.content} for t in asked), turn]
    return reply.content, job.sample(_metadata(task), chat(messages, effort), fault)


def dialogue_fault(task: ToolTask, turns: Sequence[Turn], tools: tuple[str, ...], max_characters: int) -> Fault | None:
    """Why the dialogue is not learned: K2's rules on its last attempt, an answer not reached, or a guess."""
    attempt = attempt_of(turns)
    reason = dropped_for(tools, attempt)
    if (last := turns[-1]).calls or not task.right(last.content):
        return Fault(reason or "not_solved", f"expected {task.answer}")
    if reason:
        return Fault(reason)
    if task.plan and not any(turn.calls for turn in attempt):
        return Fault("answer_without_tool")
    texts = [text for turn in turns if turn.role == "assistant" for text in (turn.trace, turn.content)]
    return text_fault(texts, max_characters)


def dropped_for(tools: Sequence[str], turns: Sequence[Turn]) -> str | None:
    """The name of the first rule that drops the turns; `tools` are JSON texts of the definitions they may call."""
    schemas = {definition["name"]: definition["inputSchema"] for definition in map(json.loads, tools)}
    calls = [call for turn in turns for call in turn.calls]
    if not schemas and not calls:
        return "no_tools_and_no_call"
    if any(call.name not in schemas for call in calls):
        return "undefined_tool"
    for at, turn in enumerate(turns, 1):  # each call needs a result
        if [result.role for result in turns[at : at + len(turn.calls)]] != ["tool"] * len(turn.calls):
            return "call_without_observation"
    if not turns or turns[-1].role != "assistant" or not (turns[-1].content.strip() or turns[-1].calls):
        return "empty_last_turn"
    for call in calls:
        arguments = parse_arguments(call.arguments)
        if arguments is None or schema_fault(schemas[call.name], arguments):
            return "bad_arguments"
    return None


def unrolled(turns: Sequence[Turn]) -> Iterator[Turn]:
    """Turns with one call each: of several calls, each goes before its own result where the results follow."""
    at = 0
    while at < len(turns):
        turn = turns[at]
        results = list(itertools.takewhile(lambda following: following.role == "tool", turns[at + 1 :]))
        at += 1
        if len(turn.calls) < 2 or len(results) != len(turn.calls):
            yield turn
            continue
        for number, (call, result) in enumerate(zip(turn.calls, results, strict=True)):
            yield turn._replace(calls=(call,)) if number == 0 else Turn("assistant", calls=(call,))
            yield result
        at += len(results)


def attempt_of(turns: Sequence[Turn]) -> list[Turn]:
    """The turns since the user last spoke."""
    start = max(at for at, turn in enumerate(turns) if turn.role == "user")
    return list(turns[start + 1 :])


def transcript(turns: Sequence[Turn]) -> str:
    """The student's dialogue as its teacher reads it."""
    names = {"user": "Teacher", "assistant": "Student", "tool": "Tool"}
    spoken = [turn for turn in turns if turn.role != "system"]
    lines = [
        f"{names[turn.role] if at else 'Question'}: {' '.join([turn.content, *(c.text for c in turn.calls)]).strip()}"
        for at, turn in enumerate(spoken)
    ]
    return "\n".join(lines)


def exact_student(task: ToolTask, attempt: Sequence[Turn], effort: str) -> Reply:
    """The next call of the plan on what was observed, or the closing sentence."""
    observed = [turn.content for turn in attempt if turn.role == "tool"]
    if len(observed) < len(task.plan):
        call = task.plan[len(observed)](observed)
        step = f"step {len(observed) + 1} of {len(task.plan)}"
        high = f"This is {step}. The tool {call.name} gives it exactly, so I call it rather than guess."
        return Reply("", trace_at(effort, f"Use {call.name}.", high), (call,))
    if not task.plan:
        high = f"The tools are {', '.join(task.offered)}. None of them does what is asked."
        return Reply(UNABLE, trace_at(effort, "No tool fits.", high))
    result = observed[-1]
    high = f"All {len(task.plan)} calls are done; the last one returned {result}, which is what was asked."
    return Reply(f"The answer is {result}.", trace_at(effort, f"It is {result}.", high))


def exact_hint(task: ToolTask, number: int) -> str:
    if not task.plan:
        return "Look at what the tools can do. Is there one for this?"
    names = [step(["0"] * 9).name for step in task.plan]
    told = f"The tools to call are, in order: {', '.join(names)}." if number else f"Begin with the tool {names[0]}."
    return f"That is not right yet. Compare your calls with the question. {told}"


def _student_samples(job: Job, task: ToolTask, turns: Sequence[Turn], effort: str) -> list[Sample]:
    single = list(unrolled(turns))
    first = len(single) - len(attempt_of(single))
    messages = _messages(task, single)
    samples = []
    for at in range(first, len(single)):
        failed = single[at].calls and single[at + 1].content.startswith(ERROR)  # nothing to be learned
        if single[at].role == "assistant" and not failed:
            samples.append(job.sample(_metadata(task), last_turn(messages[: at + 1], effort)))
    return samples


def _whole_sample(job: Job, task: ToolTask, turns: Sequence[Turn], effort: str, fault: Fault) -> Sample:
    return job.sample(_metadata(task), chat(_messages(task, list(unrolled(turns))), effort), fault)


def _messages(task: ToolTask, turns: Sequence[Turn]) -> list[dict[str, Any]]:
    tools = json.dumps([TOOLS[name].definition for name in task.offered], ensure_ascii=False)
    return [
        {
            "role": turn.role,
            "content": turn.content,
            **({"tools": tools} if turn.role == "system" else {}),
            **({"trace": turn.trace} if turn.trace else {}),
            **({"tool_calls": [call.text for call in turn.calls]} if turn.calls else {}),
        }
        for turn in turns
    ]


def _metadata(task: ToolTask) -> DocumentMetadata:
    return DocumentMetadata("tools", LICENCE, ORIGIN, task.key, task.splits == {True})
