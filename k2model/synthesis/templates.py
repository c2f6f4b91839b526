"""Templates of reasoning behaviours: which there are, and what the procedural teacher writes into their sections.

They are read from `templates.toml`, which says what each is good for. A section is written `Title` or `Title = role`;
`ROLES` says what a role is filled with. Every sentence is true of the problem: a guess is called a guess and found
wrong, a planted mistake is found. What no program can say about every problem (another's point of view, a moral
weight) has no role, and its templates need a teacher.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from random import Random

from k2model.synthesis.config import SynthesisConfig, TeacherKind, table, unknown
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
    made = {}
    for row in table("templates.toml")["template"]:
        parts = [text.partition("=") for text in row["sections"]]
        sections = tuple((title.strip(), role.strip()) for title, _, role in parts)
        made[row["name"]] = Template(**row | {"sections": sections, "domains": tuple(row.get("domains", ()))})
    return made


@lru_cache(maxsize=16)
def chosen(config: SynthesisConfig) -> tuple[Template, ...]:
    """Those a job names, or all its teacher can fill. Raises `SynthesisError` for an unknown or unfillable one."""
    known = library()
    asked = config.teacher != TeacherKind.PROCEDURAL
    fillable = {name: template for name, template in known.items() if asked or template.procedural}
    for name in config.templates:
        if name not in known:
            raise unknown("template", name, known)
        if name not in fillable:
            raise unknown("template that the procedural teacher can fill", name, fillable)
    return tuple(fillable[name] for name in config.templates or fillable)


SHOWN = 240  # characters of a question that is repeated


def exact_sections(template: Template, problem: Problem, rng: Random) -> tuple[str, ...] | None:
    """The sections' texts; None when the template has sections without a role or the problem no solution."""
    if not template.procedural or problem.solution is None:
        return None
    material = _material(problem, problem.solution, rng)
    return tuple(ROLES[role].format_map(material) for _, role in template.sections)


def _material(problem: Problem, solution: Solution, rng: Random) -> dict[str, object]:
    """A problem with its solution and one plausible mistake, the same in all sections of a reply."""
    guess, answer = near_miss(solution.answer, problem.check, rng), solution.answer.strip()
    steps = solution.steps
    mistake = rng.randrange(len(steps))
    draft = [*steps[:mistake], inject_error(steps[mistake], rng), *steps[mistake + 1 :]]
    one, other = rng.sample([answer, guess.strip()], 2)
    question, middle = " ".join(problem.question.split()), max(1, len(steps) // 2)
    return {
        "question": f"{question[:SHOWN]}{' ...' if len(question) > SHOWN else ''}",
        "method": solution.method,
        "brief": solution.brief,
        "check": solution.check,
        "answer": answer,
        "guess": guess,
        "one": one,
        "other": other,
        "count": len(steps),
        "middle": middle,
        "steps": "\n".join(steps),
        "first_half": "\n".join(steps[:middle]),
        "second_half": "\n".join(steps[middle:]) or "Nothing is left to do.",
        "first": steps[0],
        "rest": "\n".join(steps[1:]) or "There is no further step.",
        "last": steps[-1],
        "backward": "".join(f"\nBefore that: {step}" for step in reversed(steps[:-1])),
        "questions": "".join(f"\nWhat is step {i}? {step}" for i, step in enumerate(steps, 1)),
        "rows": "".join(f"\n| {i} | {step} |" for i, step in enumerate(steps, 1)),
        "draft": "".join(f"\n({i}) {line}" for i, line in enumerate(draft, 1)),
        "wrong_line": mistake + 1,
        "right_line": steps[mistake],
    }


#: What the procedural teacher writes for a role, of the material of the problem.
ROLES: dict[str, str] = {
    "answer": "{answer}",
    "restate": "In the question's words: {question}",
    "method": "{method}",
    "plan": "1. {method} 2. Confirm the result in another way. 3. State it in the form asked for.",
    "parts": "There are {count} small steps. First those up to step {middle}, then the rest, then the check.",
    "steps": "\n{steps}",
    "first half": "\n{first_half}",
    "second half": "\n{second_half}",
    "short": "{brief}",
    "check": "{check}",
    "guess": "At first sight {guess}. This is not checked yet.",
    "compare": "The first thought was {guess}, the careful way gives {answer}. The first thought was wrong.",
    "assume": "Suppose the answer were {guess}.",
    "contradiction": "Working it out leads to {answer} instead, so {guess} cannot stand. Go back.",
    "candidates": "{one}, or {other}.",
    "rank": "{answer} first, because the steps lead to it; {guess} last, because no step does.",
    "attempts": "\nFirst, step by step: {answer}\nSecond, by the short way ({brief}): {answer}\n"
    "Third, in a hurry: {guess}",
    "votes": "{answer} has two votes, {guess} has one.",
    "risks": "A slip in one of the {count} steps, or an answer in another form than asked. So check at the end.",
    "questions": "How does one begin? {method}{questions}",
    "table": "\n| step | what is found |{rows}",
    "draft": "{draft}",
    "found": "Line ({wrong_line}) is wrong. It must read: {right_line}",
    "objection": "Why not {guess}? It looks much the same.",
    "defence": "Because the steps are these:\n{steps}\nAnd: {check}",
    "confidence": "High. Each of the {count} steps follows from the one before. {check}",
    "lesson": "For another task of this kind: {method}",
    "backward": "At the end must stand: {last}{backward}",
    "easiest": "Of the {count} steps the easiest is the first one: {first}",
    "rest": "\n{rest}",
}
