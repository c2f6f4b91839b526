"""The template library, the structure it asks for, and queries of a user's own."""

import json
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2model.artifacts import fingerprint
from k2model.errors import SynthesisError
from k2model.recipe.fields import without_places
from k2model.synthesis import Kind, SynthesisConfig
from k2model.synthesis.behaviours import case, families, pinned, read_queries, same_answer, structure_fault
from k2model.synthesis.config import EndpointConfig
from k2model.synthesis.conversation import Completion, Reply
from k2model.synthesis.job import Job
from k2model.synthesis.problems import draw
from k2model.synthesis.templates import ROLES, exact_sections, library

SLOW = library()["fast-guess-slow-check"]
GOOD = "Guess: 5\nSlow work: 2 + 2 = 4\nComparison: not the same\nAnswer: 4"


def test_the_library_is_large_and_its_templates_are_distinct():
    templates = list(library().values())
    assert len(templates) >= 40 and len({t.category for t in templates}) >= 15
    for distinct in ("instruction", "when", "titles"):
        assert len({getattr(t, distinct) for t in templates}) == len(templates), distinct
    for template in templates:
        assert template.titles[-1] == "Answer" and len(template.titles) >= 3
        assert len(set(template.titles)) == len(template.titles)
        assert {role for _, role in template.sections} <= {*ROLES, ""}
        assert template.instruction in template.prompt and all(f"{t}: ..." in template.prompt for t in template.titles)
    assert {role for t in templates for _, role in t.sections} - {""} == set(ROLES)  # no role is left over


@pytest.mark.parametrize("name", [name for name, t in library().items() if t.procedural])
def test_what_a_program_writes_has_the_structure(name):
    template = library()[name]
    for index, source in enumerate(("gcd", "syllogism", "mini_sudoku", "countdown", "course_schedule")):
        problem = draw(source, 1, index, 50)
        written = exact_sections(template, problem, Random(index))
        assert structure_fault(template, template.write(written)) is None
        assert written[-1] == problem.solution.answer.strip()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (GOOD, None),
        (GOOD.replace("Guess:", "**Guess:**").replace("Slow work:", "## Slow work\n"), None),
        (GOOD.replace("Comparison: not the same\n", ""), "section_missing"),
        (GOOD.replace("Answer: 4", "Answer:"), "section_empty"),
        (GOOD + "\nAnswer: 5", "section_repeated"),
        ("Slow work: x\nGuess: y\nComparison: z\nAnswer: 4", "sections_out_of_order"),
        (GOOD.replace("Guess: 5", "My Guess: 5"), "section_missing"),
        ("", "section_missing"),
    ],
)
def test_structure_is_verified(content, reason):
    fault = structure_fault(SLOW, content)
    assert (fault.reason if fault else None) == reason


def endpoint_job(path, **more):
    endpoint = EndpointConfig(base_url="https://host/v1", model="m")
    return SynthesisConfig("q", Kind.BEHAVIOUR, 4, queries=str(path), teacher="endpoint", endpoint=endpoint, **more)


def played(config, index, reply):
    """The samples of case `index` when the teacher says `reply(request)`."""
    opened = case(Job(config), index)
    request = next(opened.conversation)
    with pytest.raises(StopIteration) as done:
        opened.conversation.send(Completion(Reply(reply)))
    return request, done.value.value


def test_queries_are_asked_and_checked_where_they_can_be(tmp_path):
    path = tmp_path / "queries.jsonl"
    rows = [
        {"query": "What is 2 + 2?", "answer": "4", "licence": "CC0-1.0", "origin": "me"},
        {"query": "Why is it dark?"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = endpoint_job(path, templates=("fast-guess-slow-check",))
    families(config)
    request, [sample] = played(config, 0, GOOD)
    assert request.turns[1].content == "What is 2 + 2?" and SLOW.instruction in request.turns[0].content
    assert not sample.reason and sample.document["licence"] == "CC0-1.0"
    assert sample.document["origin"] == "me, answered by m"
    assert "Guess: 5\nSlow work: 2 + 2 = 4\nComparison: not the same</think>4<|end" in sample.document["text"]
    assert SLOW.instruction not in sample.document["text"]
    _, [wrong] = played(config, 0, GOOD.replace("Answer: 4", "Answer: 5"))
    assert wrong.reason == "wrong_answer"
    _, [free] = played(config, 1, GOOD.replace("Answer: 4", "Answer: because of the night"))
    assert not free.reason


def test_the_digest_of_the_queries_is_part_of_the_job(tmp_path):
    path = tmp_path / "queries.jsonl"
    path.write_text('{"query": "a"}\n')
    first = pinned(endpoint_job(path))
    path.write_text('{"query": "b"}\n')
    assert fingerprint(without_places(first)) != fingerprint(without_places(pinned(endpoint_job(path))))
    with pytest.raises(TypeError, match="names a place"):  # which a step must not forget
        fingerprint(first)


def test_parquet_queries_are_read_alike(tmp_path):
    pq.write_table(pa.table({"query": ["a?", "b?"], "answer": ["1", None]}), tmp_path / "q.parquet")
    problems = read_queries(str(tmp_path / "q.parquet")).problems
    assert [problem.question for problem in problems] == ["a?", "b?"] and not problems[0].check("2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"query": "a"}\n{"query": ""}\n', "row 2: expected an object with a text 'query'"),
        ('{"query": "a"}\nnot json\n', "row 2: not JSON"),
        ('{"query": "a", "answer": 4}\n', "row 1: 'answer' must be text, got int"),
        ("", "holds no row"),
    ],
)
def test_a_bad_query_is_named_by_its_row(tmp_path, content, message):
    path = tmp_path / "queries.jsonl"
    path.write_text(content)
    with pytest.raises(SynthesisError, match=message):
        families(endpoint_job(path))


def test_jobs_that_cannot_be_done_say_so(tmp_path):
    path = tmp_path / "queries.jsonl"
    path.write_text('{"query": "a"}\n')
    with pytest.raises(SynthesisError, match="cannot answer the 1 queries"):
        families(SynthesisConfig("q", Kind.BEHAVIOUR, 1, queries=str(path)))
    with pytest.raises(SynthesisError, match="has the sha256"):
        families(endpoint_job(path, queries_sha256="0" * 64))
    with pytest.raises(SynthesisError, match="did you mean 'pre-mortem'"):
        families(SynthesisConfig("q", Kind.BEHAVIOUR, 1, templates=("pre-mortum",)))
    with pytest.raises(SynthesisError, match="the procedural teacher can fill 'detective'"):
        families(SynthesisConfig("q", Kind.BEHAVIOUR, 1, templates=("detective",)))


def test_answers_are_compared_as_numbers_or_words():
    assert same_answer("1,000", "1000.0") and same_answer("Yes", " yes. ") and same_answer("", "anything")
    assert not same_answer("10", "11") and not same_answer("yes", "no")
    assert not same_answer("9007199254740993", "9007199254740992") and not same_answer(".5", "5")
    assert not same_answer("123", "1,2,3") and same_answer("-5", "−5") and same_answer("42", "So:\n\\boxed{42}")
