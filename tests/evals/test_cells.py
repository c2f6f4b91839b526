"""A cell that is killed while it is asked: nothing that was answered is asked again, on disk and object store."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from k2model.artifacts import Store
from k2model.artifacts.files import LocalFiles
from k2model.errors import EvaluationError
from k2model.evals import answers as answers_module
from k2model.evals.answers import Answers, Progress
from k2model.evals.backend import Finish, Generation, Prompt
from k2model.evals.cells import Cell, Opened, Subject, make_cell, results_of, rows_of
from k2model.evals.clean_scores import clean_scores
from k2model.evals.material import Material
from k2model.evals.measures import Bounds, measure_of
from k2model.recipe.evaluation import AnswerCheck, BenchmarkConfig, EvaluationConfig
from k2model.recipe.tasks import benchmark_task

ITEMS = 40


class Slow:
    """Echoes a prompt's last word, one answer each 50 ms, and notes in a file what it was asked."""

    name, max_length, identity = "slow", 1000, {"kind": "slow"}

    def __init__(self, noted: Path, seconds: float) -> None:
        self.noted, self.seconds = noted, seconds

    def tokens(self, prompt: Prompt) -> int:
        return len(prompt.text)

    def generate(self, requests):
        for index, (prompt, _) in enumerate(requests):
            time.sleep(self.seconds)
            with self.noted.open("a") as file:
                file.write(f"{prompt.text}\n")
            yield index, Generation(said := prompt.text.split()[-1], None, said, 1, 0, Finish.END)


def cell_of(store: Store, folder: Path, seconds: float = 0.0) -> Cell:
    exam = BenchmarkConfig("echo", str(folder / "echo.jsonl"), licence="CC0-1.0")
    measure = measure_of(benchmark_task(exam), EvaluationConfig(), Material(store), Bounds(100))
    return Cell(Subject("slow", {}, {"model": "slow"}, Bounds(100), lambda _: Slow(folder / "noted", seconds)), measure)


