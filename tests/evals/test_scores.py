"""Each measure on a model whose right and wrong answers are known."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import Store
from k2model.documents.markup import plain_prompt
from k2model.documents.schema import make_item, write_items
from k2model.documents.schema import read_items as read_corpus_items
from k2model.errors import EvaluationError
from k2model.evals.answers import Answers
from k2model.evals.backend import Generation, Likelihood, Prompt
from k2model.evals.items import Grade, ItemResult, read_items
from k2model.evals.items import write_items as write_results
from k2model.evals.likelihood import recall_values
from k2model.evals.material import Material, _cut
from k2model.evals.scores import ScoreRow, row_of
from k2model.generation import Request
from k2model.recipe.schema import PhaseKind
from tests.evals.conftest import CALL, FACTS, LENGTH, LINES, Asked, World

Ask = Callable[..., Asked]
SFT = PhaseKind.SFT


def test_a_trace_is_followed_and_only_the_answer_is_judged(ask: Ask) -> None:
    asked = ask("arithmetic/think")
    assert [one.right for one in asked.results] == [True, True, False, True]
    row = asked.row
    assert (row.value, row.completed, row.n, row.unit, row.chance) == (0.75, 0.75, 4, "accuracy", None)
    assert (row.group, row.cut_off, row.too_long, row.unscored) == ("Mathematics", 0, 0, 0)
    # five characters of trace, the closing tag, one digit, end of text
    assert row.mean_tokens == 8.0
    first = asked.results[0]
    assert (first.generation, first.trace, first.answer) == ("1+2=3</think>3", "1+2=3", "3")
    assert (first.prompt, first.tokens, first.thinking_tokens) == ("<|begin_of_text|>Compute 1+2=<think>", 8, 5)


def test_effort_decides_how_much_is_written(ask: Ask) -> None:
    low, high = (ask(f"arithmetic/{effort}", SFT).row for effort in ("low", "high"))
    assert low.value == high.value == 0.75
    assert (low.mean_tokens, high.mean_tokens) == (3.0, 8.0)


def test_facts_are_completed(ask: Ask) -> None:
    row = ask("facts/seen_wording").row
    assert row.value == 1.0 and row.n == len(FACTS)


def test_a_tool_call_is_judged_three_ways(ask: Ask) -> None:
    asked = ask("tools", SFT)
    assert [(row.score, row.value) for row in asked.rows] == [
        ("tools/well_formed", 1.0), ("tools/exact", 1.0), ("tools/result", 1.0),
    ]  # fmt: skip
    assert asked.results[0].generation == f"</think><tool_calls>{CALL}</tool_calls>"


def test_a_trace_that_never_ends_is_cut_off_and_never_read(ask: Ask, world: World) -> None:
    class Rambling:
        """Writes the right answer into a trace that it does not close."""

        name, max_length, identity = "rambling", 256, {}

        def tokens(self, prompt: Prompt) -> int:
            return 10

        def generate(self, requests):
            for index, _ in enumerate(requests):
                yield index, Generation("the answer is 3", "the answer is 3", None, 40, 40, "length")

    row = (asked := ask("arithmetic/think", backend=Rambling())).row
    assert {one.grade for one in asked.results} == {Grade.CUT_OFF}
    assert (row.value, row.completed, row.cut_off, row.n) == (0.0, None, 4, 4)
    assert asked.results[0].answer is None and asked.results[0].trace == "the answer is 3"


def test_chance_of_knights_is_the_commonest_answer(ask: Ask) -> None:
    assert ask("knights/direct").row.chance == 0.5  # 01 twice among four


def test_the_learnt_line_is_picked(ask: Ask) -> None:
    asked = ask("code/next_line")
    expected = ScoreRow(
        "mid_1", "code/next_line", 1.0, 1, 0, 0, "accuracy", None, 0.25, group="Code", completed=1.0
    )  # fmt: skip
    assert replace(asked.row, low=0, high=0) == expected
    assert asked.results[0].generation == LINES[0]


def test_of_choices_that_are_alike_the_right_one_counts_by_its_chance(ask: Ask) -> None:
    class Alike:
        name, max_length, identity = "alike", 256, {}

        def tokens(self, prompt: Prompt) -> int:
            return 10

        def likelihoods(self, requests):
            return [Likelihood(-float(len(text.encode()) - 1), 1, False) for _, text in requests]

    asked = ask("code/next_line", backend=Alike())
    assert (asked.row.value, asked.results[0].grade) == (0.25, Grade.MEASURED)


def test_retrieval_by_teacher_forcing_equals_generation(ask: Ask, world: World) -> None:
    asked = ask(f"retrieval/{LENGTH}")
    assert [one.right for one in asked.results] == [True, False]
    assert (asked.row.score, asked.row.n, len({one.cluster for one in asked.results})) == (f"retrieval/{LENGTH}", 2, 1)
    assert [(one.prompt, one.wanted) for one in asked.results] == [("…? cat", "red"), ("…? dog", "pink")]
    backend, tokenizer = world.backend, world.loaded_tokenizer
    wanted = next(one for one in read_corpus_items(world.corpus, "retrieval") if one["context"] == LENGTH)
    for text, value, right in (
        (f"{wanted['prompt']}? cat", " red", True),
        (f"{wanted['prompt']}? cat red? dog", " pink", False),
    ):
        ids = tokenizer.encode_segments(plain_prompt(text))[0]
        ((_, alone),) = backend.engine.run([Request(ids, len(tokenizer.encode(value)))])
        assert (tokenizer.decode(alone.tokens) == value) is right


def test_a_context_that_there_is_no_room_for_is_counted(world: World) -> None:
    item = make_item("retrieval", "k", "x" * 300, "", context=300, meta={"queries": [["cat", "red"], ["dog", "blue"]]})
    with Answers() as answers:
        results = recall_values("retrieval/300", [item], 2, world.backend, answers, 10_000)
    assert [one.grade for one in results] == [Grade.TOO_LONG] * 2


def test_a_length_without_items_is_named(ask: Ask) -> None:
    with pytest.raises(EvaluationError, match=rf"no items of context 64, only of \[{LENGTH}, {2 * LENGTH}\]"):
        ask("retrieval/64", lengths=(64,))


def test_loss_of_what_is_known_and_of_what_is_not(ask: Ask, world: World) -> None:
    known, unknown = ask("loss/knowledge").row, ask("loss/prose").row
    assert known.n == 2 and known.unit == "nats/token" and known.score == "loss/knowledge"
    assert (known.completed, known.mean_tokens, known.group) == (None, None, "Held-out loss")
    assert known.value < 1.0 < math.log(274) < unknown.value * 2
    assert unknown.low < unknown.value < unknown.high


def test_the_budget_of_a_domain_is_kept_and_the_last_document_cut(ask: Ask) -> None:
    few, whole = (ask("loss/prose", loss_tokens=tokens) for tokens in (60, 10_000))
    assert few.row.n < 9 == whole.row.n
    assert sum(len(one.prompt.removeprefix("<|begin_of_text|>")) for one in few.results) <= 240 + len("<|end_of_text|>")


def test_a_document_is_cut_by_characters_and_tags_stay_whole() -> None:
    segments = [
        {"kind": "special", "text": "<think>", "loss_mask": False}, {"kind": "text", "text": "abc", "loss_mask": True},
    ]  # fmt: skip
    assert [one["text"] for one in _cut(segments, 9)] == ["<think>", "ab"]
    assert [one["text"] for one in _cut(segments, 3)] == ["<think>"]


def test_missing_items_are_named(ask: Ask, put: Callable, tmp_path: Path, world: World) -> None:
    write_items(tmp_path, "spelling", [])
    store = Store.open(tmp_path / "store")
    material = Material(store, put(store, "corpus", tmp_path / "items"))
    for family in ("spelling", "knights"):
        with pytest.raises(EvaluationError, match=rf"{family}\.parquet has no items, which the recipe is scored on"):
            material.family(family)


def test_only_so_many_items_are_asked(ask: Ask) -> None:
    assert len(ask("arithmetic/think", items_per_family=2).results) == 2


def result(grade: Grade, value: float, item: str = "a", tokens: int = 0) -> ItemResult:
    return ItemResult("exam", item, item, "", "", None, "", grade, value, tokens=tokens)


def test_a_score_is_given_three_ways() -> None:
    results = [
        result(Grade.RIGHT, 1.0, "a", 10), result(Grade.RIGHT, 1.0, "b", 20), result(Grade.WRONG, 0.0, "c", 30),
        result(Grade.CUT_OFF, 0.0, "d", 40), result(Grade.TOO_LONG, 0.0, "e"),
        result(Grade.UNSCORED, math.nan, "f", 50),
    ]  # fmt: skip
    row = row_of("sft", "exam", results, "Other")
    assert (row.value, row.completed, row.n) == (0.4, round(2 / 3, 6), 6)
    assert (row.cut_off, row.too_long, row.unscored, row.mean_tokens) == (1, 1, 1, 30.0)
    with pytest.raises(EvaluationError, match="score 'exam' has no verdict on any of its 1 items"):
        row_of("sft", "exam", results[-1:], "Other")


def test_results_are_read_as_they_were_written(ask: Ask, tmp_path: Path) -> None:
    results = ask("arithmetic/think").results
    write_results(tmp_path / "items.parquet", results)
    assert list(read_items(tmp_path / "items.parquet")) == results
