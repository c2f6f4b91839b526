"""The canary, on real models: what is asked is fresh, a worse champion is rolled back, an equal one is not."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import Identity, Store
from k2model.artifacts.files import files_at
from k2model.continual.entries import Arrival, Becomes, Start, TurnBegan, TurnEnded
from k2model.continual.ledger import Ledger
from k2model.continual.state import Batch, Ended, Model, Outcome, Standing
from k2model.continual.verdict.canary import RESULT, canary_cells, canary_result, damage
from k2model.continual.watch import watched
from k2model.errors import EvaluationError
from k2model.evals.cells import results_of
from k2model.evals.material import Material
from k2model.evals.measures import Bounds, measure_of, measures_of
from k2model.evals.step import measure_together
from k2model.recipe.continual import BatchKind, CanaryConfig
from k2model.recipe.evaluation import EvaluationConfig
from k2model.recipe.schema import GateConfig, PhaseKind
from k2model.recipe.tasks import tasks_of
from tests.continual.samples import began
from tests.continual.small_line import ASKED, ITEMS, SUMS, Line, recipe
from tests.evals.conftest import LENGTH
from tests.smoke import ROOT, environment


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
    measure_together(line.store, cells)
    first = line.store.find(cells[0].identity)
    assert first is not None
    # Not one item that phases are scored on.
    assert {one.item for one in results_of(line.store, first)} == _ids(range(ASKED, ITEMS))
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
    measure_together(line.store, cells)
    found = canary_result(line.store, recipe(), equal)
    assert found.passed and "no loss beyond doubt on 3 scores" in found.reason


def _ids(numbers: range) -> set[str]:
    from k2model.documents.schema import make_item

    return {make_item("arithmetic", asked, asked, said)["id"] for asked, said in (SUMS[i] for i in numbers)}


def test_a_gate_that_fails_on_fresh_items_rolls_back_unless_the_model_before_fails_it_too(line: Line) -> None:
    knowing, newborn = line.model(0, True), line.model(1, False)
    gated = replace(recipe(canary=CanaryConfig(ITEMS - ASKED, 1.0)), gates=(GateConfig("sft", "arithmetic/low", 0.5),))
    state = line.state(knowing, newborn)
    measure_together(line.store, canary_cells(line.store, gated, state))
    found = canary_result(line.store, gated, state)
    assert not found.passed and "gate arithmetic/low is failed on fresh items" in found.reason
    other = line.state(line.model(3, False), newborn)
    measure_together(line.store, canary_cells(line.store, gated, other))
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


def test_on_an_object_store_damage_shows_without_reading_the_weights(s3_uri: str) -> None:
    store = Store.open(s3_uri)

    def produce(folder: Path) -> dict[str, float]:
        (folder / "model.safetensors").write_bytes(b"weights" * 1000)
        return {}

    export = store.build(Identity("export", "1", {"of": "x"}), produce)
    champion = Model(1, {"tuned/export": export}, ())
    assert damage(store, champion) == ""
    [entry] = store.look_up(export)[1].files
    files = files_at(export.uri)
    files.write(entry.stored, b"half")
    assert "model.safetensors has 4 bytes, not 7,000" in damage(store, champion)
    files.remove(entry.stored)
    assert "has 0 bytes" in damage(store, champion)


def promoted(line: Line, first: Model, second: Model) -> tuple[Ledger, list[Model]]:
    """A ledger in which the second model took the place of the first, and both as it names them."""
    ledger = Ledger.open(line.store, "line")
    checkpoint = {"tuned/checkpoint": line.tokenizer}  # of these only names and digests matter here
    models = [replace(one, made={**one.made, **checkpoint}) for one in (first, second)]
    state = ledger.append("start", Start(models[0], line.corpus), after=0)
    batch = Batch("mon", BatchKind.TUNED, "d", Standing.WAITING, tokens=9, corpus=replace(line.corpus, name="mon"))
    state = ledger.append("arrival", Arrival("2026-11-01T02:00:00Z", batch), after=state)
    state = ledger.append("turn_began", TurnBegan(began(1, "mon")), after=state)
    ended = Ended(1, began(1).kickoff, Outcome.PROMOTED, "better", ("mon",), models[1])
    ledger.append("turn_ended", TurnEnded(ended, {"mon": Becomes(Standing.TAKEN, "so", 0)}), after=state)
    return ledger, models


NIGHTS = """
import json
from datetime import datetime, timezone
from tests.smoke import noted
from workflows.schedules import SCHEDULES

ran, nights = noted(), []
for day in (2, 3):
    ran.clear()
    said = SCHEDULES["turn"](kickoff=datetime(2026, 11, day, 2, tzinfo=timezone.utc))
    nights.append({"said": said, "ran": [name.rpartition(".")[2] for name, _ in ran]})
print(json.dumps(nights))
"""


def test_a_champion_that_fails_its_canary_is_rolled_back_by_the_turn_that_looks_and_the_next_goes_on_from_there(
    tmp_path: Path,
) -> None:
    """By the launch plan of the turn, two nights, on a champion that has forgotten what the model before it knew."""
    line = Line.at(tmp_path)
    ledger, _ = promoted(line, line.model(0, True), line.model(1, False))
    own = environment(tmp_path) | {"K2_RECIPE": "tests.continual.small_line:recipe", "K2_STORE": line.store.uri}
    done = subprocess.run(
        [sys.executable, "-c", NIGHTS], cwd=ROOT, env=own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = json.loads(done.stdout.splitlines()[-1])
    undone, *turns = [(entry.kind, entry.content) for entry in ledger.entries(4)]
    assert (undone[0], undone[1].to, undone[1].who) == ("rollback", 0, "canary")  # type: ignore[union-attr]
    assert "arithmetic/low 1.000 → 0.000 on 16 fresh items" in undone[1].reason  # type: ignore[union-attr]
    assert [kind for kind, _ in turns] == ["turn_ended"] * 2
    assert [one.champion for one in ledger.state().turns[1:]] == [0, 0], "each looks at the model rolled back to"
    assert "measure_canary" in first["ran"] and "measure_canary" not in second["ran"], "asked once in its life"
    assert ledger.state().batches["mon"].standing is Standing.SET_ASIDE


def test_damaged_weights_roll_back_before_anything_is_asked(tmp_path: Path) -> None:
    line, recipe_ = Line.at(tmp_path), recipe()
    ledger, models = promoted(line, line.model(0, False), line.model(1, False))
    state = ledger.state()
    assert watched(recipe_, ledger, "2026-11-02T02:00:00Z") == state  # nothing was measured yet
    path = Path(models[1].made["tuned/export"].uri) / "model.safetensors"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-4] + b"ruin")
    state = watched(recipe_, ledger, "2026-11-02T02:00:00Z")
    assert state.champion == 0 and state.batches["mon"].standing is Standing.SET_ASIDE
    *_, last = ledger.entries()
    assert (last.kind, last.content.who) == ("rollback", "canary")  # type: ignore[union-attr]
    assert watched(recipe_, ledger, "2026-11-03T02:00:00Z") == state


def test_without_fresh_items_or_a_model_before_nothing_is_asked(line: Line) -> None:
    state = line.state(line.model(0, False), line.model(1, False))
    exhausted = replace(recipe(), evaluation=replace(recipe().evaluation, items_per_family=ITEMS))
    assert canary_cells(line.store, exhausted, state) == []
    found = canary_result(line.store, exhausted, state)
    told = json.loads(line.store.read(found.evidence, RESULT))["absent"]
    assert told["arithmetic/low"] == f"it has no items beyond the first {ITEMS}"
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
