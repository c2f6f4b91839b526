"""A month of the smallest line, killed at random: its ledger, champion, inbox and artifacts are an undisturbed one's.

It ends with the release of a champion that a turn has made, annealed; then that champion is damaged. The whole month of
the laptop's line, killed fifteen times, is run by hand (`python -m tests.continual.killed`).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import Store
from k2model.continual.ledger import Ledger
from k2model.continual.month.home import completed, linked
from k2model.continual.month.recipe import LINES
from k2model.continual.state import Outcome
from k2model.promotion.decide import judge_phase
from k2model.recipe import load_recipe
from k2model.registry.register import register_phase
from k2model.release.manifest import LINEAGE, TURNS, phase_folder, verify_release
from tests.continual.killed import Left, killed
from tests.smoke import ROOT
from workflows.month import FOLDER

DAYS, KILLS = 2, 3  # a batch arrives on the second day, and a turn is trained on it


@pytest.fixture(scope="module")
def lifecycle(finished: tuple[Path, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the smoke lifecycle that all tests share, with its model registered by a gate that any passes."""
    home = tmp_path_factory.mktemp("line")
    linked(finished[0] / "store", home / "store")
    shutil.rmtree(home / "store" / "_continual")
    store, recipe = Store.open(home / "store"), load_recipe(LINES["tiny"])
    made = completed(store, recipe)
    registered = None
    for phase in recipe.phases:
        own = {name.partition("/")[2]: ref for name, ref in made.items() if name.startswith(f"{phase.name}/")}
        refs = {name: own.get(name) for name in ("sequences", "checkpoint", "export", "scores", "safety")}
        refs["corpus"], parent, uri = made["corpus_valid"], registered, f"sqlite:///{home / 'mlflow.db'}"
        registered = register_phase(
            uri, store, recipe.name, recipe.model, phase, recipe.gates, parent=parent, **refs
        )  # fmt: skip
        registered = judge_phase(uri, store, recipe, registered, parent, **refs)
    assert registered is not None and registered.promotion == "champion"
    return home


@pytest.fixture(scope="module")
def months(lifecycle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Left, Left, int]:
    """Where both run, what each leaves, and how often the one was killed."""
    work = tmp_path_factory.mktemp("months")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return work, *killed(lifecycle, work, "tiny", DAYS, KILLS)


@pytest.fixture(scope="module")
def calm(months: tuple[Path, Left, Left, int]) -> Path:
    """The home of the undisturbed month."""
    return months[0] / "calm"


def test_a_killed_month_ends_as_an_undisturbed_one(months: tuple[Path, Left, Left, int]) -> None:
    _, calm, hit, count = months
    assert count >= 1, "it was killed"
    assert calm.entries, "something was entered"
    assert hit.entries == calm.entries
    assert hit.inbox == calm.inbox
    assert hit.champion == calm.champion
    assert hit.artifacts == calm.artifacts


def released(calm: Path) -> list[Path]:
    """The releases of a line, the oldest first: what the lifecycle has released is not one."""
    store = Store.open(calm / FOLDER / "store")
    return [
        calm / FOLDER / "store" / "release" / one["identity"][:16]
        for one in store.records("release")
        if "line" in one["config"]
    ]


