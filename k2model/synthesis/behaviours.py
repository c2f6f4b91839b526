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
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

from k2model.documents.schema import content_id, is_heldout
from k2model.errors import SynthesisError
from k2model.synthesis.config import SynthesisConfig, TeacherKind
from k2model.synthesis.conversation import Case, Reply, Request, Talk, Turn
from k2model.synthesis.job import Answered, DocumentMetadata, Fault, Job, text_fault
from k2model.synthesis.problems import Problem
from k2model.synthesis.templates import Template, chosen, exact_sections
from k2model.synthesis.thinking import check_job as check_problems
from k2model.synthesis.thinking import families, problem_fault, segments_of

COLUMNS = ("query", "answer", "domain", "licence", "origin")


def check_job(config: SynthesisConfig) -> None:
    """Raises `SynthesisError` for unknown families or templates, and for queries that no program can answer."""
    templates = chosen(config)
    if not config.queries:
        check_problems(config)
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
    return [job.sample(DocumentMetadata.of(problem), segments_of(job.config.form, problem, shown, "high"), fault)]


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


class Queries:
    def __init__(self, rows: list[Mapping[str, str]], sha256: str):
        self._rows = rows
        self.sha256 = sha256

    def __len__(self) -> int:
        return len(self._rows)

    def problem(self, index: int) -> Problem:
        """Query `index`. Without an answer every reply of the right structure passes."""
        row = self._rows[index]
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
            origin=row.get("origin") or f"queries {self.sha256[:12]}",
        )


def read_queries(path: str, sha256: str = "") -> Queries:
    """Raises `SynthesisError` naming the row, or when the file is not the one whose digest is given."""
    file = Path(path)
    if not file.is_file():
        raise SynthesisError(f"queries = '{path}': there is no such file")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if sha256 and found != sha256:
        raise SynthesisError(f"queries = '{path}' has the sha256 {found}, the job wants {sha256}; set queries_sha256")
    rows = [_checked_query(row, f"{path}, row {number}") for number, row in enumerate(_query_rows(file), 1)]
    if not rows:
        raise SynthesisError(f"queries = '{path}' holds no row")
    return Queries(rows, found)


@lru_cache(maxsize=4)
def _queries(path: str, sha256: str) -> Queries:
    return read_queries(path, sha256)


def pinned(config: SynthesisConfig) -> SynthesisConfig:
    """The job with the digest of its queries, so that its identity tells one file from another."""
    if not config.queries or config.queries_sha256:
        return config
    return replace(config, queries_sha256=read_queries(config.queries).sha256)


def same_answer(wanted: str, answer: str) -> bool:
    """Equal as numbers, or as text without case, spaces and closing punctuation; true where nothing is wanted."""
    if not wanted:
        return True
    one, other = _normalised(wanted), _normalised(answer)
    try:
        return float(one.replace(",", "")) == float(other.replace(",", ""))
    except ValueError:
        return one == other


def _normalised(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip(" .!?*`$").casefold()


def _query_rows(file: Path) -> Iterator[Any]:
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(file).iter_batches():
            yield from batch.to_pylist()
        return
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise SynthesisError(f"{file}, row {number}: not JSON: {error}") from error


def _checked_query(row: Any, where: str) -> Mapping[str, str]:
    if not isinstance(row, dict) or not isinstance(row.get("query"), str) or not row["query"].strip():
        raise SynthesisError(f"{where}: expected an object with a text 'query', got {str(row)[:80]}")
    wrong = next((name for name in COLUMNS if not isinstance(row.get(name) or "", str)), None)
    if wrong:
        raise SynthesisError(
            f"{where}: '{wrong}' must be text, got {type(row[wrong]).__name__}; write numbers in quotes"
        )
    return {name: row.get(name) or "" for name in COLUMNS}
