"""The library of reasoning-behaviour templates, read from `templates.toml`, which says what each is good for, and how
they are filled from a problem's worked solution where no model is asked.

A section is written `Title` or `Title = role`; `ROLES` says what the procedural teacher fills a role with. Every
sentence is true of the problem: a guess is called a guess and found wrong, a planted mistake is found. What no program
can say about every problem (another's point of view, a moral weight) has no role, and its templates need a teacher.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from random import Random

from k2model.synthesis.config import SynthesisConfig, TeacherKind, unknown
from k2model.synthesis.problems import Problem, Solution
from k2model.synthesis.teachers.procedural import inject_error, near_miss


@dataclass(frozen=True)
class Template:
    name: str
    category: str
    when: str
    instruction: str
    sections: tuple[tuple[str, str], ...]  # (title, role or "")
    domains: tuple[str, ...] = ()  # () = any

    @cached_property
    def titles(self) -> tuple[str, ...]:
        return tuple(title for title, _ in self.sections)

    @property
    def procedural(self) -> bool:
        return all(role for _, role in self.sections)

    @property
    def prompt(self) -> str:
        """The system prompt: what to do, and the headings that verification looks for."""
        headings = "\n".join(f"{title}: ..." for title in self.titles)
        return (
            f"{self.instruction}\n\nWrite these sections in this order, each once, each opened by a line that begins "
            f"with its heading and a colon, and leave none empty. The last holds the answer alone.\n{headings}"
        )

    def suits(self, domain: str) -> bool:
        return not self.domains or domain in self.domains

    def write(self, bodies: tuple[str, ...]) -> str:
        """A reply with the sections' texts under their headings."""
        return "\n".join(f"{title}: {body}" for title, body in zip(self.titles, bodies, strict=True))


@lru_cache(maxsize=1)
def library() -> dict[str, Template]:
    """All templates by name, in the file's order."""
    table = tomllib.loads(files("k2model.synthesis").joinpath("templates.toml").read_text())
    return {row["name"]: _template(row) for row in table["template"]}


@lru_cache(maxsize=16)
def chosen(config: SynthesisConfig) -> tuple[Template, ...]:
    """Those a job names, or all its teacher can fill. Raises `SynthesisError` for an unknown or unfillable one."""
    known = library()
    for name in config.templates:
        if name not in known:
            raise unknown("template", name, list(known))
        if config.teacher == TeacherKind.PROCEDURAL and not known[name].procedural:
            fillable = [name for name, template in known.items() if template.procedural]
            raise unknown("template that the procedural teacher can fill", name, fillable)
    if config.templates:
        return tuple(known[name] for name in config.templates)
    procedural = config.teacher == TeacherKind.PROCEDURAL
    return tuple(template for template in known.values() if template.procedural or not procedural)


def _template(row: dict[str, object]) -> Template:
    sections = tuple(tuple(part.strip() for part in f"{text} =".split("=")[:2]) for text in row["sections"])  # type: ignore[attr-defined]
    given = {name: row[name] for name in ("name", "category", "when", "instruction")}
    return Template(**given, sections=sections, domains=tuple(row.get("domains", ())))  # type: ignore[arg-type]


SHOWN = 240  # characters of a question that is told again


class Material:
    """A problem with its solution and one plausible mistake, the same in all sections of a reply."""

    def __init__(self, problem: Problem, solution: Solution, guess: str, rng: Random):
        self.problem, self.solution, self.guess = problem, solution, guess
        self.steps = solution.steps
        self.answer = solution.answer.strip()
        self.mistake = rng.randrange(len(self.steps))
        self.wrong_step = inject_error(self.steps[self.mistake], rng)
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
