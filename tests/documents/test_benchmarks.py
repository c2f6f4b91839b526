"""Files of a recipe's own items: every row is read as it stands, or the file is refused by row and field."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2model.documents.benchmarks import benchmark_files, read_benchmark
from k2model.errors import CorpusError, EvaluationError
from k2model.recipe.evaluation import AnswerCheck, BenchmarkConfig

CHOICE, NUMERIC = AnswerCheck.CHOICE, AnswerCheck.NUMERIC


def written(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return str(path)


def read(location: str, **fields: Any):
    config = BenchmarkConfig("exam", location, licence="CC0-1.0", **fields)
    return read_benchmark(config, benchmark_files(config))


def test_rows_are_items_whatever_the_file_and_however_deep_the_field(tmp_path: Path) -> None:
    rows = [{"q": {"text": "2+2?"}, "a": 4, "n": "x"}, {"q": {"text": "Who?"}, "a": ["I", "me"], "n": "y"}]
    pq.write_table(pa.table({"q": [rows[0]["q"]], "a": [4], "n": ["x"]}), tmp_path / "exam.parquet")
    fields = {"prompt": "q.text", "answer": "a", "id": "n"}
    found = read(written(tmp_path / "exam.jsonl", rows), **fields).items
    assert [(one["id"], one["prompt"], one["answer"]) for one in found] == [("x", "2+2?", "4"), ("y", "Who?", "I")]
    assert json.loads(found[1]["meta"]) == {"accepted": ["I", "me"]} and found[0]["family"] == "exam"
    assert read(str(tmp_path / "exam.parquet"), **fields).items == found[:1]


def test_the_first_rows_are_shown_and_not_asked_or_shots_have_a_file(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{number}", "answer": "a"} for number in range(4)]
    location = written(tmp_path / "exam.jsonl", rows)
    held = read(location, shots=1)
    assert [one["prompt"] for one in held.shots] == ["q0"] and [one["id"] for one in held.items] == [
        "line 2", "line 3", "line 4",
    ]  # fmt: skip
    examples = written(tmp_path / "dev.jsonl", [{"prompt": "shown", "answer": "b"}])
    apart = read(location, shots=1, examples=examples)
    assert [one["prompt"] for one in apart.shots] == ["shown"] and len(apart.items) == 4
    for given in ({"shots": 4}, {"shots": 2, "examples": examples}):
        with pytest.raises(EvaluationError, match=r"rows, too few for evaluation.benchmarks.exam.shots="):
            read(location, **given)


@pytest.mark.parametrize("answer", ["blue", "B", 1])
def test_a_choice_is_named_by_text_letter_or_index(tmp_path: Path, answer: Any) -> None:
    row = {"prompt": "Sky?", "choices": ["red", "blue"], "answer": answer}
    (item,) = read(written(tmp_path / "x.jsonl", [row]), check=CHOICE).items
    assert item["answer"] == "blue" and json.loads(item["meta"]) == {"choices": ["red", "blue"], "index": 1}


GOOD = {"prompt": "p", "answer": "a", "id": "1", "choices": ["a", "b"]}


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        ([], {}, "has no rows; expected an item a row in the file that evaluation.benchmarks.exam.location names"),
        (["", ""], {}, "has no rows"),
        ([GOOD, "{"], {}, "line 2 is not JSON"),
        ([GOOD, "[1]"], {}, "line 2 is a list; expected one object"),
        ([GOOD, {"answer": "a"}], {}, "line 2: field 'prompt' is missing; expected a text"),
        ([GOOD, {"prompt": " ", "answer": "a"}], {}, "line 2: field 'prompt' is \" \"; expected a text"),
        ([GOOD | {"prompt": "\ud800"}], {}, "line 1: field 'prompt' is .*ud800"),
        (["", GOOD, {"prompt": "p"}], {}, "line 3: field 'answer' is missing; expected a text or number"),
        ([GOOD | {"answer": []}], {}, r"line 1: field 'answer' is \[\]"),
        ([GOOD | {"answer": ["a", None]}], {}, r"line 1: field 'answer' is \[\"a\", null\]"),
        ([GOOD | {"answer": True}], {}, "line 1: field 'answer' is true"),
        ([GOOD | {"answer": "four"}], {"check": NUMERIC}, "\"four\", in which there is no number"),
        ([GOOD, GOOD], {"id": "id"}, "line 2: field 'id' is '1' as in line 1"),
        ([GOOD], {"id": "key"}, "line 1: field 'key' is missing"),
        ([GOOD | {"choices": "a"}], {"check": CHOICE}, "field 'choices' is \"a\"; expected a list of texts"),
        ([GOOD | {"choices": ["a", "a"]}], {"check": CHOICE}, "expected 2 to 26 that differ"),
        ([GOOD | {"answer": "C"}], {"check": CHOICE}, r"its letter \(A to B\), or its index \(0 to 1\)"),
        ([GOOD | {"answer": 2}], {"check": CHOICE}, "field 'answer' is 2; expected one of the choices"),
        ([{}] * 9, {}, "line 1: .*line 5: .*; and 4 more. Every row is asked or none is"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_by_file_row_and_field(
    tmp_path: Path, rows: list[Any], fields: dict[str, Any], message: str
) -> None:
    location = written(tmp_path / "bad.jsonl", rows)
    with pytest.raises((EvaluationError, CorpusError), match=message) as told:
        read(location, **fields)
    assert location in str(told.value)


def test_a_file_that_is_not_there_or_has_changed_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"evaluation.benchmarks.exam.location: there is no file .*none.jsonl"):
        read(str(tmp_path / "none.jsonl"))
    config = BenchmarkConfig("exam", written(tmp_path / "x.jsonl", [GOOD]), licence="CC0-1.0")
    files = benchmark_files(config)
    written(tmp_path / "x.jsonl", [GOOD, GOOD])
    with pytest.raises(CorpusError, match=r"x.jsonl has changed since the run began"):
        read_benchmark(config, files)