def test_the_release_of_a_champion_on_a_constant_rate_is_of_it_annealed_and_tells_its_whole_life(calm: Path) -> None:
    state = Ledger.open(Store.open(calm / FOLDER / "store"), "smoke").state()
    assert (state.champion, state.before) == (2, (0,)), "the turn of the second day; an anneal is no champion"
    ended = state.anneals[2].ended
    assert ended.outcome is Outcome.ANNEALED and ended.challenger is not None and ended.verdict is not None
    for one in (state.turns[-1], ended):
        assert [(gate.gate, gate.passed) for gate in one.gates] == [("parity", True), ("manifests", True)]
    (folder,) = released(calm)
    verify_release(folder)
    recipe = json.loads((folder / "recipe" / "recipe.json").read_text())
    rows = {phase["name"]: phase for phase in recipe["phases"]}
    assert [*rows][-3:] == ["sft", "turn_2_sft", "annealed_sft"]
    annealed = rows["annealed_sft"]
    assert (annealed["parent"], annealed["schedule"]["shape"]) == ("turn_2_sft", "infinite")
    assert annealed["schedule"]["anneal_steps"] == annealed["steps"] and not rows["turn_2_sft"]["schedule"].get(
        "anneal_steps"
    )
    assert {entry["source"] for entry in annealed["mixture"]} >= {"batch/alike-1", "chat/tools"}, "on replay"
    places = ("model", phase_folder("annealed_sft"), phase_folder("turn_2_sft"))
    ours, own, champions = ((folder / place / "model.safetensors").read_bytes() for place in places)
    assert ours == own != champions
    lineage = {one["name"]: one for one in json.loads((folder / LINEAGE).read_text())["artifacts"]}
    assert lineage["anneal/verdict"]["digest"] == ended.verdict.digest
    assert lineage["annealed_sft/checkpoint"]["digest"] == ended.challenger.made["tuned/checkpoint"].digest
    *_, last = json.loads((folder / TURNS).read_text())["turns"]
    assert (last["turn"], last["from"], last["annealed"], last["verdict"]) == (2, 2, True, ended.reason)
    entries = [json.loads(path.read_text())["kind"] for path in sorted((folder / "line/ledger").iterdir())]
    assert entries[-1] == "annealed" and "turn_ended" in entries
    card = (folder / "MODEL_CARD.md").read_text()
    assert "| 2, annealed |" in card and "Annealed for this release from turn 2 model" in card


GOES_ON = """
import json, os
from datetime import datetime, timezone
from pathlib import Path
from workflows.month import begin_home, fire, the_days
place = begin_home(Path(os.environ["K2_HOME"]), "tiny")
from k2model.artifacts import Store
from k2model.continual.inbox import Inbox
from k2model.continual.month.delivery import deliver
from k2model.continual.turn import opened
from k2model.lifecycle import resolve
from tests.smoke import noted

ran = noted()
line = resolve(os.environ["K2_RECIPE"], {}, str(place / "store"))
found = {"again": fire("release", datetime(2026, 7, 1, 5, tzinfo=timezone.utc)), "ran": [kind for _, kind in ran]}
ledger = opened(line)
found["entries"] = ledger.state().entries
(more,) = [one for day in the_days(line) for one in day.deliveries if one.batch == "alike-2"]
deliver(Inbox.open(Store.open(line.store), line.recipe), more, place / "scratch")
found["arrivals"] = fire("arrivals", datetime(2026, 6, 3, 1, tzinfo=timezone.utc))
weights = Path(ledger.state().model.made["tuned/export"].uri) / "model.safetensors"
weights.chmod(0o644)
weights.write_bytes(weights.read_bytes()[:-4] + b"ruin")
found["turn"] = fire("turn", datetime(2026, 6, 3, 2, tzinfo=timezone.utc))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def gone_on(calm: Path) -> dict[str, Any]:
    """The month goes on: another release, then the champion's weights are damaged, and there is a batch for a turn."""
    own = {**os.environ, "K2_HOME": str(calm), "PYTHONPATH": str(ROOT), "TMPDIR": str(calm / "tmp")}
    own.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [sys.executable, "-c", GOES_ON], cwd=ROOT, env=own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_champion_that_was_annealed_is_not_annealed_again_and_no_accelerator_is_asked_for(
    calm: Path, gone_on: dict[str, Any], months: tuple[Path, Left, Left, int]
) -> None:
    (folder,) = released(calm)
    assert folder.name in gone_on["again"], "the release that is there"
    assert gone_on["ran"] and not {*gone_on["ran"]} & {"training", "evaluation"}
    assert gone_on["entries"] == len(months[1].entries), "nothing is entered"


def test_a_damaged_champion_is_rolled_back_by_itself_and_the_next_turn_goes_on_from_the_one_before(
    calm: Path, gone_on: dict[str, Any]
) -> None:
    ledger = Ledger.open(Store.open(calm / FOLDER / "store"), "smoke")
    behind = [(entry.kind, entry.content) for entry in ledger.entries(gone_on["entries"])]
    assert [kind for kind, _ in behind] == ["arrival", "rollback", "turn_began", "turn_ended"]
    _, undone, began, ended = (content for _, content in behind)
    assert (undone.to, undone.who) == (0, "canary") and "weights of the champion are damaged" in undone.reason
    assert (began.began.turn, began.began.champion, began.began.batches) == (3, 0, ("alike-2",))
    assert ended.ended.turn == 3 and ended.ended.challenger.corpora == ("lifecycle", "alike-2")
    assert ledger.state().batches["alike-1"].standing.value == "set aside"
