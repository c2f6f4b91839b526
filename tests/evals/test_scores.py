"""Each measure on a model whose right and wrong answers are known."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from k2model.documents.schema import make_item, write_items
from k2model.errors import EvaluationError
from k2model.evals.generation import generate
from k2model.evals.likelihood import (
    common_prefix,
    heldout_loss,
    pick_choices,
    tail_log_probabilities,
    window_losses,
    windows,
)
from k2model.evals.questions import answer_of, ask
from k2model.evals.retrieval import likeliest_values, probes, recall
from k2model.evals.scores import ScoreRow
from k2model.model.transformer import K2Model
from k2model.recipe.tasks import TASKS, Task
from tests.evals.conftest import CALL, CODE, FACTS, LENGTH, LINES, World


def task(score: str) -> Task:
    return next(one for one in TASKS if score in one.scores)


def test_a_trace_is_followed_and_only_the_answer_is_judged(world: World) -> None:
    outcome = ask(world.evaluated(), task("arithmetic/think"))
    (row,) = outcome.rows
    assert [sample.right for sample in outcome.samples] == [True, True, False, True]
    assert (row.value, row.n, row.unit, row.chance) == (0.75, 4, "accuracy", None)
    # five characters of trace, the closing tag, one digit, end of text
    assert row.mean_tokens == 8.0
    assert outcome.samples[0].generation == "1+2=3</think>3<|end_of_text|>"
    assert outcome.samples[0].prompt == "<|begin_of_text|>Compute 1+2=<think>"


def test_effort_decides_how_much_is_written(world: World) -> None:
    low, high = (ask(world.evaluated(), task(f"arithmetic/{effort}")) for effort in ("low", "high"))
    assert low.rows[0].value == high.rows[0].value == 0.75
    assert (low.rows[0].mean_tokens, high.rows[0].mean_tokens) == (3.0, 8.0)


def test_facts_are_completed(world: World) -> None:
    outcome = ask(world.evaluated(), task("facts/seen_wording"))
    assert outcome.rows[0].value == 1.0 and outcome.rows[0].n == len(FACTS)


def test_a_tool_call_is_judged_three_ways(world: World) -> None:
    outcome = ask(world.evaluated(), task("tools/exact"))
    assert [row.value for row in outcome.rows] == [1.0, 1.0, 1.0]
    assert outcome.samples[0].generation == f"</think><tool_calls>{CALL}</tool_calls><|im_end|>"


def test_an_answer_without_its_closing_tag_is_none(world: World) -> None:
    tokenizer = world.loaded_tokenizer
    stops = frozenset((tokenizer.eos,))
    typed = [*tokenizer.encode("1</think>3"), tokenizer.eos]  # the tag as ordinary letters
    real = [*tokenizer.encode("1"), tokenizer.special("</think>"), *tokenizer.encode("3"), tokenizer.eos]
    assert answer_of(typed, "</think>", stops, tokenizer) is None
    assert answer_of(real, "</think>", stops, tokenizer) == "3"
    assert answer_of(typed, "", stops, tokenizer) == "1</think>3"


def test_chance_of_knights_is_the_commonest_answer(world: World) -> None:
    row = ask(world.evaluated(), task("knights/direct")).rows[0]
    assert row.chance == 0.5  # 01 twice among four


def test_the_learnt_line_is_picked(world: World) -> None:
    outcome = pick_choices(world.evaluated(), task("code/next_line"))
    expected = ScoreRow("mid_1", "code/next_line", 1.0, 1, 0, 0, "accuracy", mean_tokens=None, chance=0.25)
    assert replace(outcome.rows[0], low=0, high=0) == expected
    assert outcome.samples[0].generation == LINES[0]


@pytest.mark.parametrize("short", [("a", "bcdef", "ba"), ("a", "b", "c")])
def test_tail_probabilities_equal_those_of_whole_rows(world: World, short: tuple[str, ...]) -> None:
    tokenizer, model = world.loaded_tokenizer, world.model
    items = [
        *([[[tokenizer.bos, *tokenizer.encode(CODE + line + "\n")] for line in LINES]] if "ba" in short else []),
        [[tokenizer.bos, *tokenizer.encode("x" + one)] for one in short],
    ]
    for choices, totals in zip(items, tail_log_probabilities(model, items), strict=True):
        first = len(common_prefix(choices))
        for ids, total in zip(choices, totals, strict=True):
            with torch.no_grad():
                logs = model(torch.tensor([ids])).double().log_softmax(-1)[0]
            alone = sum(logs[t - 1, ids[t]].item() for t in range(first, len(ids)))
            assert total == pytest.approx(alone, abs=1e-3)


def test_common_prefix_leaves_every_choice_a_token() -> None:
    assert common_prefix([[1, 2, 3, 4], [1, 2, 5, 4]]) == [1, 2]
    assert common_prefix([[1, 2], [1, 2, 3]]) == [1]


def test_retrieval_by_teacher_forcing_equals_generation(world: World) -> None:
    evaluated = world.evaluated()
    outcome = recall(evaluated, f"retrieval/{LENGTH}", LENGTH)
    assert [sample.right for sample in outcome.samples] == [True, False]
    assert outcome.rows[0].score == f"retrieval/{LENGTH}" and outcome.rows[0].n == 2
    (probe,) = probes(evaluated, LENGTH)
    (written,) = likeliest_values(world.model, [probe])
    for span, ids in zip(probe.spans, written, strict=True):
        alone = generate(world.model, [probe.ids[: span.start]], len(span), set())[0]
        truth = probe.ids[span.start : span.stop]
        assert (ids == truth) == (alone == truth)
        assert ids[0] == alone[0]
    assert [world.loaded_tokenizer.decode([probe.ids[i] for i in span]) for span in probe.spans] == [" red", " pink"]


def test_a_length_without_items_is_named(world: World) -> None:
    with pytest.raises(EvaluationError, match=rf"no items of context 64, only of \[{LENGTH}, {2 * LENGTH}\]"):
        recall(world.evaluated(), "retrieval/64", 64)


def test_windows_predict_every_target_once() -> None:
    ids, targets = list(range(100, 123)), [i % 3 > 0 for i in range(23)]
    parts = list(windows(7, ids, targets, 6))
    predicted = [i for w in parts for i, mark in zip(w.ids, w.targets, strict=True) if mark]
    assert predicted == [i for i, mark in zip(ids, targets, strict=True) if mark]
    assert all(len(w.ids) <= 6 and not w.targets[0] and w.document == 7 for w in parts)
    assert all(a.ids[-1] == b.ids[0] for a, b in pairwise(parts))


def test_heldout_loss_equals_documents_scored_one_by_one(world: World) -> None:
    documents = [[world.loaded_tokenizer.bos, *world.loaded_tokenizer.encode("Text number " * n)] for n in (1, 3, 2)]
    targets = [[False, *(i % 2 == 0 for i in range(len(ids) - 1))] for ids in documents]
    parts = [w for i, (d, t) in enumerate(zip(documents, targets, strict=True)) for w in windows(i, d, t, 64)]
    nats, counts = window_losses(world.model, parts, 3)
    for ids, marks, total, count in zip(documents, targets, nats, counts, strict=True):
        with torch.no_grad():
            logs = world.model(torch.tensor([ids])).double().log_softmax(-1)[0]
        assert count == sum(marks)
        alone = -sum(logs[t - 1, ids[t]].item() for t in range(1, len(ids)) if marks[t])
        assert total == pytest.approx(alone, rel=1e-4)


def test_loss_of_what_is_known_and_of_what_is_not(world: World) -> None:
    known = heldout_loss(world.evaluated(), "knowledge", ["facts"]).rows[0]
    unknown = heldout_loss(world.evaluated(), "prose", ["prose"]).rows[0]
    assert known.n == 2 and known.unit == "nats/token" and known.score == "loss/knowledge"
    assert known.value < 1.0 < math.log(274) < unknown.value * 2
    assert unknown.low < unknown.value < unknown.high


def test_the_token_budget_of_a_domain_is_kept(world: World) -> None:
    few = heldout_loss(world.evaluated(loss_tokens=60), "prose", ["prose"]).rows[0]
    all_of_them = heldout_loss(world.evaluated(loss_tokens=10_000), "prose", ["prose"]).rows[0]
    assert few.n < 9 == all_of_them.n


def test_missing_items_are_named(world: World, tmp_path) -> None:
    write_items(tmp_path, "spelling", [])
    evaluated = replace(world.evaluated(), corpus=tmp_path)
    for family in ("spelling", "knights"):
        with pytest.raises(EvaluationError, match=rf"{family}\.parquet has no items, which phase 'mid_1' is scored on"):
            evaluated.asked(task(f"{family}/think"))


def test_only_so_many_items_are_asked(world: World) -> None:
    assert len(ask(world.evaluated(items_per_family=2), task("arithmetic/think")).samples) == 2


def test_a_model_in_fp32_and_in_bf16_is_judged_alike(world: World) -> None:
    assert isinstance(world.model, K2Model) and world.model.head.weight.dtype is torch.float32
    item = make_item("arithmetic", "k", "Compute 1+2=", "3")
    ids = world.loaded_tokenizer.encode_segments(
        [{"kind": "special", "text": "<|begin_of_text|>", "loss_mask": False}]
    )[0]
    prompt = [*ids, *world.loaded_tokenizer.encode(item["prompt"]), world.loaded_tokenizer.special("<think>")]
    with torch.autocast("cpu", torch.bfloat16):
        half = generate(world.model, [prompt], 10, {world.loaded_tokenizer.eos})
    assert half == generate(world.model, [prompt], 10, {world.loaded_tokenizer.eos})