def write_exam(folder: Path) -> None:
    rows = [{"prompt": f"Say {i}", "answer": str(i if i % 2 else -1)} for i in range(ITEMS)]
    (folder / "echo.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


KILLED = """
import sys
from pathlib import Path
from k2model.artifacts import Store
from k2model.evals import answers
from k2model.evals.cells import Opened, make_cell
from tests.evals.test_cells import cell_of

answers.FLUSH_SECONDS = 0.0  # what is kept of an object store's last seconds is not what is tested
store = Store.open(sys.argv[1])
make_cell(store, cell_of(store, Path(sys.argv[2]), 0.05), Opened())
"""


def interrupted_and_resumed(uri: str, folder: Path) -> None:
    write_exam(folder)
    process = subprocess.Popen([sys.executable, "-c", KILLED, uri, str(folder)], env=os.environ | {"PYTHONPATH": "."})
    deadline = time.monotonic() + 60
    while not (folder / "noted").exists() or len((folder / "noted").read_text().splitlines()) < ITEMS // 4:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = (folder / "noted").read_text().splitlines()
    assert ITEMS // 4 <= len(before) < ITEMS
    store = Store.open(uri)
    cell = cell_of(store, folder)
    assert store.find(cell.identity) is None
    seen: list[int] = []
    ref = make_cell(store, cell, Opened(), lambda done, wanted: seen.append(done))
    asked = (folder / "noted").read_text().splitlines()
    # The answer that was being written when the process was killed may be asked for again, and no other.
    assert len(before) - 1 <= seen[0] <= len(before)
    assert len(asked) <= ITEMS + 1 and set(asked) == {f"Say {i}" for i in range(ITEMS)}
    (row,) = rows_of(store, ref)
    assert (row.n, row.value) == (ITEMS, 0.5)
    assert [one.answer for one in results_of(store, ref)] == [str(i) for i in range(ITEMS)]
    left = store.files_of("_asked").sizes()
    assert not [path for path in left if path.endswith(".jsonl")]  # nothing is kept of what is finished


def test_a_killed_cell_goes_on_where_it_was(tmp_path: Path) -> None:
    interrupted_and_resumed(str(tmp_path / "store"), tmp_path)


def test_a_killed_cell_goes_on_where_it_was_on_an_object_store(s3_uri: str, tmp_path: Path) -> None:
    interrupted_and_resumed(s3_uri, tmp_path)


def test_what_was_being_written_when_it_was_killed_is_asked_again(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    with Answers(files) as first:
        first.put("a", {"said": 1})
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes() + b'["b", {"sa')
    with Answers(files) as second:
        assert "a" in second and second["a"] == {"said": 1} and "b" not in second
        second.put("b", {"said": 2})
    with Answers(files) as third:
        assert [third[key]["said"] for key in ("a", "b")] == [1, 2]


def test_an_answer_is_kept_when_what_comes_next_fails(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    write_exam(tmp_path)

    class Failing(Slow):
        def generate(self, requests):
            yield from list(super().generate(requests[:3]))
            raise EvaluationError("the server is down")

    cell = cell_of(store, tmp_path)
    broken = Cell(
        Subject("slow", {}, {"model": "slow"}, Bounds(100), lambda _: Failing(tmp_path / "noted", 0)), cell.measure
    )
    with pytest.raises(EvaluationError, match="the server is down"):
        make_cell(store, broken, Opened())
    make_cell(store, cell, Opened())
    assert len((tmp_path / "noted").read_text().splitlines()) == ITEMS


class Drawing:
    """Says a number that the request's seed decides, in one of two wordings: an item has several answers."""

    name, max_length, identity = "drawing", 1000, {"kind": "drawing"}

    def tokens(self, prompt: Prompt) -> int:
        return len(prompt.text)

    def generate(self, requests):
        for index, (_, sampling) in enumerate(requests):
            wording = "it is {}" if sampling.seed % 2 else "{} it is"
            yield index, Generation("", None, wording.format(sampling.seed // 2 % 3), 4, 0, Finish.END)


def test_what_several_answers_to_each_item_say_stands_beside_their_mean(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {i}", "answer": str(i % 3)} for i in range(ITEMS)]
    (tmp_path / "echo.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    exam = BenchmarkConfig(
        "echo", str(tmp_path / "echo.jsonl"), AnswerCheck.NUMERIC, licence="CC0-1.0", repeats=6, temperature=1.0
    )
    store = Store.open(tmp_path / "store")
    measure = measure_of(benchmark_task(exam), EvaluationConfig(), Material(store), Bounds(100))
    subject = Subject("drawing", {}, {"model": "drawing"}, Bounds(100), lambda _: Drawing())
    ref = make_cell(store, Cell(subject, measure), Opened())
    found = {row.score: row for row in rows_of(store, ref)}
    assert list(found) == ["echo", "echo/pass@2", "echo/pass@4", "echo/pass@6", "echo/maj@6"]
    results = [one for one in results_of(store, ref) if one.score == "echo"]
    assert found["echo"].n == len(results) == 6 * ITEMS and len({one.seed for one in results}) == 6 * ITEMS
    said = [[one for one in results if one.item == item] for item in dict.fromkeys(one.item for one in results)]
    anyone = sum(any(one.right for one in own) for own in said) / ITEMS
    pairs = [sum(a.right or b.right for a, b in combinations(own, 2)) / 15 for own in said]
    counts = [Counter(one.answer.replace("it is", "").strip() for one in own) for own in said]  # whatever the wording
    tied = [[number for number, votes in count.items() if votes == max(count.values())] for count in counts]
    voted = [(own[0].wanted in leading) / len(leading) for own, leading in zip(said, tied, strict=True)]
    assert found["echo/pass@6"].value == pytest.approx(anyone, abs=1e-6) and 0.8 < anyone < 1.0
    assert found["echo/pass@2"].value == pytest.approx(sum(pairs) / ITEMS, abs=1e-6)
    assert found["echo/maj@6"].value == pytest.approx(sum(voted) / ITEMS, abs=1e-6)
    assert {row.n for row in list(found.values())[1:]} == {ITEMS}
    for row in found.values():
        assert row.low < row.value < row.high and row.completed == row.value and row.group == "Other"
    clean = clean_scores(results_of(store, ref), {("echo", item): None for item in {one.item for one in results}})
    assert {score: one.value for score, one in clean.items()} == {
        score: pytest.approx(row.value, abs=1e-6) for score, row in found.items()
    }


def test_a_model_is_loaded_once_for_all_of_its_cells(tmp_path: Path) -> None:
    loaded: list[int] = []

    def opening(reach: int) -> Slow:
        loaded.append(reach)
        return Slow(tmp_path / "noted", 0)

    store = Store.open(tmp_path / "store")
    write_exam(tmp_path)
    measure = cell_of(store, tmp_path).measure
    opened, first = Opened(), Subject("a", {}, {"model": "a"}, Bounds(100, 1000), opening)
    second = Subject("b", {}, {"model": "b"}, Bounds(100, 1000), opening)
    assert opened.of(Cell(first, measure)) is opened.of(Cell(first, measure))
    opened.of(Cell(second, measure))
    assert len(loaded) == 2


def test_progress_says_how_many_are_done_and_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    now = [0.0]
    monkeypatch.setattr(answers_module.time, "monotonic", lambda: now[0])
    shown = Progress("mid_1 exam", out := Terminal())
    shown(100, 300)  # what an earlier attempt had asked is no speed of this one
    now[0] = 10.0
    shown(150, 300)
    assert out.getvalue() == "\rmid_1 exam: 150 of 300 items, 5.0 items/s, 30 s left\033[K"
    shown(300, 300)
    assert out.getvalue().endswith("\n")
