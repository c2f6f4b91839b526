"""A benchmark whose answers a language model judges, behind a real server on the loopback interface."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import Store
from k2model.errors import EvaluationError
from k2model.evals.backend import Finish, Generation, Prompt
from k2model.evals.cells import Cell, Opened, Subject, make_cell, results_of, rows_of
from k2model.evals.items import Grade
from k2model.evals.material import Material
from k2model.evals.measures import Bounds, measure_of
from k2model.recipe.evaluation import AnswerCheck, BenchmarkConfig, EvaluationConfig, benchmarks_problem
from k2model.recipe.tasks import benchmark_task

SAID = {"a": "Lima", "b": "Rome", "c": "who knows"}


class Writer:
    """Writes what `SAID` has, and counts what it was asked."""

    name, max_length, identity = "writer", 1_000, {"kind": "writer"}
    asked = 0

    def tokens(self, prompt: Prompt) -> int:
        return len(prompt.text)

    def generate(self, requests: Any) -> Any:
        for index, (prompt, _) in enumerate(requests):
            self.asked += 1
            answer = SAID[prompt.text]
            yield index, Generation(answer, None, answer, 1, 0, Finish.END)


class Judging(BaseHTTPRequestHandler):
    """Says that an answer of Lima is right, that of Rome wrong, and of any other nothing that can be read."""

    down = False

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = str(sent["messages"])
        right = "Rome" not in said
        content = "I could not say" if "who knows" in said else json.dumps({"right": right})
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
        body = json.dumps({"model": "judge", "choices": [choice], "usage": usage}).encode()
        self.send_response(503 if Judging.down else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judging)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def test_verdicts_that_cannot_be_read_leave_items_unscored_and_a_silent_judge_ends_the_run(
    url: str, tmp_path: Path
) -> None:
    rows = [{"prompt": prompt, "answer": "Lima"} for prompt in SAID]
    (tmp_path / "exam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    exam = BenchmarkConfig(
        "exam", str(tmp_path / "exam.jsonl"), AnswerCheck.JUDGE, judge=f"{url}#judge", licence="CC0-1.0"
    )
    store, writer = Store.open(tmp_path / "store"), Writer()
    measure = measure_of(benchmark_task(exam), EvaluationConfig(), Material(store), Bounds(100))
    cell = Cell(Subject("writer", {}, {"model": "writer"}, Bounds(100), lambda _: writer), measure)
    assert "judge" in json.dumps(measure.declared["grader"])
    Judging.down = True
    try:
        with pytest.raises(EvaluationError, match=r"the judge of benchmark 'exam' .* said nothing of 3 of 3 answers"):
            make_cell(store, cell, Opened())
    finally:
        Judging.down = False
    ref = make_cell(store, cell, Opened())
    assert writer.asked == len(SAID)  # what it had answered was kept
    assert [one.grade for one in results_of(store, ref)] == [Grade.RIGHT, Grade.WRONG, Grade.UNSCORED]
    (row,) = rows_of(store, ref)
    assert (row.value, row.n, row.unscored) == (0.5, 3, 1)


def test_a_judge_is_named_with_its_address() -> None:
    exam = BenchmarkConfig("exam", "exam.jsonl", AnswerCheck.JUDGE, judge="gpt", licence="MIT")
    assert "judge='gpt' is no judge; set it to http://HOST/v1#MODEL" in str(benchmarks_problem([exam], ()))
