"""Reasoning behaviours: a query answered in the way a template asks for, its structure and its answer verified.

The document holds the query and what was said, not the template's instruction: the behaviour is to be learned as
something one does, not as something one is told to do. Sections before the last become the trace.

Queries are problems, or those that a user brings: a JSONL or Parquet file with a column `query`, `answer` where it can
be checked, and `domain`, `licence` and `origin`. Every row is used or the job is refused with its number: a file of
questions is small and the user's own, so nothing is put aside here.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from k2model.documents.answers import is_accepted
from k2model.documents.schema import content_id, is_heldout
from k2model.errors import SynthesisError
from k2model.synthesis.config import SynthesisConfig, TeacherKind
from k2model.synthesis.conversation import Case, Conversation, Reply, Request, Turn
from k2model.synthesis.job import Answered, Fault, Job, text_fault
from k2model.synthesis.problems import Problem
from k2model.synthesis.templates import Template, chosen, exact_sections
from k2model.synthesis.thinking import families as problem_families
from k2model.synthesis.thinking import problem_fault, segments_of

COLUMNS = ("query", "answer", "domain", "licence", "origin")


class Queries(NamedTuple):
    problems: list[Problem]
    sha256: str


def families(config: SynthesisConfig) -> tuple[str, ...]:
    """Of the problems that are asked, none where the queries are a user's.

    Raises `SynthesisError` for unknown families or templates, and for queries that no program can answer.
    """
    templates = chosen(config)
    if not config.queries:
        return problem_families(config)
    queries = _queries(config.queries, config.queries_sha256)
    if config.teacher == TeacherKind.PROCEDURAL:
        raise SynthesisError(
            f"synthesis job '{config.name}': the procedural teacher cannot answer the {len(queries.problems)} queries "
            f"of {config.queries} with {len(templates)} templates; set teacher = 'endpoint', or leave queries out"
        )
    return ()


def case(job: Job, index: int) -> Case:
    """Query or problem `index` with a template that suits its domain."""
    config = job.config
    rng = job.rng(index)
    if config.queries:
        problems = _queries(config.queries, config.queries_sha256).problems
        problem = problems[index % len(problems)]
    else:
        problem = job.problem(index, problem_families(config))
    template = rng.choice([template for template in chosen(config) if template.suits(problem.domain)])
    return Case(template.name, _converse(job, index, problem, template))


def _converse(job: Job, index: int, problem: Problem, template: Template) -> Conversation:
    fault, reply = problem_fault(problem), Reply()
    if fault is None:
        exact = exact_sections(template, problem, job.rng(index, "exact"))
        written = Reply(template.write(exact)) if exact else None
        turns = (Turn("system", template.prompt), Turn("user", problem.question))
        reply = (yield Request(turns, "high", exact=written, sample=index)).reply
        fault = structure_fault(template, reply.content)
    shown = Answered(reply.trace, reply.content)
    if fault is None:
        *before, (_, answer) = sections(template, reply.content)
        said = Answered("\n".join(f"{title}: {body}" for title, body in before), answer)
        if not problem.check(answer):
            fault = Fault("wrong_answer", f"expected {problem.answer}")
        fault = fault or text_fault((problem.question, *said), job.config.max_characters)
        shown = said if fault is None else shown
    return [job.sample(problem, segments_of(job.config.form, problem, shown, "high"), fault)]


def structure_fault(template: Template, content: str) -> Fault | None:
    """Whether every section is there once, in order and not empty."""
    found = sections(template, content)
    titles = [title for title, _ in found]
    for title in template.titles:
        if titles.count(title) != 1:
            return Fault("section_repeated" if title in titles else "section_missing", title)
    if titles != [*template.titles]:
        return Fault("sections_out_of_order", ", ".join(titles))
    empty = next((title for title, body in found if not body), None)
    return Fault("section_empty", empty) if empty else None


def sections(template: Template, content: str) -> list[tuple[str, str]]:
    """(title, text) under each heading, in order: lines that begin with `Title:`, `**Title:**`, or are `## Title`."""
    found = [*_headings(template.titles).finditer(content)]
    ends = [*(match.start() for match in found), len(content)][1:]
    titles = [next(title for title in match.groups() if title) for match in found]
    return [(title, content[m.end() : end].strip()) for title, m, end in zip(titles, found, ends, strict=True)]


@lru_cache(maxsize=256)
def _headings(titles: tuple[str, ...]) -> re.Pattern[str]:
    name = "|".join(map(re.escape, titles))
    forms = rf"\*\*({name})(?::\*\*|\*\*:?)|#+[ \t]*({name}):?[ \t]*$|({name}):"
    return re.compile(rf"^[ \t]*(?:{forms})", re.MULTILINE)


def pinned(config: SynthesisConfig) -> SynthesisConfig:
    """The job with the digest of its queries, so that its identity tells one file from another.

    Raises `SynthesisError` when they cannot be read.
    """
    if not config.queries or config.queries_sha256:
        return config
    return replace(config, queries_sha256=read_queries(config.queries).sha256)


def read_queries(path: str, sha256: str = "") -> Queries:
    """Queries as problems; without an answer every reply of the right structure passes.

    Raises `SynthesisError` naming the row, or when the file is not the one whose digest is given.
    """
    file = Path(path)
    if not file.is_file():
        raise SynthesisError(f"queries = '{path}': there is no such file")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if sha256 and found != sha256:
        raise SynthesisError(f"queries = '{path}' has the sha256 {found}, the job wants {sha256}; set queries_sha256")
    problems = [_query(row, f"{path}, row {number}", found) for number, row in enumerate(_query_rows(file), 1)]
    if not problems:
        raise SynthesisError(f"queries = '{path}' holds no row")
    return Queries(problems, found)


_queries = lru_cache(maxsize=4)(read_queries)


def same_answer(wanted: str, answer: str) -> bool:
    """Whether the final answer in a text is the one that is wanted, as `k2model.documents.answers` says it for
    evaluation too; true where nothing is wanted."""
    return not wanted.strip() or bool(is_accepted(answer, [wanted]))


def _query_rows(file: Path) -> Iterator[Any]:
    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            for batch in pq.ParquetFile(file).iter_batches():
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise SynthesisError(f"queries = '{file}' cannot be read as Parquet ({error}); get it again") from error
        return
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise SynthesisError(f"{file}, row {number}: not JSON: {error}") from error


def _query(row: Any, where: str, sha256: str) -> Problem:
    if not isinstance(row, dict) or not isinstance(row.get("query"), str) or not row["query"].strip():
        raise SynthesisError(f"{where}: expected an object with a text 'query', got {str(row)[:80]}")
    wrong = next((name for name in COLUMNS if not isinstance(row.get(name) or "", str)), None)
    if wrong:
        raise SynthesisError(
            f"{where}: '{wrong}' must be text, got {type(row[wrong]).__name__}; write numbers in quotes"
        )
    key = f"query {content_id(row['query'])}"
    return Problem(
        family="queries",
        domain=row.get("domain") or "chat",
        key=key,
        question=row["query"],
        answer=row.get("answer") or "",
        check=partial(same_answer, row.get("answer") or ""),
        split="heldout" if is_heldout(key) else "train",
        licence=row.get("licence") or "LicenseRef-unknown",
        origin=row.get("origin") or f"queries {sha256[:12]}",
    )
