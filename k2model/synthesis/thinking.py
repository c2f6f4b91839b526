"""Thinking traces: a verifiable problem, the way to its answer, and the answer, which a program has checked."""

from k2model.documents.markup import Segment, chat, reasoning
from k2model.errors import SynthesisError
from k2model.synthesis.config import Form, SynthesisConfig, TeacherKind
from k2model.synthesis.conversation import Case, Conversation, Reply, Request, Turn
from k2model.synthesis.job import Answered, Fault, Job, final_answer, text_fault, wrong_step
from k2model.synthesis.problems import Problem, check_family, solved_families

INSTRUCTIONS = {
    "high": "Think the problem through step by step and check what you find. "
    "Close with one line that begins with `Answer:` and holds the answer alone.",
    "medium": "Think briefly, in a few short lines. "
    "Close with one line that begins with `Answer:` and holds the answer alone.",
    "low": "Do not explain anything. Write one line that begins with `Answer:` and holds the answer alone.",
}


def families(config: SynthesisConfig) -> tuple[str, ...]:
    """Those a job names, or all with a solver.

    Raises `SynthesisError` for unknown ones, and when the procedural teacher is asked for what no program can write.
    """
    solved = solved_families()
    for name in config.families:
        check_family(name)
    without = [name for name in config.families if name not in solved]
    if without and config.teacher == TeacherKind.PROCEDURAL:
        raise SynthesisError(
            f"synthesis job '{config.name}': the procedural teacher has no solver for {', '.join(without)}; "
            f"set teacher = 'endpoint', or families to some of: {', '.join(solved)}"
        )
    return config.families or tuple(solved)


def case(job: Job, index: int) -> Case:
    problem = job.problem(index, families(job.config))
    return Case(problem.family, _converse(job, problem, job.effort(job.rng(index))))


def exact_reply(problem: Problem, effort: str) -> Reply | None:
    """What the solver says; None for a problem without one."""
    if problem.solution is None:
        return None
    return Reply(f"Answer: {problem.solution.answer}", problem.solution.trace(effort))


def problem_fault(problem: Problem) -> Fault | None:
    """Why a problem is not worth asking: its parts stand in evaluation items, or its own scorer contradicts us."""
    if problem.split == "neither":
        return Fault("reveals_heldout")
    if problem.solution is not None and not problem.check(problem.solution.answer):
        return Fault(
            "disputed_reference", f"the scorer wants {problem.answer}, the solver has {problem.solution.answer}"
        )
    return None


def answer_fault(problem: Problem, answered: Answered | None, effort: str, max_characters: int) -> Fault | None:
    """What is wrong with an answer and its trace, if anything."""
    if answered is None:
        return Fault("no_final_answer")
    if not problem.check(answered.answer):
        return Fault("wrong_answer", f"expected {problem.answer}")
    if effort != "low" and not answered.trace:
        return Fault("no_trace")
    if effort != "low" and (step := wrong_step(answered.trace)):
        return Fault("wrong_step", step)
    return text_fault((problem.question, answered.trace, answered.answer), max_characters)


def _converse(job: Job, problem: Problem, effort: str) -> Conversation:
    """At low effort the document has no trace; an unreadable reply is in it as it stands, to be looked at."""
    fault, reply = problem_fault(problem), Reply()
    if not fault:
        turns = (Turn("system", INSTRUCTIONS[effort]), Turn("user", problem.question))
        reply = (yield Request(turns, effort, exact=exact_reply(problem, effort))).reply
    answered = final_answer(reply)
    fault = fault or answer_fault(problem, answered, effort, job.config.max_characters)
    if answered and effort == "low":
        answered = answered._replace(trace="")
    shown = answered or Answered(reply.trace, reply.content)
    return [job.sample(problem, segments_of(job.config.form, problem, shown, effort), fault)]


def segments_of(form: Form, problem: Problem, shown: Answered, effort: str) -> list[Segment]:
    """Question, trace and answer in the form of the job."""
    if form == Form.REASONING:
        return reasoning(problem.question, shown.trace, shown.answer)
    reply = {"role": "assistant", "trace": shown.trace, "content": shown.answer}
    return chat([{"role": "user", "content": problem.question}, reply], effort)
