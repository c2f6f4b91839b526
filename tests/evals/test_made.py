"""Families whose items are made when they are asked: every one of them is measured, of a model with random weights."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch

from k2model.artifacts import Store
from k2model.documents.families.generated import GENERATED, VERSION, generate
from k2model.evals import tool_use
from k2model.evals.backends import OwnModel
from k2model.evals.checks import said
from k2model.evals.items import Grade
from k2model.evals.longcontext import asking as longcontext
from k2model.evals.longcontext.tasks import TASKS as CONTEXT_TASKS
from k2model.evals.material import Material
from k2model.evals.measures import Bounds, measures_of
from k2model.model.transformer import K2Model
from k2model.recipe import load_recipe
from k2model.recipe.evaluation import EvaluationConfig
from k2model.recipe.evaluation_problems import gate_problem
from k2model.recipe.schema import GateConfig, PhaseKind
from k2model.recipe.tasks import LONG_CONTEXT, PUZZLES, TASKS, score_names
from tests.evals.conftest import MODEL, World, measured

ASKED = ("order_4", "needle_entries", "position_loss", "tool_use")


def test_what_recipes_name_is_what_is_made() -> None:
    assert list(PUZZLES) == list(GENERATED)
    assert {name.removesuffix("_entries") for name in LONG_CONTEXT} == set(CONTEXT_TASKS)


def test_other_items_have_another_version() -> None:
    """Cells of scores are found again by it: where this digest changes, raise `VERSION` in the same commit."""
    items = [generate(name, 2) for name in GENERATED]
    digest = hashlib.sha256(json.dumps(items, sort_keys=True).encode()).hexdigest()[:16]
    questions = [(one.question, one.offered, one.answer) for one in tool_use.tasks_of(22)]
    told = hashlib.sha256(json.dumps(questions).encode()).hexdigest()[:16]
    assert (tool_use.VERSION, told) == ("1", "dc32357875b56b21")
    assert (VERSION, digest) == ("1", "b562a014144b6937")


@pytest.mark.parametrize("kind", [PhaseKind.MIDTRAIN, PhaseKind.SFT])
def test_each_is_measured_without_a_corpus(kind: PhaseKind, world: World, tmp_path) -> None:
    torch.manual_seed(0)
    backend = OwnModel(K2Model(MODEL, 1e4, 2048), world.loaded_tokenizer)
    config = EvaluationConfig(families=ASKED, items_per_family=2, retrieval_documents=2)
    material, bounds = Material(Store.open(tmp_path)), Bounds(256, 640)
    rows, names = {}, []
    for measure in measures_of(config, material, kind, bounds, (256, 512)):
        asked = measured(measure, backend)
        names.append(measure.name)
        rows |= {row.score: (row, asked.results) for row in asked.rows}
        assert measure.reach <= 640 and measure.cost > 0 and json.dumps(measure.declared, default=str)
    efforts = ("think",) if kind is PhaseKind.MIDTRAIN else ("low", "medium", "high")
    expected = [f"order_4/{effort}" for effort in efforts]
    expected += ["needle_entries/256", "needle_entries/512", "position_loss"]
    assert names == expected + (["tool_use"] if kind is PhaseKind.SFT else [])
    row, results = rows[f"order_4/{efforts[0]}"]
    assert (row.n, row.value, row.chance, row.group) == (2, 0.0, round(1 / 24, 6), "Logic")
    assert {one.grade for one in results} <= {Grade.CUT_OFF, Grade.WRONG} and all(one.seed for one in results)
    row, results = rows["needle_entries/512"]
    assert row.n == 2 and [cell.depth for cell in longcontext.depth_map(results)] == [0.0, 1.0]
    losses = [rows[f"position_loss/{end}"][0] for end in (128, 256, 512)]
    assert all(row.unit == "nats/token" and 5.0 < row.value < 6.5 and row.n == 2 for row in losses)
    if kind is PhaseKind.SFT:
        assert rows["tool_use/schema"][0].too_long == 2  # definitions of tools take more than 640 bytes


def test_a_recipe_knows_the_scores_it_will_have() -> None:
    changes = {
        "evaluation.families": ["knights_8", "needle", "position_loss", "tool_use"],
        "evaluation.items_per_family": 500,
    }
    recipe = load_recipe("smoke", {**changes, "gates": []})
    scores = score_names(recipe, recipe.phases[-1])
    assert {"knights_8/high", "needle/256", "position_loss/128", "tool_use/no_call"} <= set(scores)
    assert "knights_8/think" in score_names(recipe, recipe.phases[1])


def test_what_several_answers_say_is_gateable_and_voted_by_the_number_said() -> None:
    exam = {"name": "exam", "location": "exam.jsonl", "licence": "CC0-1.0", "repeats": 4, "temperature": 1.0,
            "check": "code"}  # fmt: skip
    gates = [
        {"phase": "sft", "score": "aime_like/high/pass@8", "minimum": 0.0},
        {"phase": "sft", "score": "exam/pass@4", "minimum": 0.0},
    ]
    recipe = load_recipe("smoke", {"evaluation.families": ["aime_like"], "evaluation.benchmarks": [exam], "gates": []})
    scores = score_names(recipe, recipe.phases[-1])
    assert {"aime_like/high", "aime_like/high/pass@2", "aime_like/high/maj@8", "exam/pass@2"} <= set(scores)
    assert "exam/maj@4" not in scores  # programs are no votes
    changed = replace(recipe, gates=tuple(GateConfig(**gate) for gate in gates))
    assert [gate_problem(changed, gate) for gate in changed.gates] == [None, None]
    wrong = replace(changed.gates[0], score="aime_like/high/pass@16")
    assert "did you mean" in str(gate_problem(changed, wrong))
    task = next(one for one in TASKS if one.family == "aime_like")
    item = generate("aime_like", 1)[0]
    assert [said(task, item, text) for text in ("so \\boxed{041}", "41, I think", "no")] == ["41", "41", None]
