"""What a section of a template is filled with when no model is asked, made from a problem's worked solution.

Every sentence is true of the problem: a guess is called a guess and found wrong, a planted mistake is found. What
no program can say about every problem (another's point of view, a moral weight) has no role, and its templates
need a teacher.
"""

from collections.abc import Callable
from random import Random

from k2model.corpus.synthesis.problems import Problem, Solution
from k2model.corpus.synthesis.slips import near_miss, slip
from k2model.corpus.synthesis.templates import Template

SHOWN = 240  # characters of a question that is told again


class Material:
    """A problem with its solution and one plausible mistake, the same in all sections of a reply."""

    def __init__(self, problem: Problem, solution: Solution, guess: str, rng: Random):
        self.problem, self.solution, self.guess = problem, solution, guess
        self.steps = solution.steps
        self.answer = solution.answer.strip()
        self.mistake = rng.randrange(len(self.steps))
        self.wrong_step = slip(self.steps[self.mistake], rng)
        self.order = rng.sample([self.answer, self.guess.strip()], 2)

    @property
    def all_steps(self) -> str:
        return "\n" + "\n".join(self.steps)

    @property
    def middle(self) -> int:
        return max(1, len(self.steps) // 2)


def exact_sections(template: Template, problem: Problem, rng: Random) -> tuple[str, ...] | None:
    """The sections' texts; None when the template has sections without a role or the problem no solution."""
    if not template.procedural or problem.solution is None:
        return None
    guess = near_miss(problem.solution.answer, problem.check, rng)
    material = Material(problem, problem.solution, guess, rng)
    return tuple(ROLES[role](material) for _, role in template.sections)


def _restate(m: Material) -> str:
    question = " ".join(m.problem.question.split())
    return f"In the question's words: {question[:SHOWN]}{' ...' if len(question) > SHOWN else ''}"


def _plan(m: Material) -> str:
    return f"1. {m.solution.method} 2. Confirm the result in another way. 3. State it in the form asked for."


def _parts(m: Material) -> str:
    return f"There are {len(m.steps)} small steps. First those up to step {m.middle}, then the rest, then the check."


def _questions(m: Material) -> str:
    asked = "".join(f"\nWhat is step {i}? {step}" for i, step in enumerate(m.steps, 1))
    return f"How does one begin? {m.solution.method}{asked}"


def _table(m: Material) -> str:
    return "\n| step | what is found |\n" + "\n".join(f"| {i} | {step} |" for i, step in enumerate(m.steps, 1))


def _draft(m: Material) -> str:
    lines = [*m.steps[: m.mistake], m.wrong_step, *m.steps[m.mistake + 1 :]]
    return "\n" + "\n".join(f"({i}) {line}" for i, line in enumerate(lines, 1))


def _found(m: Material) -> str:
    return f"Line ({m.mistake + 1}) is wrong. It must read: {m.steps[m.mistake]}"


def _compare(m: Material) -> str:
    return f"The first thought was {m.guess}, the careful way gives {m.answer}. The first thought was wrong."


def _rank(m: Material) -> str:
    return f"{m.answer} first, because the steps lead to it; {m.guess} last, because no step does."


def _votes(m: Material) -> str:
    return f"{m.answer} has two votes, {m.guess} has one."


def _risks(m: Material) -> str:
    return f"A slip in one of the {len(m.steps)} steps, or an answer in another form than asked. So check at the end."


def _ladder(m: Material) -> str:
    return f"Of the {len(m.steps)} steps the easiest is the first one: {m.steps[0]}"


def _backward(m: Material) -> str:
    reverse = "".join(f"\nBefore that: {step}" for step in reversed(m.steps[:-1]))
    return f"At the end must stand: {m.steps[-1]}{reverse}"


def _attempts(m: Material) -> str:
    short = f"Second, by the short way ({m.solution.brief}): {m.answer}"
    return f"\nFirst, step by step: {m.answer}\n{short}\nThird, in a hurry: {m.guess}"


ROLES: dict[str, Callable[[Material], str]] = {
    "answer": lambda m: m.answer,
    "restate": _restate,
    "method": lambda m: m.solution.method,
    "plan": _plan,
    "parts": _parts,
    "steps": lambda m: m.all_steps,
    "first half": lambda m: "\n" + "\n".join(m.steps[: m.middle]),
    "second half": lambda m: "\n" + ("\n".join(m.steps[m.middle :]) or "Nothing is left to do."),
    "short": lambda m: m.solution.brief,
    "check": lambda m: m.solution.check,
    "guess": lambda m: f"At first sight {m.guess}. This is not checked yet.",
    "compare": _compare,
    "assume": lambda m: f"Suppose the answer were {m.guess}.",
    "contradiction": lambda m: f"Working it out leads to {m.answer} instead, so {m.guess} cannot stand. Go back.",
    "candidates": lambda m: f"{m.order[0]}, or {m.order[1]}.",
    "rank": _rank,
    "attempts": _attempts,
    "votes": _votes,
    "risks": _risks,
    "questions": _questions,
    "table": _table,
    "draft": _draft,
    "found": _found,
    "objection": lambda m: f"Why not {m.guess}? It looks much the same.",
    "defence": lambda m: f"Because the steps are these:{m.all_steps}\nAnd: {m.solution.check}",
    "confidence": lambda m: f"High. Each of the {len(m.steps)} steps follows from the one before. {m.solution.check}",
    "lesson": lambda m: f"For another task of this kind: {m.solution.method}",
    "backward": _backward,
    "easiest": _ladder,
    "rest": lambda m: "\n" + ("\n".join(m.steps[1:]) or "There is no further step."),
}
