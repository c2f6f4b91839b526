"""The canary, on real models: what is asked is fresh, a worse champion is rolled back, an equal one is not."""

from dataclasses import replace
from pathlib import Path

import pytest

from k2model.continual.canary import absent, canary_cells, canary_result, damage
from k2model.errors import EvaluationError
from k2model.evals.cells import results_of
from k2model.evals.material import Material
from k2model.evals.measures import Bounds, measure_of, measures_of
from k2model.evals.step import make_all
from k2model.recipe.continual import CanaryConfig
from k2model.recipe.evaluation import EvaluationConfig
from k2model.recipe.schema import GateConfig, PhaseKind
from k2model.recipe.tasks import tasks_of
from tests.continual.small_line import ASKED, ITEMS, SUMS, Line, recipe
from tests.evals.conftest import LENGTH


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    return Line.at(tmp_path_factory.mktemp("line"))


def test_a_champion_that_has_lost_a_capability_is_rolled_back_and_one_that_has_not_stays(line: Line) -> None:
    knowing, newborn, again = line.model(0, True), line.model(1, False), line.model(2, True)
    worse, equal = line.state(knowing, newborn), line.state(knowing, again)
    cells = canary_cells(line.store, recipe(), worse)
    assert {cell.measure.name for cell in cells} == {f"arithmetic/{effort}" for effort in ("low", "medium", "high")}
    with pytest.raises(EvaluationError, match="measure canary_cells first"):
        canary_result(line.store, recipe(), worse)
    refs = make_all(line.store, cells)
    # Not one item that phases are scored on.
    assert {one.item for one in results_of(line.store, refs[0])} == _ids(range(ASKED, ITEMS))
    found = canary_result(line.store, recipe(), worse)
    assert not found.passed and "arithmetic/low 1.000 → 0.000 on 16 fresh items" in found.reason
    assert found.evidence is not None
    assert {row.score: row.failed for row in found.rows} == {  # neither knows anything with a trace
        "arithmetic/low": True, "arithmetic/medium": False, "arithmetic/high": False,
    }  # fmt: skip
    assert next(row for row in found.rows if row.failed).at_most < -0.15
    assert canary_result(line.store, recipe(), worse) == found
    # The model before is not asked again.
    cells = canary_cells(line.store, recipe(), equal)
    assert [line.store.find(cell.identity) is None for cell in cells] == [False, True] * 3
    make_all(line.store, cells)
    found = canary_result(line.store, recipe(), equal)
    assert found.passed and "no loss beyond doubt on 3 scores" in found.reason


def _ids(numbers: range) -> set[str]:
    from k2model.documents.schema import make_item

    return {make_item("arithmetic", asked, asked, said)["id"] for asked, said in (SUMS[i] for i in numbers)}


def test_a_gate_that_fails_on_fresh_items_rolls_back_unless_the_model_before_fails_it_too(line: Line) -> None:
    knowing, newborn = line.model(0, True), line.model(1, False)
    gated = replace(recipe(canary=CanaryConfig(ITEMS - ASKED, 1.0)), gates=(GateConfig("sft", "arithmetic/low", 0.5),))
    state = line.state(knowing, newborn)
    make_all(line.store, canary_cells(line.store, gated, state))
    found = canary_result(line.store, gated, state)
    assert not found.passed and "gate arithmetic/low is failed on fresh items" in found.reason
    other = line.state(line.model(3, False), newborn)
    make_all(line.store, canary_cells(line.store, gated, other))
    assert canary_result(line.store, gated, other).passed


def test_damaged_weights_are_reason_enough(tmp_path: Path) -> None:
    line = Line.at(tmp_path)
    champion = line.model(1, False)
    state = line.state(line.model(0, False), champion)
    assert damage(line.store, champion) == ""
    path = Path(champion.made["tuned/export"].uri) / "model.safetensors"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-4] + b"ruin")
    assert "model.safetensors" in damage(line.store, champion)
    found = canary_result(line.store, recipe(), state)
    assert not found.passed and found.reason.startswith("its weights are damaged") and found.evidence is None


def test_without_fresh_items_or_a_model_before_nothing_is_asked(line: Line) -> None:
    state = line.state(line.model(0, False), line.model(1, False))
    exhausted = replace(recipe(), evaluation=replace(recipe().evaluation, items_per_family=ITEMS))
    assert canary_cells(line.store, exhausted, state) == []
    assert absent(line.store, exhausted, state)["arithmetic/low"] == f"it has no items beyond the first {ITEMS}"
    found = canary_result(line.store, exhausted, state)
    assert found.passed and "nothing was asked" in found.reason
    first = replace(state, before=())
    assert canary_cells(line.store, recipe(), first) == []
    with pytest.raises(EvaluationError, match="no champion that replaced another"):
        canary_result(line.store, recipe(), first)


def test_fresh_items_have_cells_of_their_own_and_all_others_keep_theirs(line: Line) -> None:
    config = replace(recipe().evaluation, families=("arithmetic", "knights_4", "tool_use"))
    material, bounds = Material(line.store, line.corpus.valid, line.corpus.tokens), Bounds(LENGTH)
    for measure in measures_of(config, material, PhaseKind.SFT, bounds, [LENGTH]):
        assert "after" not in measure.declared
    for task in tasks_of(replace(config, families=("arithmetic", "knights_4")), PhaseKind.SFT):
        first, behind = (measure_of(task, config, material, bounds, after) for after in (0, ASKED))
        assert behind.declared == {**first.declared, "after": ASKED}
        assert [one["id"] for one in material.items(task, 4, 4)] == [one["id"] for one in material.items(task, 8)][4:]


def test_more_items_of_a_made_family_begin_with_the_same_ones(line: Line) -> None:
    config = EvaluationConfig(families=("order_4",))
    (task, *_) = tasks_of(config, PhaseKind.SFT)
    material = Material(line.store)
    assert [*material.items(task, 3, 2)] == [*material.items(task, 5)][2:]
