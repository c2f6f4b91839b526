"""Reasoning behaviours: a query answered in the way a template asks for, its structure and its answer verified.

The document holds the query and what was said, not the template's instruction: the behaviour is to be learned as
something one does, not as something one is told to do. Sections before the last become the trace.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache

from k2model.errors import SynthesisError
from k2model.synthesis.config import SynthesisConfig, TeacherKind
from k2model.synthesis.conversation import Case, Reply, Request, Talk, Turn
from k2model.synthesis.job import Answered, Fault, Job, Subject, text_fault
from k2model.synthesis.problems import Problem
from k2model.synthesis.queries import Queries, read_queries
from k2model.synthesis.templates import Template, chosen, exact_sections
from k2model.synthesis.thinking import check_job as check_families
from k2model.synthesis.thinking import families, problem_fault, segments_of


def check_job(config: SynthesisConfig) -> None:
    """Raises `SynthesisError` for unknown families or templates, and for queries that no program can answer."""
    templates = chosen(config)
    if not config.queries:
        check_families(config)
        return
    queries = _queries(config.queries, config.queries_sha256)
    if config.teacher == TeacherKind.PROCEDURAL:
        raise SynthesisError(
            f"synthesis job '{config.name}': the procedural teacher cannot answer the {len(queries)} queries of "
            f"{config.queries} with {len(templates)} templates; set teacher = 'endpoint', or leave queries out"
        )


def case(job: Job, index: int) -> Case:
    config = job.config
    rng = job.rng(index)
    if config.queries:
        queries = _queries(config.queries, config.queries_sha256)
        problem = queries.problem(index % len(queries))
    else:
        problem = job.problem(index, families(config))
    template = rng.choice([template for template in chosen(config) if template.suits(problem.domain)])
    return Case(template.name, _talk(job, index, problem, template))


def _talk(job: Job, index: int, problem: Problem, template: Template) -> Talk:
    fault = problem_fault(problem)
    reply = Reply()
    if fault is None:
        exact = exact_sections(template, problem, job.rng(index, "exact"))
        written = Reply(template.write(exact)) if exact else None
        turns = (Turn("system", template.prompt), Turn("user", problem.question))
        request = Request(turns, "high", exact=written, sample=index)
        reply = (yield request).reply
        fault = structure_fault(template, reply.content) or _content_fault(job, problem, template, reply)
    found = sections(template, reply.content)
    shown = _shown(template, found) if fault is None else Answered(reply.trace, reply.content)
    return [job.sample(Subject.of(problem), segments_of(job.config.form, problem, shown, "high"), fault)]


def structure_fault(template: Template, content: str) -> Fault | None:
    """Whether every section is there once, in order and not empty."""
    places = {title: _headings(title, content) for title in template.titles}
    for title, found in places.items():
        if len(found) != 1:
            return Fault("section_missing" if not found else "section_repeated", title)
    starts = [places[title][0].start() for title in template.titles]
    if starts != sorted(starts):
        return Fault("sections_out_of_order", ", ".join(sorted(template.titles, key=lambda t: places[t][0].start())))
    empty = next((title for title, body in sections(template, content).items() if not body), None)
    return Fault("section_empty", empty) if empty else None


def sections(template: Template, content: str) -> Mapping[str, str]:
    """The text under each heading that is there, by title."""
    found = sorted(
        (match.start(), match.end(), title) for title in template.titles for match in _headings(title, content)[:1]
    )
    ends = [*(start for start, _, _ in found), len(content)][1:]
    return {title: content[begin:end].strip() for (_, begin, title), end in zip(found, ends, strict=True)}


def _headings(title: str, content: str) -> list[re.Match[str]]:
    """Lines that begin with `Title:`, `**Title:**`, or are `## Title`."""
    return list(_heading(title).finditer(content))


@cache
def _heading(title: str) -> re.Pattern[str]:
    name = re.escape(title)
    return re.compile(rf"^[ \t]*(?:\*\*{name}(?::\*\*|\*\*:?)|#+[ \t]*{name}:?[ \t]*$|{name}:)", re.MULTILINE)


def _content_fault(job: Job, problem: Problem, template: Template, reply: Reply) -> Fault | None:
    shown = _shown(template, sections(template, reply.content))
    if not problem.check(shown.answer):
        return Fault("wrong_answer", f"expected {problem.answer}")
    return text_fault((problem.question, shown.trace, shown.answer), job.config.max_characters)


def _shown(template: Template, found: Mapping[str, str]) -> Answered:
    *before, last = template.titles
    return Answered("\n".join(f"{title}: {found[title]}" for title in before), found[last])


@lru_cache(maxsize=4)
def _queries(path: str, sha256: str) -> Queries:
    return read_queries(path, sha256)
