"""Verifiable problems as exchanges of a conversation."""

from functools import partial

from k2model.corpus.synthesis.chats.exchange import Exchange
from k2model.corpus.synthesis.job import Job, Subject
from k2model.corpus.synthesis.problems import Problem, solved_families
from k2model.corpus.synthesis.thinking import INSTRUCTIONS, exact_reply, problem_fault
from k2model.corpus.synthesis.verify import Answered, Fault, final_answer, wrong_step

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
