"""Tool dialogues: a student calls tools, a teacher who holds the reference answer gives hints but never the answer.

Both parts are harvested: each of the student's turns of the attempt that succeeded, and each hint. Turns of an
attempt that failed stay in the dialogue as context and are never learned.
"""

import json
from collections.abc import Generator, Sequence
from typing import Any

from k2model.documents.markup import chat, last_turn
from k2model.synthesis.config import SynthesisConfig, unknown
from k2model.synthesis.conversation import Case, Completion, Reply, Request, Sample, Talk, Turn
from k2model.synthesis.job import DocumentMetadata, Fault, Job, said, text_fault
from k2model.synthesis.tools.filters import Dialogue, dropped_for, unrolled
from k2model.synthesis.tools.tasks import TASKS, UNABLE, ToolTask, draw
from k2model.synthesis.tools.toolbox import ERROR, TOOLS, execute

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

HintTalk = Generator[Request, Completion, tuple[str, Sample]]


def check_job(config: SynthesisConfig) -> None:
    """Raises `SynthesisError` for an unknown family of tasks."""
    for name in config.families:
        if name not in TASKS:
            raise unknown("family of tool tasks", name, list(TASKS))


def case(job: Job, index: int) -> Case:
    rng = job.rng(index)
    names = job.config.families or tuple(TASKS)
    task = draw(names[index % len(names)], rng)
    return Case(task.family, _talk(job, task, job.effort(rng)))


def _talk(job: Job, task: ToolTask, effort: str) -> Talk:
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


def _hint(job: Job, task: ToolTask, turns: Sequence[Turn], effort: str, number: int) -> HintTalk:
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
    return reply.content, job.sample(_subject(task), chat(messages, effort), fault)


def dialogue_fault(task: ToolTask, turns: Sequence[Turn], tools: tuple[str, ...], max_characters: int) -> Fault | None:
    """Why the dialogue is not harvested: K2's rules on its last attempt, an answer not reached, or a guess."""
    attempt = Dialogue(tools, tuple(attempt_of(turns)))
    if (last := turns[-1]).calls or not task.right(last.content):
        return Fault(dropped_for(attempt) or "not_solved", f"expected {task.answer}")
    if reason := dropped_for(attempt):
        return Fault(reason)
    if task.plan and not any(turn.calls for turn in attempt.turns):
        return Fault("answer_without_tool")
    return text_fault(said(turns), max_characters)


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
        traces = {
            "low": "",
            "medium": f"Use {call.name}.",
            "high": f"This is {step}. The tool {call.name} gives it exactly, so I call it rather than guess.",
        }
        return Reply("", traces[effort], (call,))
    if not task.plan:
        traces = {
            "low": "",
            "medium": "No tool fits.",
            "high": f"The tools are {', '.join(task.offered)}. None of them does what is asked.",
        }
        return Reply(UNABLE, traces[effort])
    traces = {
        "low": "",
        "medium": f"It is {observed[-1]}.",
        "high": f"All {len(task.plan)} calls are done; the last one returned {observed[-1]}, which is what was asked.",
    }
    return Reply(f"The answer is {observed[-1]}.", traces[effort])


def exact_hint(task: ToolTask, number: int) -> str:
    if not task.plan:
        return "Look at what the tools can do. Is there one for this?"
    names = [step(["0"] * 9).name for step in task.plan]
    told = f"The tools to call are, in order: {', '.join(names)}." if number else f"Begin with the tool {names[0]}."
    return f"That is not right yet. Compare your calls with the question. {told}"


def _student_samples(job: Job, task: ToolTask, turns: Sequence[Turn], effort: str) -> list[Sample]:
    single = list(unrolled(turns))
    first = len(single) - len(attempt_of(single))
    ends = [at for at in range(first, len(single)) if single[at].role == "assistant" and not _failed_call(single, at)]
    messages = _messages(task, single)
    return [job.sample(_subject(task), last_turn(messages[: end + 1], effort)) for end in ends]


def _failed_call(turns: Sequence[Turn], at: int) -> bool:
    """Whether the turn is a call that its tool could not carry out: nothing to be learned."""
    return bool(turns[at].calls) and turns[at + 1].content.startswith(ERROR)


def _whole_sample(job: Job, task: ToolTask, turns: Sequence[Turn], effort: str, fault: Fault) -> Sample:
    return job.sample(_subject(task), chat(_messages(task, list(unrolled(turns))), effort), fault)


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


def _subject(task: ToolTask) -> DocumentMetadata:
    return DocumentMetadata(task.family, "tools", LICENCE, ORIGIN, task.key, task.splits == {True})
