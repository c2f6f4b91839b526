"""Thinking traces: a verifiable problem, the way to its answer, and the answer, which a program has checked."""

from k2model.documents.markup import Segment, chat, reasoning
from k2model.synthesis.config import Form, SynthesisConfig, TeacherKind
from k2model.synthesis.conversation import Case, Reply, Request, Talk, Turn
from k2model.synthesis.job import Answered, DocumentMetadata, Fault, Job, final_answer, text_fault, wrong_step
from k2model.synthesis.problems import Problem, family, solved_families

INSTRUCTIONS = {
    "high": "Think the problem through step by step and check what you find. "
    "Close with one line that begins with `Answer:` and holds the answer alone.",
    "medium": "Think briefly, in a few short lines. "
    "Close with one line that begins with `Answer:` and holds the answer alone.",
    "low": "Do not explain anything. Write one line that begins with `Answer:` and holds the answer alone.",
}


def families(config: SynthesisConfig) -> tuple[str, ...]:
    """Of a job: those it names, or all that its teacher can be asked. Raises `SynthesisError` for unknown ones."""
    for name in config.families:
        family(name)
    return config.families or tuple(solved_families())


def case(job: Job, index: int) -> Case:
    problem = job.problem(index, families(job.config))
    return Case(problem.family, _talk(job, problem, job.effort(job.rng(index))))


def ask(problem: Problem, effort: str, sample: int = 0) -> Request:
    """The request for an answer with its trace at an effort."""
    turns = (Turn("system", INSTRUCTIONS[effort]), Turn("user", problem.question))
    return Request(turns, effort, exact=exact_reply(problem, effort), sample=sample)


def exact_reply(problem: Problem, effort: str) -> Reply | None:
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


def at_effort(answered: Answered | None, reply: Reply, effort: str) -> Answered:
    """What the document says: at low effort no trace; an unreadable reply as it stands, to be looked at."""
    if answered is None:
        return Answered(reply.trace, reply.content)
    return answered if effort != "low" else answered._replace(trace="")


def _talk(job: Job, problem: Problem, effort: str) -> Talk:
    fault = problem_fault(problem)
    reply = Reply() if fault else (yield ask(problem, effort)).reply
    answered = final_answer(reply)
    fault = fault or answer_fault(problem, answered, effort, job.config.max_characters)
    shown = at_effort(answered, reply, effort)
    return [job.sample(DocumentMetadata.of(problem), segments_of(job.config.form, problem, shown, effort), fault)]


def segments_of(form: Form, problem: Problem, shown: Answered, effort: str) -> list[Segment]:
    """Question, trace and answer in the form of the job."""
    if form == Form.REASONING:
        return reasoning(problem.question, shown.trace, shown.answer)
    reply = {"role": "assistant", "trace": shown.trace, "content": shown.answer}
    return chat([{"role": "user", "content": problem.question}, reply], effort)


def check_job(config: SynthesisConfig) -> None:
    """Raises `SynthesisError` when the procedural teacher is asked for traces that no program can write."""
    from k2model.errors import SynthesisError

    without = [name for name in families(config) if name not in solved_families()]
    if without and config.teacher == TeacherKind.PROCEDURAL:
        raise SynthesisError(
            f"synthesis job '{config.name}': the procedural teacher has no solver for {', '.join(without)}; "
            f"set teacher = 'endpoint', or families to some of: {', '.join(solved_families())}"
        )
