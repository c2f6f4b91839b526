"""One question of a conversation with what a reply to it must satisfy: what all sets have in common.

Verifiable problems as exchanges of a conversation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from k2model.synthesis.conversation import Reply
from k2model.synthesis.job import Answered, Fault, Job, Subject, final_answer, wrong_step
from k2model.synthesis.problems import Problem, solved_families
from k2model.synthesis.thinking import INSTRUCTIONS, exact_reply, problem_fault

EFFORT_INSTRUCTIONS = {
    "high": "Think the question through before you answer.",
    "medium": "Think briefly, in a line or two, before you answer.",
    "low": "Answer at once.",
}


@dataclass(frozen=True)
class Exchange:
    """`read` takes a reply apart into thinking and answer (None when it cannot); `fault` judges the answer."""

    subject: Subject
    question: str
    exact: Callable[[str], Reply | None]  # by effort
    read: Callable[[Reply], Answered | None]
    fault: Callable[[Answered], Fault | None]
    instruction: Callable[[str], str] = EFFORT_INSTRUCTIONS.__getitem__  # the teacher's alone, in no document
    refused: Fault | None = None  # why it is not to be asked at all


def read_plain(reply: Reply) -> Answered | None:
    """A reply whose content is the answer."""
    answer = reply.content.strip()
    return Answered(reply.trace.strip(), answer) if answer else None


MOST_TURNS = 3


def exchange(job: Job, index: int, turn: int) -> Exchange:
    """Problem `turn` of conversation `index`. The families take turns, each conversation beginning with another."""
    families = tuple(solved_families())
    shifted = families[turn:] + families[:turn]
    problem = job.problem(turn * job.config.count + index, shifted, total=MOST_TURNS * job.config.count)
    subject = Subject.of(problem)
    return Exchange(
        subject=Subject("problems", "chat", subject.licence, subject.origin, subject.key, subject.heldout),
        question=problem.question,
        exact=partial(exact_reply, problem),
        read=final_answer,
        fault=partial(_fault, problem),
        instruction=INSTRUCTIONS.__getitem__,
        refused=problem_fault(problem),
    )


def _fault(problem: Problem, answered: Answered) -> Fault | None:
    if not problem.check(answered.answer):
        return Fault("wrong_answer", f"expected {problem.answer}")
    step = wrong_step(answered.trace)
    return Fault("wrong_step", step) if step else None
